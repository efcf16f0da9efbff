"""Fixtures after Label Studio's documentation of its export and of its tags."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.wssis.formats.test_brush_rle import brush
from wssis.data import rle
from wssis.errors import InputError
from wssis.formats.readers.label_studio import read
from wssis.formats.records import LabeledImage, Options, Unlabeled

MASK = np.zeros((50, 200), dtype=bool)
MASK[3, 4] = MASK[5:9, 190:] = MASK[49] = True


def result(kind: str, name: str | None = "cell", number: str = "r", **value: Any) -> dict[str, Any]:
    if name is not None:
        value[kind] = [name]
    sizes = {"original_width": 200, "original_height": 50, "image_rotation": 0}
    return {"id": number, "from_name": "label", "to_name": "image", "type": kind, "value": value, **sizes}


GOOD: list[dict[str, Any]] = [
    {
        "id": 7,
        "data": {"image": "/data/upload/1/0a1b2c3d-a_b.png", "note": "x.txt"},
        "annotations": [
            {"id": 1, "was_cancelled": False, "updated_at": "2026-01-02T03:04:05.678Z", "result": []},
            {
                "id": 2,
                "was_cancelled": False,
                "updated_at": "2026-01-03T00:00:00Z",
                "result": [
                    result("keypointlabels", x=50, y=25, width=0.5),
                    result("polygonlabels", points=[[0, 0], [10, 0], [10, 100]], closed=True),
                    result("rectanglelabels", x=50, y=20, width=10, height=20, rotation=90),
                    result("ellipselabels", x=50, y=50, radiusX=10, radiusY=10, rotation=0),
                    result("brushlabels", format="rle", rle=brush(MASK)),
                    result("keypoint", None, "k", x=0, y=0, width=1),
                    result("labels", "dot", "k", x=0, y=0, width=1),
                    {"id": "c", "type": "choices", "value": {"choices": ["good"]}},
                    {"type": "relation", "from_id": "r", "to_id": "k", "direction": "right"},
                ],
            },
            {"id": 3, "was_cancelled": True, "updated_at": "2026-01-04T00:00:00Z", "result": []},
        ],
        "predictions": [{"id": 1, "result": [result("keypointlabels", x=1, y=1)]}],
    },
    {"id": 8, "data": {"image": "s3://bucket/set/b.png"}, "annotations": [{"id": 4, "result": []}]},
    {"id": 9, "data": {"image": "c.png"}, "annotations": [{"id": 5, "was_cancelled": True, "result": []}]},
    {"id": 10, "data": {"image": "d.png"}, "annotations": [], "predictions": []},
]


def images(folder: Path, document: Any = GOOD) -> list[LabeledImage]:
    path = folder / "export.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return [image for image in read(path, Options()) if isinstance(image, LabeledImage)]


def test_tasks_that_nobody_submitted_are_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text(json.dumps(GOOD), encoding="utf-8")
    found = [one for one in read(tmp_path / "export.json", Options()) if isinstance(one, Unlabeled)]
    assert [one.record for one in found] == ["task 9", "task 10"]


def test_reads_every_type_of_the_newest_annotation(tmp_path: Path) -> None:
    first, empty = images(tmp_path)  # skipped tasks, and those that nobody opened, are left out
    assert (first.file, first.also, first.size) == ("a_b.png", ("0a1b2c3d-a_b.png",), (50, 200))
    assert (empty.file, empty.labels) == ("set/b.png", ())

    point, polygon, box, ellipse, brush, keypoint = first.labels
    assert point.point == (100, 12.5)
    assert list(polygon.parts[0].outer) == [0, 0, 20, 0, 20, 50]
    # 20 x 10 px at (100, 10), turned clockwise about that corner: to its left
    assert box.box == pytest.approx((90, 10, 10, 20))
    x, y = np.array(ellipse.parts[0].outer).reshape(-1, 2).T
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((80, 120, 20, 30))  # percent of each side
    assert brush.rle is not None
    assert (rle.decode([brush.rle], (50, 200))[0].numpy() == MASK).all()
    assert (keypoint.name, keypoint.point) == ("dot", (0, 0))
    assert {label.name for label in first.labels[:-1]} == {"cell"}


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({"image": "/data/local-files/?d=set%201/a.png"}, ["set 1/a.png"]),
        ({"image": "https://example.com/x/a%20b.jpg?token=1"}, ["x/a b.jpg"]),
        ({"image": "gs://bucket/x/a.tif"}, ["x/a.tif"]),
        ({"image": "/data/upload/deadbeef-a.png"}, ["a.png", "deadbeef-a.png"]),
        ({"image": "/data/upload/3/holiday-a.png"}, ["holiday-a.png"]),
        (
            {"img": "http://localhost:8080/data/upload/3/01234567-a.png", "text": "hello"},
            ["a.png", "01234567-a.png"],
        ),
    ],
)
def test_names_of_images(tmp_path: Path, data: dict[str, str], names: list[str]) -> None:
    (found,) = images(tmp_path, [{"id": 1, "data": data, "annotations": [{"result": []}]}])
    assert [found.file, *found.also] == names


@pytest.mark.parametrize(
    ("place", "change", "problem"),
    [
        (0, {"original_width": None}, "'original_width'"),
        (1, {"original_width": 201}, "200 x 50 px"),
        (0, {"image_rotation": 90}, "image_rotation"),
        (0, {"item_index": 1}, "tasks of one image"),
        (0, {"type": "vectorlabels"}, "'vectorlabels'"),
        (0, {"value": {"x": "50", "y": 1, "keypointlabels": ["a"]}}, "'x' as a number"),
        (0, {"value": {"x": 50, "y": 1, "keypointlabels": ["a", "b"]}}, "one label, found 2"),
        (1, {"value": {"points": [[0, 0], [1, 1]]}}, "3 or more points"),
        (2, {"value": {"x": 1, "y": 1, "width": -1, "height": 1}}, "0 or more"),
        (4, {"value": {"format": "png", "rle": []}}, "'format'"),
        (4, {"value": {"format": "rle", "rle": [256]}}, "list of bytes"),
        (4, {"value": {"format": "rle", "rle": brush(MASK)[:-3]}}, "the end"),
        (4, {"value": {"format": "rle", "rle": brush(MASK[1:])}}, "picture of 200 x 50 px"),
    ],
)
def test_damage_names_file_and_record(
    tmp_path: Path, place: int, change: dict[str, Any], problem: str
) -> None:
    document = copy.deepcopy(GOOD)
    document[0]["annotations"][1]["result"][place].update(change)
    with pytest.raises(InputError) as caught:
        images(tmp_path, document)
    assert f"export.json, task 7, annotation 1, result {place}:" in str(caught.value)
    assert problem in str(caught.value)


def test_json_min_and_unclear_images_are_refused(tmp_path: Path) -> None:
    short = {"id": 7, "image": "/data/upload/1/a.png", "label": [], "annotator": 1}
    with pytest.raises(InputError, match=r"export\.json, task 7: .*JSON-MIN.*Export as JSON"):
        images(tmp_path, [short])
    for data in (
        {"image": ["a.png"]},
        {"a": "a.png", "b": "b.png"},
        {"image": "data:image/png;base64,AA"},
        {},
    ):
        with pytest.raises(InputError, match="task 1: expected"):
            images(tmp_path, [{"id": 1, "data": data, "annotations": [{"result": []}]}])


def test_predictions_that_nobody_submitted_are_refused(tmp_path: Path) -> None:
    task = {"data": GOOD[0]["data"], "predictions": [{"result": []}]}
    (tmp_path / "e.json").write_text(json.dumps([task]))
    with pytest.raises(InputError, match=r"e\.json, task 0: .*found predictions only.*submit"):
        list(read(tmp_path / "e.json", Options()))
