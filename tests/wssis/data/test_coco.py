"""wssis.data.coco: every form of a mask, both directions, instances, and everything that can be wrong."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from wssis.data import rle as rle_api
from wssis.data.coco import load_coco, save_coco
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.errors import InputError

SIZE = (10, 12)
SQUARE = [2, 3, 6, 3, 6, 7, 2, 7]  # pixels x 2..5, y 3..6


def square(y=3, x=2, h=4, w=4):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[y : y + h, x : x + w] = True
    return mask


def rle(mask=None):
    return rle_api.encode((square() if mask is None else mask)[None])[0]


def document(*annotations, **changes):
    """A file of two images (ids 4, 9) and categories 3 'b', 1 'a', 90 'c'; fields by keyword."""
    records = [{"id": n, "image_id": 4, "category_id": 3, **a} for n, a in enumerate(annotations, 1)]
    return {
        "info": {"image_dir": "images"},
        "images": [
            {"id": 4, "file_name": "x.png", "height": 10, "width": 12, "license": 1},
            {"id": 9, "file_name": "sub/y.png", "height": 5, "width": 6},
        ],
        "categories": [{"id": 3, "name": "b"}, {"id": 1, "name": "a"}, {"id": 90, "name": "c"}],
        "annotations": records,
    } | changes


@pytest.fixture
def load(tmp_path):
    def load(value, **options):
        path = tmp_path / "data.json"
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        return load_coco(path, **options)

    return load


def masks_of(data):
    return data.images[0].instances().masks


# ---- forms


@pytest.mark.parametrize(
    "segmentation",
    [
        [SQUARE],
        [[float(v) for v in SQUARE]],
        [[2, 3, 4, 3, 4, 7, 2, 7], [4, 3, 6, 3, 6, 7, 4, 7]],
        rle(),
        {"size": [10, 12], "counts": [23, 4, 6, 4, 6, 4, 6, 4, 63]},
    ],
    ids=["polygon", "floats", "two parts", "compressed", "uncompressed"],
)
def test_every_form_of_a_mask(load, segmentation):
    data = load(document({"segmentation": segmentation}))
    assert torch.equal(masks_of(data)[0], square())
    assert type(data.images[0].annotations[0].rle["counts"]) is str


def test_a_hole_stays_a_hole(load):
    ring = square(1, 1, 8, 8) & ~square(4, 4, 2, 2)
    assert torch.equal(masks_of(load(document({"segmentation": rle(ring)})))[0], ring)


def test_labels_are_places_among_sorted_ids_and_ids_come_back(load, tmp_path):
    data = load(document(*({"segmentation": [SQUARE], "category_id": key} for key in (90, 1, 3))))
    assert data.class_names == ("a", "b", "c")
    assert data.num_classes == 3
    assert data.images[0].instances().labels.tolist() == [2, 0, 1]
    save_coco(data, tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    assert [a["category_id"] for a in written["annotations"]] == [90, 1, 3]


def test_images_without_annotations_are_kept(load):
    data = load(document({"segmentation": [SQUARE]}))
    assert [len(image.annotations) for image in data.images] == [1, 0]
    empty = data.by_id[9].instances()
    assert empty.masks.shape == (0, 5, 6)
    assert len(empty) == 0
    assert (empty.points, empty.scores, empty.ignore) == (None, None, None)


def test_area_and_bbox_may_be_missing_or_wrong(load):
    data = load(
        document(
            {"segmentation": [SQUARE]},
            {"segmentation": [SQUARE], "area": 15.5, "bbox": [0, 0, 1, 1]},
            {"segmentation": [SQUARE], "area": "big", "bbox": None},
            {"segmentation": [SQUARE], "area": -1},
        )
    )
    assert [a.area for a in data.images[0].annotations] == [None, 15.5, None, None]


def test_annotations_without_a_listed_order_keep_the_files_order(load):
    records = document(*({"segmentation": [SQUARE]} for _ in range(3)))
    for number, record in zip((7, 0, 5), records["annotations"], strict=True):
        record["id"] = number
    assert load(records).images[0].instances().ids.tolist() == [7, 0, 5]


def test_image_dir_is_the_files_or_the_callers(load):
    assert load(document()).image_dir == "images"
    assert load(document(), image_dir="elsewhere").image_dir == "elsewhere"
    with pytest.raises(InputError, match=r"info\.image_dir"):
        load(document(info={}))
    assert load(document(info={}), image_dir="here").image_dir == "here"


# ---- both directions


def test_what_is_saved_loads_the_same(load, tmp_path):
    data = load(
        document(
            {"segmentation": [SQUARE], "score": 0.25, "confidence": 0.5, "attributes": {"a": [1, None]}},
            {"segmentation": rle(), "point": [2.5, 3.25], "area": 16.5, "caption": "ä"},
            {"point": [0, 0]},
            {"segmentation": [SQUARE], "iscrowd": 1},
            {"segmentation": [SQUARE], "ignore": True},
            {"segmentation": [SQUARE], "image_id": 4, "category_id": 90},
        )
    )
    save_coco(data, tmp_path / "once.json")
    once = load_coco(tmp_path / "once.json")
    save_coco(once, tmp_path / "twice.json")
    assert (tmp_path / "once.json").read_bytes() == (tmp_path / "twice.json").read_bytes()
    first = data.images[0].annotations[0]
    assert first.extra == {"confidence": 0.5, "attributes": {"a": [1, None]}}
    assert first.score == 0.25
    for before, after in zip(data.images[0].annotations, once.images[0].annotations, strict=True):
        assert replace(after, area=before.area) == before
    assert once.categories == data.categories
    assert once.image_dir == data.image_dir


def test_a_point_alone_has_neither_segmentation_nor_bbox_nor_area(load, tmp_path):
    data = load(document({"point": [1.5, 2], "bbox": [0, 0, 4, 4], "area": 16, "segmentation": []}))
    save_coco(data, tmp_path / "out.json")
    (record,) = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert record == {"id": 1, "image_id": 4, "category_id": 3, "point": [1.5, 2.0], "iscrowd": 0}


def test_a_mask_is_saved_with_bbox_and_area_and_pycocotools_reads_it(load, tmp_path, capsys):
    data = load(document({"segmentation": [SQUARE]}))
    save_coco(data, tmp_path / "out.json")
    (record,) = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert record["bbox"] == [2, 3, 4, 4]
    assert record["area"] == 16
    assert record["iscrowd"] == 0
    coco = COCO(str(tmp_path / "out.json"))
    assert (coco.annToMask(coco.anns[1]) == square().numpy()).all()


def test_counts_as_bytes_are_saved_as_text(tmp_path):
    item = rle()
    annotation = Annotation(1, 0, {"size": list(SIZE), "counts": item["counts"].encode()})
    data = CocoData((Category(1, "a"),), (ImageRecord(1, "x.png", *SIZE, (annotation,)),), "images")
    assert torch.equal(masks_of(data)[0], square())
    save_coco(data, tmp_path / "out.json")
    assert load_coco(tmp_path / "out.json").images[0].annotations[0].rle == item


def test_image_dir_is_relative_under_the_current_folder_only(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for given_dir, saved in (
        ("images", "images"),
        (str(tmp_path / "work" / "a" / "b"), os.path.join("a", "b")),
        (str(tmp_path / "other"), str(tmp_path / "other")),
        ("../other", str(tmp_path / "other")),
    ):
        data = CocoData((Category(1, "a"),), (), given_dir)
        save_coco(data, "out.json")
        assert load_coco("out.json").image_dir == saved


def test_subset_keeps_order_and_refuses_unknown_ids(load):
    data = load(document({"segmentation": [SQUARE]}))
    assert [image.id for image in data.subset([9, 4]).images] == [4, 9]
    assert data.subset([9]).num_objects == 0
    assert data.subset([]).images == ()
    with pytest.raises(KeyError, match="77"):
        data.subset([4, 77])


# ---- instances


def test_points_only_has_no_masks_and_mixed_has_rows_with_masks_only(load):
    points = load(document({"point": [1, 2]}, {"point": [3.5, 4], "category_id": 1}))
    instances = points.images[0].instances()
    assert instances.masks is None
    assert instances.points.tolist() == [[1, 2], [3.5, 4]]
    assert instances.labels.tolist() == [1, 0]
    assert not points.images[0].strong

    mixed = load(document({"point": [1, 2]}, {"segmentation": [SQUARE]})).images[0]
    assert mixed.instances().ids.tolist() == [2]
    assert mixed.instances().points is None
    assert mixed.instances(with_masks=False).ids.tolist() == [1, 2]
    assert mixed.instances(with_masks=False).masks is None
    assert mixed.instances(with_masks=False).points.tolist() == [[1, 2], [4, 5]]  # the square's center


def test_scores_are_none_or_one_where_missing(load):
    image = load(document({"segmentation": [SQUARE]}, {"segmentation": [SQUARE], "score": 0.5})).images[0]
    assert image.instances().scores.tolist() == [1, 0.5]
    assert load(document({"segmentation": [SQUARE]})).images[0].instances().scores is None


@pytest.mark.parametrize("flag", [{"iscrowd": 1}, {"ignore": True}, {"ignore": 1}])
def test_crowds_and_ignore_regions_are_no_rows(load, flag):
    far = [8, 0, 10, 0, 10, 2, 8, 2]
    image = load(
        document({"segmentation": [SQUARE], **flag}, {"segmentation": [far]}, {"segmentation": [far], **flag})
    ).images[0]
    instances = image.instances()
    assert instances.ids.tolist() == [2]
    assert torch.equal(instances.ignore, square() | square(0, 8, 2, 2))
    assert image.strong
    assert image.instances(with_masks=False).ignore is None


def test_an_image_of_crowds_only_shows_no_object(load):
    instances = load(document({"segmentation": [SQUARE], "iscrowd": 1})).images[0].instances()
    assert instances.masks.shape == (0, *SIZE)
    assert instances.ignore.sum() == 16


# ---- what can be wrong


def without(record, *keys):
    return {key: value for key, value in record.items() if key not in keys}


IMAGE = {"id": 4, "file_name": "x.png", "height": 10, "width": 12}
MASK = {"segmentation": [SQUARE]}
WRONG = {
    "no list of images": (without(document(), "images"), "'images', found none"),
    "images an object": (document(images={}), "'images', found an object"),
    "no annotations": (without(document(), "annotations"), "'annotations', found none"),
    "no categories": (without(document(), "categories"), "'categories', found none"),
    "a list of results": ([{"image_id": 4}], "found a list"),
    "a number": (3, "found a number"),
    "empty categories": (document(categories=[]), "at least one category"),
    "category without name": (document(categories=[{"id": 5}]), "category 5: expected a name"),
    "category without id": (document(categories=[{"name": "a"}]), r"categories\[0\]: .* id"),
    "category twice": (
        document(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]),
        "category 1: .*twice",
    ),
    "name twice": (
        document(categories=[{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]),
        "category 2: .*'a' twice",
    ),
    "image no object": (document(images=["x.png"]), r"images\[0\]: expected an object, found text"),
    "image without id": (document(images=[without(IMAGE, "id")]), r"images\[0\]: .*found None"),
    "image id text": (document(images=[IMAGE | {"id": "4"}]), r"images\[0\]: .*found '4'"),
    "image id true": (document(images=[IMAGE | {"id": True}]), r"images\[0\]: .*found True"),
    "image id negative": (document(images=[IMAGE | {"id": -4}]), "image -4: .*0 or more"),
    "image twice": (document(images=[IMAGE, IMAGE | {"file_name": "z.png"}]), "image 4: .*twice"),
    "no file_name": (document(images=[without(IMAGE, "file_name")]), "image 4: expected a file_name"),
    "file_name a number": (document(images=[IMAGE | {"file_name": 4}]), "image 4: expected a file_name"),
    "absolute file_name": (document(images=[IMAGE | {"file_name": "/etc/passwd"}]), "image 4: .*/etc/passwd"),
    "climbing file_name": (document(images=[IMAGE | {"file_name": "a/../../b"}]), "image 4: .*a/../../b"),
    "windows file_name": (document(images=[IMAGE | {"file_name": "C:\\b.png"}]), "image 4: .*inside"),
    "climbing windows": (document(images=[IMAGE | {"file_name": "..\\b.png"}]), "image 4: .*inside"),
    "no height": (document(images=[without(IMAGE, "height")]), "image 4: expected height"),
    "zero width": (document(images=[IMAGE | {"width": 0}]), "image 4: expected height and width"),
    "huge image": (document(images=[IMAGE | {"width": 10**8}]), "image 4: .*megapixels"),
    "annotation no object": (document(annotations=[[1]]), r"annotations\[0\]: .*found a list"),
    "annotation without id": (document(annotations=[{"image_id": 4}]), r"annotations\[0\]: .*id"),
    "annotation id negative": (document(MASK | {"id": -1}), "annotation -1"),
    "annotation id huge": (document(MASK | {"id": 2**64}), f"annotation {2**64}"),
    "annotation twice": (document(MASK, MASK | {"id": 1}), "annotation 1: .*twice"),
    "unknown image": (document(MASK | {"image_id": 5}), "annotation 1: .*image_id 5"),
    "no image_id": (document(MASK | {"image_id": None}), "annotation 1: .*image_id None"),
    "image_id a list": (document(MASK | {"image_id": [4]}), "annotation 1: .*image_id"),
    "unknown category": (document(MASK | {"category_id": 2}), r"annotation 1: .*1, 3, 90.*category_id 2"),
    "box only": (document({"bbox": [1, 2, 3, 4]}), "annotation 1: .*a box only"),
    "nothing": (document({}), "annotation 1: .*found neither"),
    "crowd with a point": (document({"point": [1, 2], "iscrowd": 1}), "annotation 1: .*segmentation"),
    "two points": (document({"segmentation": [[1, 2, 3, 4]]}), "annotation 1: .*3 or more points, found 2"),
    "empty part": (document({"segmentation": [[]]}), "annotation 1: .*3 or more points, found 0"),
    "odd count": (document({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}), "annotation 1: .*in pairs, found 7"),
    "text polygon": (document({"segmentation": [["1", 2, 3, 4, 5, 6]]}), "annotation 1: .*lists of numbers"),
    "flat polygon": (document({"segmentation": SQUARE}), "annotation 1: .*lists of numbers"),
    "far polygon": (document({"segmentation": [[0, 0, 1e9, 0, 5, 5]]}), "annotation 1: .*12 x 10 px"),
    "text": (document({"segmentation": "abc"}), "annotation 1: .*found text"),
    "other size": (
        document({"segmentation": rle() | {"size": [12, 10]}}),
        r"annotation 1: .*\[10, 12\], found \[12, 10\]",
    ),
    "no size": (document({"segmentation": {"counts": [120]}}), "annotation 1: .*found None"),
    "no counts": (document({"segmentation": {"size": [10, 12]}}), "annotation 1: .*found null"),
    "counts too few": (
        document({"segmentation": {"size": [10, 12], "counts": [100]}}),
        "annotation 1: .*sum of 100",
    ),
    "counts negative": (
        document({"segmentation": {"size": [10, 12], "counts": [130, -10]}}),
        "annotation 1: .*whole",
    ),
    "damaged counts": (
        document(MASK, {"segmentation": rle() | {"counts": "~~"}}),
        "annotation 2: .*120 pixels",
    ),
    "counts of another size": (
        document(
            MASK,
            MASK,
            {"segmentation": {"size": [10, 12], "counts": rle_api.encode(torch.ones(1, 9, 9))[0]["counts"]}},
        ),
        "annotation 3: .*120 pixels",
    ),
    "point outside": (document({"point": [12, 2]}), r"annotation 1: .*12 x 10 px, found \(12, 2\)"),
    "point above": (document({"point": [1, -0.5]}), "annotation 1: .*12 x 10 px"),
    "point of one number": (document({"point": [1]}), r"annotation 1: expected a point \[x, y\]"),
    "point of text": (document({"point": ["1", 2]}), r"annotation 1: expected a point \[x, y\]"),
    "point huge": (document({"point": [10**400, 2]}), r"annotation 1: expected a point"),
    "score": (document(MASK | {"score": 1.5}), "annotation 1: .*score in 0…1, found 1.5"),
    "score text": (document(MASK | {"score": "high"}), "annotation 1: .*score"),
    "iscrowd": (document(MASK | {"iscrowd": "no"}), "annotation 1: .*iscrowd"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_records_are_named(load, tmp_path, name):
    value, says = WRONG[name]
    with pytest.raises(InputError, match=says) as error:
        load(value)
    message = str(error.value)
    assert message.startswith(str(tmp_path / "data.json"))
    assert "\n" not in message
    assert error.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        json.dumps(document()).encode()[:-20],
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"images": ' + b"9" * 5000 + b"}",
        b"PK\x03\x04",
    ],
    ids=["empty", "open", "cut off", "no UTF-8", "deep", "long number", "zip"],
)
def test_what_is_no_json_is_named(load, text):
    with pytest.raises(InputError, match="expected JSON") as error:
        load(text)
    assert error.value.remedy


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none(load, value):
    for record in ({"segmentation": [[1, 2, 3, "@", 5, 6]]}, {"point": [1, "@"]}):
        text = json.dumps(document(record)).replace('"@"', value)
        with pytest.raises(InputError, match="annotation 1"):
            load(text.encode())


def test_nan_in_a_field_that_may_be_missing_means_missing(load, tmp_path):
    record = MASK | {"score": "@", "area": "@", "confidence": "@"}
    data = load(json.dumps(document(record)).replace('"@"', "NaN").encode())
    (annotation,) = data.images[0].annotations
    assert (annotation.score, annotation.area, annotation.extra) == (None, None, {"confidence": None})
    save_coco(data, tmp_path / "out.json")


def test_what_cannot_be_written_is_named_and_the_old_file_stays(load, tmp_path):
    text = json.dumps(document(MASK, MASK | {"depth": "@"})).replace('"@"', "1e999")
    data = load(text.encode())
    (tmp_path / "out.json").write_text("old")
    with pytest.raises(InputError, match=r"data\.json, annotation 2: .*JSON"):
        save_coco(data, tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == "old"


@pytest.mark.parametrize(("big", "separators"), [(1, (",", ":")), (2**70, None)])
def test_it_is_written_as_one_document_would_be(tmp_path, big, separators):
    """Annotation by annotation, those of the data or others; big numbers in the way of Python's json."""
    items = (Annotation(3, 0, point=(1, 2)), Annotation(4, 0, extra={"big": big, "caption": "ä"}))
    images = tuple(ImageRecord(n, f"{n}.png", 4, 6, items[: n + 1], corrected=n == 1) for n in (0, 1))
    data = CocoData((Category(7, "a"),), images, "here")
    document = {
        "info": {"image_dir": "here"},
        "categories": [{"id": 7, "name": "a"}],
        "images": [
            {"id": 0, "file_name": "0.png", "height": 4, "width": 6},
            {"id": 1, "file_name": "1.png", "height": 4, "width": 6, "corrected": True},
        ],
        "annotations": [
            {"id": 3, "image_id": 0, "category_id": 7, "point": [1.0, 2.0], "iscrowd": 0},
            {"id": 3, "image_id": 1, "category_id": 7, "point": [1.0, 2.0], "iscrowd": 0},
            {"big": big, "caption": "ä", "id": 4, "image_id": 1, "category_id": 7, "iscrowd": 0},
        ],
    }
    whole = json.dumps(document, separators=separators, ensure_ascii=separators is None) + "\n"
    save_coco(data, tmp_path / "own.json")
    assert (tmp_path / "own.json").read_text() == whole
    bare = replace(data, images=tuple(replace(image, annotations=()) for image in images))
    save_coco(bare, tmp_path / "given.json", images)
    assert (tmp_path / "given.json").read_text() == whole


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="found none"):
        load_coco(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        load_coco(tmp_path)


def test_file_names_that_only_look_dangerous_are_fine(load):
    for name in ("a/../b.png", "..b.png", "a..png", "ä ö.png"):
        assert load(document(images=[IMAGE | {"file_name": name}])).images[0].file_name == name


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(value, path=()):
    """Every path to a value inside a document."""
    yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from places(child, (*path, key))


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), value=VALUES)
def test_mutated_files_load_or_are_refused_and_never_crash(load, data, value):
    broken = json.loads(
        json.dumps(
            document(
                {"segmentation": [SQUARE], "area": 16, "bbox": [2, 3, 4, 4], "iscrowd": 0},
                {"segmentation": rle(), "point": [2.5, 3.5], "score": 0.5, "ignore": False},
                {"segmentation": {"size": [10, 12], "counts": [23, 4, 93]}},
            )
        )
    )
    path = data.draw(st.sampled_from([p for p in places(broken) if p]))
    parent = broken
    for key in path[:-1]:
        parent = parent[key]
    if data.draw(st.booleans()):
        parent[path[-1]] = value
    elif isinstance(parent, dict):
        del parent[path[-1]]
    with contextlib.suppress(InputError):
        for image in load(broken).images:
            image.instances()


# ---- real data


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_coco_tiny_says_the_same_as_pycocotools(shared_folder, tmp_path, split, capsys):
    folder = shared_folder / "data" / "coco-tiny"
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}")
    path = folder / "annotations" / f"instances_{split}.json"
    data, coco = load_coco(path, folder / split), COCO(str(path))
    assert data.num_classes == 80
    assert len(data.images) == 50
    assert any(item.crowd for image in data.images for item in image.annotations)
    for image in data.images:
        instances = image.instances()
        expected = [a for a in coco.imgToAnns[image.id] if not a["iscrowd"]]
        assert instances.ids.tolist() == [a["id"] for a in expected]
        for row, annotation in enumerate(expected):
            assert data.categories[instances.labels[row]].id == annotation["category_id"]
            assert np.array_equal(instances.masks[row].numpy(), coco.annToMask(annotation))
        crowds = [coco.annToMask(a).astype(bool) for a in coco.imgToAnns[image.id] if a["iscrowd"]]
        if crowds:
            assert np.array_equal(instances.ignore.numpy(), np.any(crowds, 0))
        else:
            assert instances.ignore is None
    save_coco(data, tmp_path / "out.json")
    assert load_coco(tmp_path / "out.json").images == data.images
