"""Request bodies: MLflow's four forms become rows; anything else gives a one-line error."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from pipelines.serving.request import LabelerRow, Limits, Point, StudentRow, check_rows, parse_rows
from tests.pipelines.serving.servers import base64_text, image_file
from wssis.errors import InputError

LIMITS = Limits(images=3)
POINTS = [{"x": 1, "y": 2.5, "class": "dog"}, {"x": 0, "y": 0, "class": "cat"}]
IMAGE = base64_text(image_file())


def read(document: Any, kind: str = "student") -> Any:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_rows(body, "application/json; charset=utf-8", kind, LIMITS)


def refused(document: Any, words: str, kind: str = "student") -> None:
    with pytest.raises(InputError) as caught:
        read(document, kind)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 400
    assert words in line


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
def test_every_mlflow_form_gives_the_same_rows(document: Any) -> None:
    points = [Point(**point) for point in POINTS]
    assert read(document, "labeler") == [LabelerRow(image=image_file(), points=points)]


def test_base64_may_have_line_breaks() -> None:
    assert read({"inputs": [{"image": f"{IMAGE[:8]}\n{IMAGE[8:]}\n"}]}) == [StudentRow(image=image_file())]


def test_an_image_file_is_a_row_of_a_student() -> None:
    assert parse_rows(b"bytes", "image/png", "student", LIMITS) == [StudentRow(image=b"bytes")]
    with pytest.raises(InputError, match="Content-Type: expected application/json, found image/png"):
        parse_rows(b"bytes", "image/png", "labeler", LIMITS)


@pytest.mark.parametrize("kind", ["", "text/csv", "application/vnd.apache.parquet", "x" * 500])
def test_other_content_types_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match="Content-Type: expected application/json, or an image") as caught:
        parse_rows(b"{}", kind, "student", LIMITS)
    assert len(str(caught.value)) < 300


INVALID = "request: Invalid JSON"
KEYS = "expected one of the keys dataframe_records, dataframe_split, instances, inputs"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", INVALID),
        (b"{", INVALID),
        (b"\xff\xfe{", INVALID),
        (b"[" * 100_000, INVALID),
        (b"1" * 100_000, INVALID),
        (b'{"inputs": [{"image": "\\ud800"}]}', INVALID),
        (b"null", "request: Input should be an object"),
        ({}, KEYS),
        ({"messages": []}, "messages: Extra inputs"),
        ({"dataframe_records": [], "inputs": []}, KEYS),
        ({"inputs": [], "params": {}}, "params: Extra inputs"),
        ({"dataframe_records": {"image": IMAGE}}, "dataframe_records: Input should be a valid array"),
        ({"dataframe_records": [IMAGE]}, "row 0: Input should be a valid dictionary"),
        ({"dataframe_split": [[IMAGE]]}, "dataframe_split"),
        ({"dataframe_split": {"data": [[IMAGE]]}}, "columns: Field required"),
        ({"dataframe_split": {"columns": ["image", "points"], "data": [[IMAGE]]}}, "equal lengths"),
        ({"dataframe_split": {"columns": [3], "data": [[IMAGE]]}}, "column 0"),
        ({"dataframe_split": {"columns": [], "data": [], "path": "x"}}, "path: Extra inputs"),
        ({"inputs": {"image": IMAGE}}, "request, inputs"),
        ({"inputs": {"image": [IMAGE], "points": []}}, "equal lengths"),
        ({"inputs": None}, "request, inputs"),
        ({"inputs": []}, "expected 1 to 3 images, found none"),
        ({"inputs": [{"image": IMAGE}] * 4}, "expected 1 to 3 images, found more"),
        ({"inputs": [{}]}, "row 0, image: Field required"),
        ({"inputs": [{"image": IMAGE}, {"path": "x"}]}, "row 1, image: Field required"),
        ({"inputs": [{"image": IMAGE, "points": []}]}, "row 0, points: Extra inputs"),
        ({"inputs": [{"image": IMAGE, "p" * 900: 3}]}, "pppp…: Extra inputs"),
        ({"inputs": [{str(n): 3 for n in range(9)}]}, "row 0: expected at most 8 keys, found 9"),
        ({"inputs": {str(n): [3] for n in range(9)}}, "inputs: expected at most 8 keys, found 9"),
        ({str(n): 3 for n in range(9)}, "request: expected at most 8 keys, found 9"),
    ],
)
def test_other_documents_are_refused(document: Any, words: str) -> None:
    refused(document, words)


@pytest.mark.parametrize(
    "image",
    ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/x.png", "data:image/png;base64," + IMAGE, "ü",
     None, 3, ["a"], {"b64": IMAGE}, IMAGE[:-3], "\0"],
)  # fmt: skip
def test_an_image_is_base64(image: Any) -> None:
    refused({"inputs": [{"image": image}]}, "row 0, image: expected an image file in base64")


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (None, "points: Input should be a valid list"),
        ({"x": 1}, "points: Input should be a valid list"),
        ([3], "point 0: Input should be"),
        ([POINTS[0], {"x": 1, "y": 2}], "point 1, class: Field required"),
        ([{"x": 1, "y": 2, "class": "dog", "file": "a"}], "point 0, file: Extra inputs"),
        ([{"x": "1", "y": 2, "class": "dog"}], "point 0, x: Input should be a valid number"),
        ([{"x": 1, "y": True, "class": "dog"}], "point 0, y: Input should be a valid number"),
        ([{"x": 1, "y": 2, "class": 7}], "point 0, class: Input should be a valid string"),
        ([{"x": float("nan"), "y": 2, "class": "a"}], "point 0, x: Input should be a finite number"),
        ([{"x": float("inf"), "y": 2, "class": "a"}], "point 0, x: Input should be a finite number"),
        ([{"x": 10**400, "y": 2, "class": "a"}], "point 0, x: Input should be a valid number"),
    ],
)  # fmt: skip
def test_invalid_points_are_named(points: Any, words: str) -> None:
    refused({"inputs": [{"image": IMAGE, "points": points}]}, f"row 0, {words}", kind="labeler")


def test_rows_from_python_hold_bytes() -> None:
    [row] = check_rows([{"image": b"bytes", "points": POINTS}], "labeler")
    assert (row.image, row.points[1].label) == (b"bytes", "cat")
    with pytest.raises(InputError, match="row 0, points: Field required"):
        check_rows([{"image": b"bytes"}], "labeler")


@pytest.mark.parametrize(
    "form",
    ['{"inputs": [%s]}', '{"inputs": {"image": [%s]}}', '{"dataframe_split": {"columns": [%s], "data": []}}'],
)  # fmt: skip
def test_a_million_errors_take_little_memory(form: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            read((form % ",".join("0" * 1_000_000)).encode())
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
