"""Bodies of requests: MLflow's four forms as rows, and one line for all that is wrong with them."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from pipelines.serving.request import read_rows
from pipelines.serving.request_limits import Limits
from wssis.errors import InputError
from wssis.settings import ResizeSettings

LIMITS = Limits(images=3, megapixels=0.01, points=6, mib=1)
POINTS = [{"x": 1, "y": 2.5, "class": "dog"}, {"x": 0, "y": 0, "class": "cat"}]
FLOATS = [{"x": 1.0, "y": 2.5, "class": "dog"}, {"x": 0.0, "y": 0.0, "class": "cat"}]


def png(width: int = 8, height: int = 6, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (width, height)).save(file, "PNG")
    return file.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


IMAGE = text(png())


def read(document: Any, with_points: bool = False, limits: Limits = LIMITS) -> list[dict[str, Any]]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_rows(body, "application/json; charset=utf-8", with_points, limits)


def refused(document: Any, *words: str, with_points: bool = False) -> None:
    with pytest.raises(InputError) as caught:
        read(document, with_points)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 400
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_records": [{"image": IMAGE, "points": POINTS}]},
        {"instances": [{"image": IMAGE, "points": POINTS}]},
        {"inputs": [{"image": IMAGE, "points": POINTS}]},
        {"inputs": {"points": [POINTS], "image": [IMAGE]}},
        {"dataframe_split": {"columns": ["points", "image"], "index": [7], "data": [[POINTS, IMAGE]]}},
    ],
)
def test_every_form_of_mlflow_is_the_same_rows(document: Any) -> None:
    assert read(document, with_points=True) == [{"image": IMAGE, "points": FLOATS}]


def test_base64_may_be_broken_into_lines() -> None:
    wrapped = base64.encodebytes(png()).decode()
    assert read({"inputs": [{"image": wrapped}]}) == [{"image": wrapped}]


def test_an_image_file_as_it_is_is_a_row() -> None:
    data = png()
    assert read_rows(data, "image/png", False, LIMITS) == [{"image": text(data)}]
    with pytest.raises(InputError, match="expected an image"):
        read_rows(b"no image", "image/png", False, LIMITS)
    with pytest.raises(InputError, match="Content-Type: expected application/json, found image/png"):
        read_rows(data, "image/png", True, LIMITS)


@pytest.mark.parametrize(
    "kind", ["", "text/csv", "application/vnd.apache.parquet", "text/plain", "x" * 500, "multipart/form-data"]
)
def test_other_content_types_are_refused(kind: str) -> None:
    with pytest.raises(
        InputError, match="Content-Type: expected application/json, or an image file"
    ) as caught:
        read_rows(b"{}", kind, False, LIMITS)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "found none"),
        (b"{", "found none"),
        (b"\xff\xfe{", "found none"),
        (b"\xc3\x28", "found none"),
        (b"[" * 100_000, "found none"),
        (b"1" * 100_000, "found none"),
        (b"[1]", "found a list"),
        (b"null", "found null"),
        (b'"x"', "found a text"),
        (b"{}", "found an object"),
        (b'{"messages": []}', "found messages"),
        (b'{"dataframe_records": [], "inputs": []}', "found dataframe_records, inputs"),
        (b'{"inputs": [], "params": {}}', "found inputs, params"),
    ],
)
def test_what_is_no_document_of_mlflow(body: bytes, word: str) -> None:
    refused(body, word)


@pytest.mark.parametrize(
    "document",
    [
        {"dataframe_records": {"image": IMAGE}},
        {"dataframe_records": [IMAGE]},
        {"dataframe_records": IMAGE},
        {"dataframe_split": [[IMAGE]]},
        {"dataframe_split": {"data": [[IMAGE]]}},
        {"dataframe_split": {"columns": ["image"], "data": [IMAGE]}},
        {"dataframe_split": {"columns": ["image", "points"], "data": [[IMAGE]]}},
        {"dataframe_split": {"columns": [3], "data": [[IMAGE]]}},
        {"dataframe_split": {"columns": ["image"], "data": [[IMAGE]], "path": "x"}},
        {"instances": 3},
        {"inputs": {"image": IMAGE}},
        {"inputs": {"image": [IMAGE], "points": []}},
        {"inputs": None},
    ],
)
def test_what_is_no_list_of_rows(document: Any) -> None:
    refused(document, "expected a list of rows", next(iter(document)))


def test_rows_have_the_columns_of_the_model_and_no_others() -> None:
    refused({"inputs": [{}]}, "row 0: expected image, found nothing")
    refused({"inputs": [{"image": IMAGE}, {"path": "x"}]}, "row 1: expected image, found path")
    refused({"inputs": [{"image": IMAGE, "points": []}]}, "expected image, found image, points")
    refused({"inputs": [{"image": IMAGE}]}, "expected image, points, found image", with_points=True)
    refused({"inputs": [{"image": IMAGE, "p" * 900: 3}]}, "pppp…")


def test_counts_are_limited() -> None:
    refused({"inputs": []}, "expected 1 to 3 images, found 0")
    assert len(read({"inputs": [{"image": IMAGE}] * 3})) == 3
    refused({"inputs": [{"image": IMAGE}] * 4}, "expected 1 to 3 images, found 4")


def test_points_are_limited_in_all_images_together() -> None:
    row = {"image": IMAGE, "points": POINTS}
    assert len(read({"inputs": [row] * 3}, with_points=True)) == 3
    more = {"image": IMAGE, "points": [*POINTS, POINTS[0]]}
    refused({"inputs": [row, row, more]}, "expected at most 6 points", "found 7", with_points=True)


def test_points_in_an_image_of_many_pixels_weigh_more() -> None:
    limits = Limits(megapixels=4, points=6)
    large = {"image": text(png(1500, 2000, "1")), "points": POINTS}
    assert read({"inputs": [large]}, True, limits)[0]["points"] == FLOATS
    with pytest.raises(
        InputError, match=r"at most 6 points \(fewer in images of over a megapixel\), found 4"
    ):
        read({"inputs": [large, large]}, True, limits)


def test_images_are_limited_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wssis.data.images._to_rgb", lambda image: pytest.fail("decoded"))
    assert read({"inputs": [{"image": text(png(100, 100))}]})
    refused({"inputs": [{"image": text(png(100, 101))}]}, "row 0, image", "at most 0.01 megapixels")
    head = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 20_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    refused({"inputs": [{"image": text(bomb + b"\0\0\0\0IDAT")}]}, "at most 0.01 megapixels")


@pytest.mark.parametrize("size", [(1, 3_999_999), (3_999_999, 1), (2, 150_000), (5, 130_000)])
def test_the_limit_is_on_what_padding_makes_of_an_image(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """7.8 kB of 1 x 3,999,999 px once took the server to 22.8 GB."""
    monkeypatch.setattr("wssis.data.images._to_rgb", lambda image: pytest.fail("decoded"))
    limits = Limits(megapixels=4)
    for short in (0, 800):
        resize = ResizeSettings(short=short, long=1333)
        row = {"inputs": [{"image": text(png(*size, "1"))}]}
        body = json.dumps(row).encode()
        if short:  # the network would see a small image
            assert read_rows(body, "application/json", False, limits, resize)
        else:
            with pytest.raises(InputError, match=r"at most 4 megapixels, found .* padded to"):
                read_rows(body, "application/json", False, limits, resize)


@pytest.mark.parametrize(
    ("size", "resize"),
    [
        ((2000, 2000), ResizeSettings(scale=10)),
        ((1, 100), ResizeSettings(short=800, long=100_000)),
        ((1_000_000, 4), ResizeSettings(scale=8)),
    ],
)
def test_the_limit_is_on_what_the_models_scale_makes_of_an_image(
    size: tuple[int, int], resize: ResizeSettings
) -> None:
    body = json.dumps({"inputs": [{"image": text(png(*size, "1"))}]}).encode()
    with pytest.raises(InputError, match=r"at most 4 megapixels, found .* padded to"):
        read_rows(body, "application/json", False, Limits(megapixels=4), resize)


@pytest.mark.parametrize("size", [(2000, 2000), (1000, 4000), (40, 50_000), (31, 90_000)])
def test_padding_alone_refuses_no_ordinary_image(size: tuple[int, int]) -> None:
    assert read({"inputs": [{"image": text(png(*size, "1"))}]}, limits=Limits(megapixels=4))


@pytest.mark.parametrize(
    "image",
    ["", "/etc/passwd", "file:///etc/passwd", "../../secret.png", "http://127.0.0.1/x.png", "s3://a/b", "ü",
     "data:image/png;base64," + IMAGE, None, 3, True, ["a"], {"b64": IMAGE}, IMAGE[:-3], "\ud800", text(b"x"),
     text(b"/etc/passwd"), text(b"file:///etc/passwd"), "\0"],
)  # fmt: skip
def test_what_is_no_image_is_refused_and_never_opened(image: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", lambda *words, **options: pytest.fail(f"opened {words}"))
    monkeypatch.setattr("os.open", lambda *words, **options: pytest.fail(f"opened {words}"))
    refused({"inputs": [{"image": image}]}, "row 0, image: expected")


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ("x", "expected a list, found a text"),
        (None, "expected a list, found null"),
        ({"x": 1}, "expected a list, found an object"),
        ([3], "point 0: expected class, x, y, found a number"),
        ([POINTS[0], {"x": 1, "y": 2}], "point 1: expected class, x, y, found x, y"),
        ([{"x": 1, "y": 2, "class": "dog", "file": "a"}], "found class, file, x, y"),
        ([{"x": "1", "y": 2, "class": "dog"}], "point 0, x: expected a number, found a text"),
        ([{"x": 1, "y": True, "class": "dog"}], "point 0, y: expected a number, found true or false"),
        ([{"x": 1, "y": 2, "class": 7}], "point 0: expected a class name, found a number"),
    ],
)
def test_what_is_no_point(points: Any, words: str) -> None:
    refused({"inputs": [{"image": IMAGE, "points": points}]}, words, with_points=True)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 400])
def test_numbers_that_no_pixel_has_lie_outside(number: str) -> None:
    body = f'{{"inputs": [{{"image": "{IMAGE}", "points": [{{"x": {number}, "y": 2, "class": "dog"}}]}}]}}'
    [row] = read(body.encode(), with_points=True)
    assert row["points"] == [{"x": -1.0, "y": 2.0, "class": "dog"}]
