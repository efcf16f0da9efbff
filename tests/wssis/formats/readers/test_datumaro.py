"""Fixtures after Datumaro's and CVAT's documentation of the format."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from wssis.data import rle
from wssis.errors import InputError
from wssis.formats.readers.datumaro import read
from wssis.formats.records import LabeledImage, Options

COMPRESSED = rle.from_runs([12, 2, 10], (4, 6))  # column 3, rows 0 and 1


def annotation(kind: str, label: int | None = 0, group: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": 0, "type": kind, "attributes": {}, "group": group, "label_id": label, "z_order": 0, **more}


GOOD: dict[str, Any] = {
    "info": {},
    "categories": {"label": {"labels": [{"name": "cell", "parent": "", "attributes": []}, {"name": "dot"}]}},
    "items": [
        {
            "id": "sub/a",
            "attr": {"frame": 0},
            "image": {"path": "sub/a.png", "size": [4, 6]},
            "annotations": [
                annotation("polygon", group=3, points=[0, 0, 2, 0, 2, 2, 0, 2]),
                annotation("mask", group=3, rle=COMPRESSED),
                annotation("bbox", 1, group=3, bbox=[1, 1, 4, 2]),
                annotation("mask", rle={"counts": [0, 4, 20], "size": [4, 6]}),
                annotation("bbox", bbox=[1, 1, 4, 2], attributes={"rotation": 90.0, "is_crowd": True}),
                annotation("points", 1, points=[1, 1, 2, 2, 3, 3], visibility=[2, 0, 1]),
                annotation("ellipse", points=[0, 0, 4, 2]),
                annotation("bbox", None, bbox=[0, 0, 1, 1]),
                annotation("polygon", points=[0, 0, 9, 9, 0, 9], attributes={"outside": True}),
                annotation("label"),
                {"id": 3, "type": "caption", "attributes": {}, "group": 0, "caption": "two cells"},
            ],
        },
        {"id": "b", "annotations": [], "media": {"path": ""}},
    ],
}


def images(folder: Path, document: Any = GOOD, options: Options | None = None) -> list[LabeledImage]:
    path = folder / "default.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return list(read(path, options or Options()))


def test_reads_every_type(tmp_path: Path) -> None:
    first, empty = images(tmp_path)
    assert (first.file, first.also, first.size) == ("sub/a.png", ("sub/a",), (4, 6))
    assert (empty.file, empty.labels, empty.size) == ("b", (), None)

    whole, other, mask, turned, dot, hidden, ellipse, nameless = first.labels
    assert whole.rle is not None  # the polygon and the mask of group 3; its box is of another class
    assert rle.decode([whole.rle], (4, 6))[0].nonzero().tolist() == [
        [0, 0],
        [0, 1],
        [0, 3],
        [1, 0],
        [1, 1],
        [1, 3],
    ]
    assert (other.name, other.box) == ("dot", (1, 1, 4, 2))
    assert mask.rle is not None
    assert rle.decode([mask.rle], (4, 6))[0].nonzero()[:, 1].tolist() == [0] * 4  # runs go down the columns
    assert turned.box == pytest.approx((2, 0, 2, 4))
    assert turned.crowd
    assert not mask.crowd
    assert [dot.point, hidden.point] == [(1, 1), (3, 3)]  # the absent one is left out
    assert len(ellipse.parts) == 1
    assert nameless.name == ""


def test_points_of_one_annotation_may_be_one_object(tmp_path: Path) -> None:
    labels = images(tmp_path, options=Options(points="one"))[0].labels
    assert [label.point for label in labels if label.point] == [(1, 1)]


@pytest.mark.parametrize(
    ("place", "change", "problem"),
    [
        (0, {"points": [0, 0, 1, 1]}, "3 or more points, found 2"),
        (0, {"points": [0, 0, 1, 1, 2]}, "pairs, found 5"),
        (0, {"label_id": 2}, "below 2"),
        (0, {"type": "polyline"}, "'polyline', which outlines no object"),
        (0, {"points": [0, 0, 1e9, 0, 1, 1]}, "found 1000000000"),  # beside a mask in a group
        (1, {"rle": {"counts": COMPRESSED["counts"], "size": [4, 7]}}, "6 x 4 px, found 7 x 4"),
        (1, {"rle": {"counts": "0", "size": [4, 6]}}, "RLE counts"),
        (3, {"rle": {"counts": [1, 2], "size": [4, 6]}}, "sum"),
        (4, {"bbox": [0, 0, -1, 2]}, "0 px or more"),
        (4, {"bbox": [0, 0, 1]}, "4 numbers"),
        (5, {"visibility": [2, 2]}, "3 numbers"),
        (5, {"visibility": [2, 2, 3]}, "0, 1 or 2"),
    ],
)
def test_damage_names_file_and_record(
    tmp_path: Path, place: int, change: dict[str, Any], problem: str
) -> None:
    document = copy.deepcopy(GOOD)
    document["items"][0]["annotations"][place].update(change)
    with pytest.raises(InputError) as caught:
        images(tmp_path, document)
    assert f"default.json, item 'sub/a', annotation {place}" in str(caught.value)
    assert problem in str(caught.value)


def test_other_json_is_refused(tmp_path: Path) -> None:
    for document, problem in (([], "found a list"), ({"images": []}, "'items'"), ({"items": [1]}, "item 0")):
        with pytest.raises(InputError, match=problem):
            images(tmp_path, document)
