"""Readers of COCO files: instances, keypoints, PointSup; what a damaged file is told."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest

from wssis.data import rle as rle_api
from wssis.errors import InputError
from wssis.formats.readers import READERS
from wssis.formats.records import Options

DOCUMENT = {
    "info": {"year": 2017},
    "licenses": [],
    "images": [
        {"id": 397133, "file_name": "a.jpg", "height": 4, "width": 5, "coco_url": "http://x/a.jpg"},
        {"id": 0, "file_name": "sub/b.jpg"},
    ],
    "categories": [
        {"id": 44, "name": "bottle", "supercategory": "kitchen"},
        {"id": 90, "name": "toothbrush"},
    ],
    "annotations": [
        {
            "id": 82445,
            "image_id": 397133,
            "category_id": 44,
            "segmentation": [[0, 0, 2, 0, 2, 2.5, 0, 2], [3, 3, 4, 3, 4, 4]],
            "bbox": [0, 0, 4, 4],
            "area": 5.5,
            "iscrowd": 0,
        },
        {
            "id": 900100397133,
            "image_id": 397133,
            "category_id": 44,
            "segmentation": {"counts": [6, 2, 12], "size": [4, 5]},
            "bbox": [1, 2, 1, 2],
            "iscrowd": 1,
        },
        {
            "id": 3,
            "image_id": 397133,
            "category_id": 90,
            "segmentation": {"counts": "04`0", "size": [4, 5]},
        },
        {
            "id": 4,
            "image_id": 397133,
            "category_id": 90,
            "segmentation": [],
            "bbox": [1, 1, 2, 2],
            "score": 1,
        },
        {"image_id": 397133, "category_id": 90, "point": [1.5, 2], "box": [0, 0, 3, 3], "ignore": True},
    ],
}


def read(tmp_path, document, kind="coco"):
    path = tmp_path / "f.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return list(READERS[kind](path, Options()))


def test_instances(tmp_path):
    first, second = read(tmp_path, DOCUMENT)
    assert (first.file, first.size, first.record) == ("a.jpg", (4, 5), "image 397133")
    assert (second.file, second.size, second.labels) == ("sub/b.jpg", None, ())
    polygon, crowd, text, box, point = first.labels
    assert [list(part.outer) for part in polygon.parts] == [[0, 0, 2, 0, 2, 2.5, 0, 2], [3, 3, 4, 3, 4, 4]]
    assert (polygon.name, polygon.record, polygon.crowd) == ("bottle", "annotation 82445", False)
    assert rle_api.decode([crowd.rle], (4, 5))[0].T.flatten().nonzero().flatten().tolist() == [6, 7]
    assert crowd.crowd
    assert rle_api.area(text.rle) == 4
    assert (box.box, box.parts, box.rle, box.score) == ((1, 1, 2, 2), (), None, 1)
    assert (point.point, point.box, point.ignore, point.record) == (
        (1.5, 2),
        (0, 0, 3, 3),
        True,
        "annotations[4]",
    )


def test_a_polygon_without_its_list_and_ids_that_are_texts(tmp_path):
    document = {
        "images": [{"id": "x", "file_name": "a.jpg"}],
        "categories": [{"id": "c", "name": "cat"}],
        "annotations": [{"image_id": "x", "category_id": "c", "segmentation": [1, 1, 2, 1, 2, 2]}],
    }
    (image,) = read(tmp_path, document)
    assert list(image.labels[0].parts[0].outer) == [1, 1, 2, 1, 2, 2]


def annotated(kind, **fields):
    document = deepcopy(DOCUMENT)
    document["annotations"] = [{"id": 7, "image_id": 0, "category_id": 44, **fields}]
    return document


@pytest.mark.parametrize(
    ("keypoints", "point"),
    [
        ([5, 5, 2, 9, 5, 2, 6, 5, 2, 90, 90, 1], (6, 5)),  # the visible one nearest to their middle
        ([5, 5, 1, 0, 0, 0, 8, 8, 2], (8, 8)),  # visible before hidden, wherever it stands
        ([0, 0, 0, 3, 4, 1], (3, 4)),
        ([0, 0, 0, 0, 0, 0], None),  # not labeled is no point at 0, 0
    ],
)
def test_keypoints(tmp_path, keypoints, point):
    polygon = [[0, 0, 9, 0, 9, 9]]
    document = annotated("k", keypoints=keypoints, num_keypoints=1, segmentation=polygon, bbox=[0, 0, 9, 9])
    label = read(tmp_path, document, "coco-keypoints")[1].labels[0]
    assert label.point == point
    assert list(label.parts[0].outer) == polygon[0]


def test_keypoints_with_a_box_only(tmp_path):
    label = read(tmp_path, annotated("k", keypoints=[0] * 51, bbox=[0, 0, 9, 9]), "coco-keypoints")[1].labels[
        0
    ]
    assert (label.point, label.box) == (None, (0, 0, 9, 9))


def test_pointsup(tmp_path):
    points = {"point_coords": [[1, 1], [5, 5], [5.5, 5], [9, 9]], "point_labels": [0, 1, 1, 1]}
    document = annotated("p", bbox=[0, 0, 9, 9], iscrowd=0, **points)
    label = read(tmp_path, document, "pointsup")[1].labels[0]
    assert (label.point, label.box) == ((5.5, 5), (0, 0, 9, 9))
    assert label.clicks == ((1, 1, False), (5, 5, True), (9, 9, True))
    document = annotated("p", bbox=[0, 0, 9, 9], point_coords=[[1, 1]], point_labels=[0])
    assert read(tmp_path, document, "pointsup")[1].labels[0].point is None


MALFORMED = [
    ({"segmentation": [[0, 0, "x", 0, 2, 2]]}, "polygons"),
    ({"segmentation": "x"}, "polygons"),
    ({"segmentation": [[0, 0, 10**400, 0, 2, 2]]}, "polygons"),
    ({"segmentation": {"counts": "04`0", "size": [4, 6]}}, "RLE counts of 24 pixels"),
    ({"segmentation": {"counts": "zz", "size": [4, 5]}}, "RLE counts"),
    ({"segmentation": {"counts": [1, 2], "size": [4, 5]}}, "sum"),
    ({"segmentation": {"counts": [1, -2], "size": [4, 5]}}, "whole numbers"),
    ({"segmentation": {"counts": None, "size": [4, 5]}}, "RLE counts"),
    ({"segmentation": {"counts": "04`0"}}, "size"),
    ({"segmentation": {"counts": [1], "size": [10**9, 10**9]}}, "megapixels"),
    ({"bbox": [1, 2, 3]}, "4 numbers"),
    ({"bbox": [1, 2, 3, None]}, "number"),
    ({"point": [1]}, "2 numbers"),
    ({"point": [1, 2], "iscrowd": 2}, "iscrowd"),
    ({"point": [1, 2], "score": 7}, "0…1"),
    ({"point": [1, 2], "category_id": 1}, "category_id 1"),
    ({"point": [1, 2], "image_id": 1}, "image_id 1"),
    ({"point": [1, 2], "image_id": [0]}, "'image_id'"),
    ({}, "segmentation, a bbox or a point"),
]


@pytest.mark.parametrize(("fields", "words"), MALFORMED)
def test_a_wrong_annotation_is_named(tmp_path, fields, words):
    with pytest.raises(InputError, match=r"f\.json, annotation 7: expected ") as caught:
        read(tmp_path, annotated("x", **fields))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("coco-keypoints", {"keypoints": [1, 2]}, "2 numbers"),
        ("coco-keypoints", {"keypoints": [1, 2, 3]}, "found 3"),
        ("coco-keypoints", {"keypoints": [1, 2, "x"]}, "number"),
        ("pointsup", {"point_coords": [[1, 2]], "point_labels": []}, "each of 1 points"),
        ("pointsup", {"point_coords": [[1, 2]]}, "point_labels"),
        ("pointsup", {"point_coords": [[1]], "point_labels": [1]}, "points [x, y]"),
        ("pointsup", {"point_coords": [[1, 2]], "point_labels": [2]}, "0 or 1"),
    ],
)
def test_wrong_points_are_named(tmp_path, kind, fields, words):
    with pytest.raises(InputError, match=r"f\.json, annotation 7: expected ") as caught:
        read(tmp_path, annotated("x", bbox=[1, 1, 2, 2], **fields), kind)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("", "JSON"),
        ('{"images": [', "JSON"),
        ("[]", "found a list"),
        ({"images": []}, "'categories'"),
        ({**DOCUMENT, "annotations": {}}, "'annotations' as a list"),
        ({**DOCUMENT, "annotations": [[]]}, "annotations[0]"),
        ({**DOCUMENT, "images": [{"id": 1}]}, "images[0]: expected 'file_name'"),
        ({**DOCUMENT, "images": [{"id": 1.5, "file_name": "a"}]}, "images[0]"),
        ({**DOCUMENT, "images": [DOCUMENT["images"][0]] * 2}, "397133 twice"),
        ({**DOCUMENT, "images": [{**DOCUMENT["images"][0], "height": -4}]}, "image 397133"),
        ({**DOCUMENT, "categories": [{"id": 1, "name": " "}]}, "categories[0]"),
        ({**DOCUMENT, "categories": [{"id": 1, "name": "a"}] * 2}, "1 twice"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, document, words):
    with pytest.raises(InputError, match=r"f\.json") as caught:
        read(tmp_path, document)
    assert words in str(caught.value)
