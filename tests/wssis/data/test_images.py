"""wssis.data.images: every kind of file reads as what a person sees, and what cannot be read is named."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wssis.data import images
from wssis.data.coco import load_coco
from wssis.data.images import check_image, image_digest, image_path, leaves_folder
from wssis.errors import InputError

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)


def rgb(array):
    """(H, W[, 3]) -> tensor (3, H, W)."""
    array = np.broadcast_to(array[..., None], (*array.shape, 3)) if array.ndim == 2 else array
    return torch.from_numpy(array.copy()).permute(2, 0, 1)


def saved(folder, image, name="x.png", **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(folder / name, **options)
    return name


def close(a, b, tolerance):
    return (a.int() - b.int()).abs().max() <= tolerance


def read_image(folder, name, size=None):
    """What a file reads as; its bytes must read as the same, or be refused where the file is."""
    try:
        picture = images.read_image(folder, name, size)
    except InputError as error:
        if "truncated" in str(error) or "something else" in str(error):
            with pytest.raises(InputError, match=r"image: expected an? (whole )?image"):
                images.decode_image((folder / name).read_bytes())
        raise
    data = (Path(folder) / name).read_bytes()
    assert torch.equal(images.decode_image(data), picture)
    assert images.decoded_size(data) == tuple(picture.shape[1:])
    return picture


# ---- read right


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "x.webp", "x.ppm", "x.jp2"])
def test_rgb_in_lossless_formats(tmp_path, name):
    saved(tmp_path, PICTURE, name, **({"lossless": True} if name == "x.webp" else {}))
    read = read_image(tmp_path, name, (6, 9))
    assert torch.equal(read, rgb(PICTURE))
    assert read.dtype == torch.uint8
    assert read.is_contiguous()


def test_jpeg_and_the_name_does_not_decide(tmp_path):
    smooth = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], (64, 48, 3))
    saved(tmp_path, np.ascontiguousarray(smooth), "x.png", format="JPEG", quality=95)
    assert close(read_image(tmp_path, "x.png", (64, 48)), rgb(smooth), 6)


@pytest.mark.parametrize(
    ("suffix", "options"), [("jpg", {}), ("png", {}), ("tif", {}), ("tif", {"compression": "tiff_lzw"})]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation, suffix, options):
    base = np.zeros((32, 48), np.uint8)
    base[:16, :16] = 255  # one corner, so that all eight differ
    stored = {
        1: base,
        2: base[:, ::-1],
        3: base[::-1, ::-1],
        4: base[::-1],
        5: base.T,
        6: np.rot90(base),  # a viewer turns it clockwise
        7: np.rot90(base, 2).T,
        8: np.rot90(base, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    name = saved(tmp_path, np.ascontiguousarray(stored), f"x.{suffix}", exif=exif, **options)
    assert check_image(tmp_path, name) == (32, 48)
    assert close(read_image(tmp_path, name, (32, 48)), rgb(base), 8 if suffix == "jpg" else 0)


def test_gray_and_one_bit(tmp_path):
    assert torch.equal(read_image(tmp_path, saved(tmp_path, GREY), (6, 9)), rgb(GREY))
    saved(tmp_path, Image.fromarray(GREY > 100).convert("1"), "bit.png")
    assert torch.equal(read_image(tmp_path, "bit.png"), rgb(np.uint8(255) * (GREY > 100)))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    ("top", "limit"), [(65535, 65535), (40000, 65535), (4095, 4095), (4000, 4095), (200, 255)]
)
def test_gray_of_16_bits_is_scaled_by_its_depth(tmp_path, suffix, top, limit):
    deep = np.linspace(0, top, 54).round().astype(np.uint16).reshape(6, 9)
    saved(tmp_path, deep, f"x.{suffix}")
    expected = np.rint(deep * (255 / limit)).astype(np.uint8)
    assert torch.equal(read_image(tmp_path, f"x.{suffix}", (6, 9)), rgb(expected))


def test_big_endian_32_bit_and_float_tiff(tmp_path):
    deep = np.array([[0, 1000], [30000, 65535]])
    expected = rgb(np.rint(deep / 257).astype(np.uint8))
    image = Image.frombytes("I;16B", (2, 2), deep.astype(">u2").tobytes())
    image.save(tmp_path / "be.tif")
    saved(tmp_path, deep.astype(np.int32), "i.tif")
    saved(tmp_path, (deep / 65535).astype(np.float32), "f.tif")
    saved(tmp_path, np.array([[np.nan, -1], [np.inf, 255]], np.float32), "nan.tif")
    assert torch.equal(read_image(tmp_path, "be.tif"), expected)
    assert torch.equal(read_image(tmp_path, "i.tif"), expected)
    assert close(read_image(tmp_path, "f.tif"), expected, 1)
    assert read_image(tmp_path, "nan.tif")[0].tolist() == [[0, 0], [0, 255]]


def test_rgb_of_16_bits(tmp_path):
    deep = RNG.integers(0, 65536, (6, 9, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 9, 6, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    expected = rgb(np.rint(deep.astype(float) / 257).astype(np.uint8))
    assert close(read_image(tmp_path, "x.png", (6, 9)), expected, 1)


def test_palette_with_and_without_transparency(tmp_path):
    palette = Image.fromarray(GREY % 3).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)[GREY % 3]
    saved(tmp_path, palette)
    assert torch.equal(read_image(tmp_path, "x.png", (6, 9)), rgb(colors))
    saved(tmp_path, palette, "clear.png", transparency=1)
    colors[GREY % 3 == 1] = 255
    assert torch.equal(read_image(tmp_path, "clear.png", (6, 9)), rgb(colors))


def test_alpha_is_laid_on_white(tmp_path):
    alpha = np.array([[0, 128, 255]], np.uint8)
    color = np.array([[[10, 20, 30]] * 3], np.uint8)
    saved(tmp_path, np.concatenate([color, alpha[..., None]], 2))
    read = read_image(tmp_path, "x.png", (1, 3))
    assert read[:, 0, 0].tolist() == [255, 255, 255]
    assert close(read[:, 0, 1], torch.tensor([132, 137, 142]), 1)
    assert read[:, 0, 2].tolist() == [10, 20, 30]
    saved(tmp_path, Image.fromarray(np.stack([color[..., 0], alpha], 2), "LA"), "la.png")
    assert read_image(tmp_path, "la.png")[0, 0].tolist() == [255, read[0, 0, 1], 10]


def test_cmyk(tmp_path):
    inks = np.array([[[0, 255, 255, 0]] * 16] * 16, np.uint8)  # red
    image = Image.frombytes("CMYK", (16, 16), inks.tobytes())
    for name in ("x.jpg", "x.tif"):
        image.save(tmp_path / name)
        assert close(
            read_image(tmp_path, name, (16, 16)), rgb(np.array([[[255, 0, 0]] * 16] * 16, np.uint8)), 4
        )


def test_of_several_frames_the_first(tmp_path):
    frames = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path, "x.tif", (4, 5)).unique().tolist() == [10]


# ---- refused


def refused(folder, name, says, hw=None):
    for read in (read_image, check_image):
        with pytest.raises(InputError, match=says) as error:
            read(folder, name, hw)
        assert error.value.remedy
        assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_file_and_missing_folder(tmp_path):
    assert "Check file_name" in refused(tmp_path, "none.png", "no such file")
    assert "Check the image folder" in refused(tmp_path / "none", "x.png", "no such file")


@pytest.mark.parametrize(
    "name", ["/etc/hosts", "../x.png", "a/../../x.png", "C:\\x.png", "\\\\h\\x", "a\0b", ""]
)
def test_names_that_leave_the_folder(tmp_path, name):
    refused(tmp_path, name, "inside the image folder")
    with pytest.raises(InputError):
        image_path(tmp_path, name)


def test_links_inside_the_folder_are_followed(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "data").mkdir()
    saved(tmp_path / "cache", PICTURE)
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "cache" / "x.png")  # as DVC links from its cache
    assert torch.equal(read_image(tmp_path / "data", "link.png"), rgb(PICTURE))
    assert not leaves_folder("a/../b.png")


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_image(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    refused(tmp_path, "x.png", "something else or a damaged one")


def test_a_folder_is_no_image(tmp_path):
    (tmp_path / "x.png").mkdir()
    refused(tmp_path, "x.png", "cannot be read")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "gif", "jp2"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_files(tmp_path, suffix, share):
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    saved(tmp_path, noise, f"x.{suffix}")
    whole = (tmp_path / f"x.{suffix}").read_bytes()
    (tmp_path / f"x.{suffix}").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match="damaged") as error:
        read_image(tmp_path, f"x.{suffix}", (64, 64))
    assert f"x.{suffix}" in str(error.value)


def test_damaged_bytes_never_raise_anything_else(tmp_path):
    rng = np.random.default_rng(1)
    for suffix in ("png", "jpg", "tif", "webp", "gif", "bmp"):
        saved(tmp_path, PICTURE, f"x.{suffix}")
        whole = (tmp_path / f"x.{suffix}").read_bytes()
        for _ in range(60):
            damaged = bytearray(whole)
            for _ in range(3):
                damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
            (tmp_path / f"y.{suffix}").write_bytes(damaged)
            with contextlib.suppress(InputError):
                assert read_image(tmp_path, f"y.{suffix}", (6, 9)).shape == (3, 6, 9)


def test_libtiff_says_nothing_of_its_own(tmp_path, capfd):
    saved(tmp_path, Image.fromarray(np.full((60, 60, 3), 9, np.uint8)), "x.tif", compression="tiff_lzw")
    data = bytearray((tmp_path / "x.tif").read_bytes())
    data[8:12] = b"\xff" * 4  # of the compressed strip
    (tmp_path / "x.tif").write_bytes(data)

    def read(_=None):
        with pytest.raises(InputError, match=r"x\.tif.*damaged"):
            read_image(tmp_path, "x.tif")

    read()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read, range(40)))
    os.write(2, b"heard")  # stderr is back, whichever thread was the last
    assert capfd.readouterr().err == "heard"


def test_other_dimensions_than_the_annotations_say(tmp_path):
    saved(tmp_path, PICTURE)
    message = refused(tmp_path, "x.png", "expected 6 x 9 px .* found 9 x 6", (9, 6))
    assert "Correct width and height" in message


def test_annotations_of_the_picture_before_it_was_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    saved(tmp_path, PICTURE, exif=exif)
    message = refused(tmp_path, "x.png", r"expected 9 x 6 px .* found 6 x 9 after turning", (6, 9))
    assert "EXIF orientation from the file" in message


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (40_000, 40_000), (2**31 - 1, 2**31 - 1)])
def test_absurdly_large_images_are_refused_before_decoding(tmp_path, monkeypatch, width, height):
    (tmp_path / "x.png").write_bytes(png_header(width, height) + b"\0\0\0\0IDAT")
    monkeypatch.setattr(images, "_to_rgb", lambda image: pytest.fail("decoded"))
    refused(tmp_path, "x.png", "at most 100 megapixels", (height, width))


@pytest.mark.parametrize(("width", "height"), [(2001, 2000), (40_000, 25_000), (2**31 - 1, 2**31 - 1)])
def test_absurdly_large_bytes_are_refused_before_decoding(monkeypatch, width, height):
    data = png_header(width, height) + b"\0\0\0\0IDAT"
    monkeypatch.setattr(images, "_to_rgb", lambda image: pytest.fail("decoded"))
    for read in (images.decode_image, images.decoded_size):
        with pytest.raises(InputError, match="picture: expected an image of at most 4 megapixels"):
            read(data, "picture", 4_000_000)


def test_a_path_is_never_opened_in_place_of_bytes(tmp_path):
    path = tmp_path / saved(tmp_path, PICTURE)
    for given in (str(path), path, f"file://{path}", None, bytearray(path.read_bytes()), 3):
        with pytest.raises(InputError, match="expected the bytes of an image file, found"):
            images.decode_image(given)
    for given in (str(path).encode(), f"file://{path}".encode(), b"../x.png", b"/etc/passwd"):
        with pytest.raises(InputError, match="something else"):
            images.decode_image(given)


def test_the_largest_size_is_read_without_a_warning(tmp_path, recwarn):
    (tmp_path / "x.png").write_bytes(png_header(10_000, 10_000) + b"\0\0\0\0IDAT")
    assert check_image(tmp_path, "x.png") == (10_000, 10_000)
    assert not recwarn.list


def test_no_file_stays_open(tmp_path, recwarn):
    import gc

    saved(tmp_path, PICTURE)
    read_image(tmp_path, "x.png", (6, 9))
    check_image(tmp_path, "x.png")
    with pytest.raises(InputError):
        read_image(tmp_path, "x.png", (9, 6))
    gc.collect()
    assert not [warning for warning in recwarn.list if issubclass(warning.category, ResourceWarning)]


def test_digest_is_of_the_bytes(tmp_path):
    saved(tmp_path, PICTURE)
    saved(tmp_path, PICTURE, "same.png")
    saved(tmp_path, GREY, "other.png")
    digests = [image_digest(tmp_path / name) for name in ("x.png", "same.png", "other.png")]
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 64


def test_shared_data_reads_as_its_annotations_say(shared_folder):
    folder = shared_folder / "data"
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}")
    sets = [
        load_coco(folder / "dsb2018" / "instances_val.json", folder / "dsb2018" / "val"),
        load_coco(folder / "coco-tiny/annotations/instances_val2017.json", folder / "coco-tiny/val2017"),
    ]
    for data in sets:
        for record in data.images[:10]:
            assert read_image(data.image_dir, record.file_name, record.size).shape == (3, *record.size)
        for record in data.images:
            assert check_image(data.image_dir, record.file_name, record.size) == record.size


def test_reads_from_memory_the_same_as_pillow(tmp_path):
    saved(tmp_path, PICTURE)
    with Image.open(io.BytesIO((tmp_path / "x.png").read_bytes())) as image:
        assert torch.equal(read_image(tmp_path, "x.png"), rgb(np.array(image)))
