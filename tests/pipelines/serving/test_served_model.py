"""Sizes that are checked before an image is decoded."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from pipelines.serving.request import LabelerRow, Limits, Point, StudentRow
from pipelines.serving.served_model import check_sizes
from wssis.errors import InputError
from wssis.settings import ResizeSettings

NO_RESIZE = ResizeSettings()


@pytest.fixture(autouse=True)
def _no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wssis.data.images._to_rgb", lambda image: pytest.fail("decoded"))


def blank(width: int, height: int) -> StudentRow:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return StudentRow(image=file.getvalue())


def test_images_are_limited_by_their_headers() -> None:
    limits = Limits(megapixels=0.01)
    check_sizes([blank(100, 100)], limits, NO_RESIZE)
    with pytest.raises(InputError, match=r"row 1, image: expected .*at most 0\.01 megapixels"):
        check_sizes([blank(100, 100), blank(100, 101)], limits, NO_RESIZE)
    head = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 20_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    with pytest.raises(InputError, match=r"at most 0\.01 megapixels"):
        check_sizes([StudentRow(image=bomb + b"\0\0\0\0IDAT")], limits, NO_RESIZE)


@pytest.mark.parametrize("data", [b"", b"x", b"/etc/passwd", b"file:///etc/passwd"])
def test_other_bytes_are_no_image_and_nothing_is_opened(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", lambda *words, **options: pytest.fail(f"opened {words}"))
    with pytest.raises(InputError, match="row 0, image: expected an image"):
        check_sizes([StudentRow(image=data)], Limits(), NO_RESIZE)


@pytest.mark.parametrize(
    ("size", "resize"),
    [
        # 7.8 kB that once took the server to 22.8 GB: padded to 32 x 4,000,000 px
        *(((1, 3_999_999), NO_RESIZE), ((3_999_999, 1), NO_RESIZE), ((2, 150_000), NO_RESIZE)),
        ((2000, 2000), ResizeSettings(scale=10)),
        ((1, 100), ResizeSettings(short=800, long=100_000)),
        ((1_000_000, 4), ResizeSettings(scale=8)),
    ],
)
def test_the_scaled_and_padded_input_is_limited(size: tuple[int, int], resize: ResizeSettings) -> None:
    with pytest.raises(InputError, match=r"at most 4 megapixels, found .* padded to"):
        check_sizes([blank(*size)], Limits(megapixels=4), resize)
    check_sizes([blank(*size)], Limits(megapixels=4), ResizeSettings(short=800, long=1333))


@pytest.mark.parametrize("size", [(2000, 2000), (1000, 4000), (40, 50_000), (31, 90_000)])
def test_padding_alone_does_not_refuse_ordinary_images(size: tuple[int, int]) -> None:
    check_sizes([blank(*size)], Limits(megapixels=4), NO_RESIZE)


def test_points_in_large_images_count_more() -> None:
    def row(width: int, count: int) -> LabelerRow:
        points = [Point.model_validate({"x": 1, "y": 2, "class": "dog"})] * count
        return LabelerRow(image=blank(width, 2000).image, points=points)

    limits = Limits(points=6)
    check_sizes([row(10, 3), row(10, 3)], limits, NO_RESIZE)
    check_sizes([row(1500, 2)], limits, NO_RESIZE)
    for rows in ([row(10, 3), row(10, 4)], [row(1500, 2), row(1500, 2)]):
        with pytest.raises(InputError, match=r"at most 6 points \(fewer in images of over a megapixel\)"):
            check_sizes(rows, limits, NO_RESIZE)
