"""wssis.formats.readers.bdd100k and scalabel: bitmasks and JSON of BDD100K."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from wssis.data import rle
from wssis.errors import InputError
from wssis.formats.readers.bdd100k import read
from wssis.formats.records import Options

BITMASK = np.array(
    [  # category, attributes, B, A
        [[0, 0, 0, 0], [1, 12, 0, 1], [1, 12, 0, 1]],
        [[0, 0, 0, 255], [3, 2, 1, 0], [8, 1, 1, 44]],
        [[9, 0, 0, 7], [3, 2, 1, 0], [2, 0, 0, 0]],
    ],
    np.uint8,
)


def save(path, pixels=BITMASK):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_bitmasks_are_read_as_four_numbers(tmp_path):
    save(tmp_path / "train" / "b1c66a42-6f7d68ca.png")
    (image,) = read(tmp_path, Options())
    assert (image.file, image.size) == ("train/b1c66a42-6f7d68ca.jpg", (3, 3))
    assert image.where == str(tmp_path / "train" / "b1c66a42-6f7d68ca.png")
    found = [(label.record, label.name, label.crowd, label.ignore) for label in image.labels]
    assert found == [
        ("instance 0", "rider", False, False),
        ("instance 1", "pedestrian", False, False),  # truncated and occluded: an object
        ("instance 256", "car", True, False),
        ("instance 300", "bicycle", False, True),
    ]
    masks = rle.decode([label.rle for label in image.labels], (3, 3)).numpy()
    expected = [(BITMASK[..., :2] == pair).all(2) for pair in ([2, 0], [1, 12], [3, 2], [8, 1])]
    assert np.array_equal(masks, expected)


def changed(place, value):
    pixels = BITMASK.copy()
    pixels[place] = value
    return pixels


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (BITMASK[..., :3], "expected a bitmask"),
        (BITMASK[..., 0], "expected a bitmask"),
        (changed((0, 0), [11, 0, 0, 9]), "instance 9: expected a category"),
        (changed((0, 0), [1, 16, 0, 9]), "instance 9: expected attributes"),
        (changed((0, 1), [2, 12, 0, 1]), "instance 1: expected one category"),
    ],
)
def test_other_pictures_are_refused(pixels, message, tmp_path):
    path = save(tmp_path / "a.png", pixels)
    with pytest.raises(InputError) as raised:
        list(read(path, Options()))
    assert "a.png" in str(raised.value)
    assert message in str(raised.value)


def polygon(types="LLL", vertices=((0, 0), (8, 0), (8, 8)), closed=True):
    return {"vertices": [list(vertex) for vertex in vertices], "types": types, "closed": closed}


def label(category="car", **fields):
    return {"id": "1", "category": category, "attributes": {"occluded": True, "crowd": False}} | fields


def frames(tmp_path, *labels, **fields):
    path = tmp_path / "ins_seg_train.json"
    path.write_text(json.dumps([{"name": "a.jpg", "labels": list(labels)} | fields]))
    (image,) = read(path, Options())
    return image


def test_categories_are_the_eight_classes(tmp_path):
    names = [
        "person",
        "pedestrian",
        "bike",
        "motor",
        "Rider",
        "traffic light",
        "lane/single white",
        "trailer",
    ]
    image = frames(tmp_path, *(label(name, poly2d=[polygon()]) for name in names))
    assert [(item.name, item.ignore) for item in image.labels] == [
        ("pedestrian", False),
        ("pedestrian", False),
        ("bicycle", False),
        ("motorcycle", False),
        ("rider", False),
        ("truck", True),
    ]
    assert image.labels[-1].record == "frame 0, label 7"


def test_masks_boxes_and_flags(tmp_path):
    mask = rle.encode(np.eye(4, 6, dtype=bool)[None])[0]
    box = {"x1": 1.5, "y1": 2, "x2": 4.5, "y2": 8}
    image = frames(
        tmp_path,
        label(rle=mask, box2d=box, poly2d=None, attributes={"crowd": True}),
        label(poly2d=[polygon(), polygon()], attributes={"ignored": True}, score=0.5),
        label(box2d=box, attributes=None),
        size={"width": 6, "height": 4},
        videoName="b1c9c847",
    )
    first, second, third = image.labels
    assert (image.file, image.size, image.record) == ("b1c9c847/a.jpg", (4, 6), "frame 0")
    assert (first.rle, first.crowd) == (mask, True)
    assert (len(second.parts), second.ignore, second.score) == (2, True, 0.5)
    assert (third.box, third.parts, third.rle) == ((1.5, 2.0, 3.0, 6.0), (), None)


def test_a_frame_without_labels_and_a_list_in_frames(tmp_path):
    assert frames(tmp_path, labels=None).labels == ()
    (tmp_path / "ins_seg_train.json").write_text(json.dumps({"frames": [{"name": "b.jpg"}]}))
    assert [image.file for image in read(tmp_path, Options())] == ["b.jpg"]


@pytest.mark.parametrize(
    ("types", "vertices"),
    [
        ("LLCCC", [(8, 0), (0, 0), (0, 4), (8, 4), (8, 0)]),  # BDD100K: the third C is the end
        ("LCCL", [(0, 0), (0, 4), (8, 4), (8, 0)]),  # scalabel: the next corner is the end
        ("LLCC", [(8, 0), (0, 0), (0, 4), (8, 4)]),  # … or the first
    ],
)
def test_curves_become_lines(types, vertices, tmp_path):
    (item,) = frames(tmp_path, label(poly2d=[polygon(types, vertices)])).labels
    points = set(zip(item.parts[0].outer[::2], item.parts[0].outer[1::2], strict=True))
    assert {(0, 0), (8, 0), (4, 3)} <= points  # the curve's middle: 3/4 of 4 down
    assert len(points) == 9


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"frames": 3}, "expected 'frames' as a list"),
        (["a.jpg"], "frame 0: expected a frame"),
        ([{"labels": []}], "frame 0: expected 'name'"),
        ([{"name": "a", "labels": [{"id": "1"}]}], "frame 0, label 0: expected 'category'"),
        ([{"name": "a", "labels": [label()]}], "frame 0, label 0: expected poly2d, rle or box2d"),
        ([{"name": "a", "labels": [label(poly2d=[[1, 2, "L"]])]}], "label 0, polygon 0: expected an object"),
        ([{"name": "a", "labels": [label(poly2d=[polygon("LL")])]}], "expected 'types'"),
        ([{"name": "a", "labels": [label(poly2d=[polygon("LLC")])]}], "expected 'types' as C two or three"),
        ([{"name": "a", "labels": [label(poly2d=[polygon(closed=False)])]}], "expected a closed polygon"),
        ([{"name": "a", "labels": [label(box2d={"x1": 3, "y1": 0, "x2": 1, "y2": 1})]}], "expected a box2d"),
        ([{"name": "a", "labels": [label(rle={"counts": "5", "size": [4, 4]})]}], "expected 'counts'"),
        (
            [{"name": "a", "labels": [label(rle={"counts": [5], "size": [4, 4]})]}],
            "RLE counts that sum to 4 x 4",
        ),
        ([{"name": "a", "labels": [label(rle={"counts": "5", "size": [1e9, 1e9]})]}], "megapixels"),
    ],
)
def test_malformed_json_is_refused(document, message, tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError) as raised:
        list(read(path, Options()))
    assert "train.json" in str(raised.value)
    assert message in str(raised.value)
