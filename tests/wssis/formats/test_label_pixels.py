"""wssis.formats.label_pixels: pictures as numbers, and the objects in them."""

from __future__ import annotations

import os
import zlib

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_api

from wssis.errors import InputError
from wssis.formats.label_pixels import objects, read_foreground, read_labels, read_pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, ">u2"])
def test_objects_are_the_masks_of_all_values_as_pycocotools_encodes_them(dtype, tmp_path):
    labels = np.random.default_rng(0).integers(0, 5, (7, 11)).astype(dtype) * 60
    labels[0, 0], labels[-1, -1] = 60, 60  # runs at both ends
    found = objects(labels, tmp_path)
    assert [value for value, _ in found] == [60, 120, 180, 240]
    for value, rle in found:
        expected = mask_api.encode(np.asfortranarray(labels == value, dtype=np.uint8))
        assert rle == {"size": [7, 11], "counts": expected["counts"].decode()}


def test_a_picture_of_background_has_no_objects(tmp_path):
    assert objects(np.zeros((3, 4), np.uint8), tmp_path) == []


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_labels_of_16_bits_are_read_as_they_are(name, tmp_path):
    labels = np.array([[0, 1, 256], [257, 65535, 40000]], np.uint16)
    Image.fromarray(labels).save(tmp_path / name)
    assert np.array_equal(read_labels(tmp_path / name), labels)


def test_labels_may_be_32_bits_whole_floats_or_a_palette(tmp_path):
    labels = np.array([[0, 70000], [2, 70001]])
    Image.fromarray(labels.astype(np.int32)).save(tmp_path / "int.tif")
    Image.fromarray(labels.astype(np.float32)).save(tmp_path / "float.tif")
    palette = Image.fromarray((labels % 256).astype(np.uint8)).convert("P")
    palette.putpalette([255, 255, 255] * 256)  # all one color: the indices count
    palette.putdata([0, 112, 2, 113])
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(read_labels(tmp_path / "int.tif"), labels)
    assert np.array_equal(read_labels(tmp_path / "float.tif"), labels)
    assert np.array_equal(read_labels(tmp_path / "palette.png"), labels % 256)


def test_alpha_does_not_change_the_other_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 4)).astype(np.uint8)
    pixels[0, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_pixels(tmp_path / "a.png"), pixels)


def saved(path, pixels, mode=None, **options):
    Image.fromarray(np.asarray(pixels, np.uint8), mode).save(path, **options)
    return path


def test_foreground_is_what_is_neither_black_nor_transparent(tmp_path):
    rgba = np.zeros((1, 4, 4), np.uint8)
    rgba[0, :, :] = [[0, 0, 0, 255], [255, 255, 255, 255], [255, 255, 255, 0], [0, 0, 9, 255]]
    assert read_foreground(saved(tmp_path / "rgba.png", rgba)).tolist() == [[False, True, False, True]]
    assert read_foreground(saved(tmp_path / "gray.png", [[0, 1, 255]])).tolist() == [[False, True, True]]
    one_bit = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    one_bit.save(tmp_path / "1.png")
    assert read_foreground(tmp_path / "1.png").tolist() == [[False, True]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([255, 255, 255, 0, 0, 0])  # the colors count: index 0 is white
    palette.putdata([0, 1])
    palette.save(tmp_path / "palette.png")
    assert read_foreground(tmp_path / "palette.png").tolist() == [[True, False]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "found none"),
        ("text.png", "damaged"),
        ("jpeg.png", "damaged"),
        ("pages.tif", "expected one page, found 2"),
        ("turned.png", "orientation 6"),
        ("colors.png", "3 channels"),
        ("fractions.tif", "0.5"),
        ("nan.tif", "nan"),
        ("negative.tif", "-1"),
    ],
)
def test_what_is_no_label_image_is_an_input_error_that_names_the_file(name, message, tmp_path):
    path = tmp_path / name
    zeros = Image.fromarray(np.zeros((4, 4), np.uint8))
    if name == "text.png":
        path.write_text("no picture")
    elif name == "jpeg.png":
        zeros.save(path, format="JPEG")
    elif name == "pages.tif":
        zeros.save(path, save_all=True, append_images=[zeros])
    elif name == "turned.png":
        exif = Image.Exif()
        exif[274] = 6
        zeros.save(path, exif=exif)
    elif name == "colors.png":
        zeros.convert("RGB").save(path)
    elif name == "fractions.tif":
        Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(path)
    elif name == "nan.tif":
        Image.fromarray(np.full((2, 2), np.nan, np.float32)).save(path)
    elif name == "negative.tif":
        Image.fromarray(np.full((2, 2), -1, np.int32)).save(path)
    with pytest.raises(InputError, match=message) as raised:
        read_labels(path)
    assert raised.value.where == str(path)


def test_a_header_of_absurd_size_is_refused_before_decoding(tmp_path):
    path = saved(tmp_path / "a.png", np.zeros((4, 4)))
    data = bytearray(path.read_bytes())
    data[16:24] = (40_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(InputError) as raised:
        read_pixels(path)
    assert "40000" in str(raised.value) or "bomb" in str(raised.value)


def test_libtiff_says_nothing_of_its_own(tmp_path, capfd):
    path = tmp_path / "a.tif"
    Image.fromarray(np.arange(4, dtype=np.uint16).reshape(2, 2)).save(path, compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    data[8:12] = b"\xff" * 4  # the compressed strip
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.tif: expected a mask"):
        read_pixels(path)
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"
