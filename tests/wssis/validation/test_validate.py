"""What `wssis.validation` finds, each kind in a file made for it, and the cleaned copy."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wssis.data import rle
from wssis.data.coco import load_coco
from wssis.data.images import read_image
from wssis.validation.duplicates import close_pairs
from wssis.validation.polygons import crossing
from wssis.validation.problems import KINDS, Limits, problems_by_kind
from wssis.validation.repair import remaining, repair
from wssis.validation.statistics import Levels
from wssis.validation.validate import Findings, check

SIZE = (40, 60)  # H, W
Change = Callable[[dict[str, Any]], None]


def box_rle(x: int, y: int, w: int, h: int, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    mask = np.zeros((1, *size), dtype=bool)
    mask[0, y : y + h, x : x + w] = True
    return rle.encode(mask)[0]


@pytest.fixture
def raw(tmp_path: Path) -> dict[str, Any]:
    """A flawless data set: image 1 strong, 2 weak, 3 mixed, 4 empty; cats are 3, dogs are 7."""
    rng = np.random.default_rng(0)
    for name in "abcd":
        Image.fromarray(rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    images = [
        {"id": number, "file_name": f"{name}.png", "height": SIZE[0], "width": SIZE[1]}
        for number, name in enumerate("abcd", 1)
    ]
    polygon = [[30, 10, 50, 10, 50, 30, 30, 30]]
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 3, "segmentation": box_rle(2, 3, 10, 8)},
        {"id": 2, "image_id": 1, "category_id": 7, "segmentation": polygon, "point": [40, 20]},
        {"id": 3, "image_id": 2, "category_id": 3, "point": [5, 5], "note": "mine"},
        {"id": 4, "image_id": 2, "category_id": 3, "point": [30, 30], "box": [20, 20, 20, 20]},
        {"id": 5, "image_id": 3, "category_id": 7, "segmentation": polygon},
        {"id": 6, "image_id": 3, "category_id": 7, "point": [10, 10]},
    ]
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def annotate(place: int, **fields: Any) -> Change:
    return lambda raw: raw["annotations"][place].update(fields)


def append(key: str, record: Any) -> Change:
    return lambda raw: raw[key].append(record)


def image(place: int, **fields: Any) -> Change:
    return lambda raw: raw["images"][place].update(fields)


def kinds(findings: Findings) -> dict[str, list[str]]:
    return {
        kind: [item.record for item in found] for kind, found in problems_by_kind(findings.problems).items()
    }


def repaired(raw: dict[str, Any], folder: Path, **options: Any) -> tuple[dict[str, Any], list[Any], Findings]:
    """The cleaned copy, which must load and must not have touched the original."""
    before = copy.deepcopy(raw)
    again = partial(lambda new, files, **more: check(new, str(folder), files=files, **more), **options)
    new, changes, after = repair(raw, check(raw, str(folder), **options), again)
    assert raw == before
    assert changes
    file = folder / "copy.json"
    file.write_text(json.dumps(new))
    data = load_coco(file, folder)
    for record in data.images:
        read_image(folder, record.file_name, record.size)
    assert not [item for item in remaining(after.problems) if KINDS[item.kind].fix], kinds(after)
    return new, changes, after


def test_flawless_data_is_counted_and_nothing_is_told(raw: dict[str, Any], tmp_path: Path) -> None:
    found = check(raw, str(tmp_path))
    assert kinds(found) == {}
    counts = {"images": 4, "strong": 1, "mixed": 1, "weak": 1, "empty": 1, "objects": 6, "masks": 3}
    assert found.coverage.counts == {**counts, "points": 4, "points_only": 3, "boxes": 1, "ignored": 0}
    assert found.coverage.classes == [
        {"name": "cat", "objects": 3, "masks": 1, "points_only": 2, "objects_in_strong": 1},
        {"name": "dog", "objects": 3, "masks": 2, "points_only": 1, "objects_in_strong": 1},
    ]
    assert found.coverage.sizes["pixels"]["bins"]["8-16"] == 1
    assert found.coverage.sizes["pixels"]["max"] == 20


BOW = [[10, 10, 20, 20, 20, 10, 10, 20]]
SEEN: dict[str, tuple[Change, dict[str, list[str]]]] = {
    "no list": (lambda raw: raw.update(annotations=None), {"document": ["annotations"]}),
    "classes: name twice": (
        append("categories", {"id": 9, "name": "cat"}),
        {"category": ["category 9"], "class-unused": ["cat"]},
    ),
    "classes: no id": (append("categories", {"name": "cow"}), {"category": ["categories[2]"]}),
    "classes: id twice": (append("categories", {"id": 3, "name": "cow"}), {"category": ["category 3"]}),
    "image: id twice": (
        append("images", {"id": 1, "file_name": "b.png", "height": 40, "width": 60}),
        {"image-id": ["image 1"]},
    ),
    "image: no record": (append("images", 5), {"image-id": ["images[4]"]}),
    "image: outside": (image(3, file_name="../d.png"), {"image-name": ["image 4"], "unlisted": ["d.png"]}),
    "image: no size": (image(1, height=None), {"image-size": ["image 2"]}),
    "image: absurd size": (image(3, height=10**7), {"image-size": ["image 4"]}),
    "image: missing": (image(3, file_name="x.png"), {"missing-image": ["image 4"], "unlisted": ["d.png"]}),
    "image: other size": (image(3, height=41), {"size-differs": ["image 4"]}),
    "no record": (append("annotations", [1]), {"reference": ["annotations[6]"]}),
    "id twice": (annotate(1, id=1), {"annotation-id": ["annotation 1"]}),
    "id text": (annotate(1, id="1"), {"annotation-id": ["annotations[1]"]}),
    "id a list": (annotate(1, id=[1]), {"annotation-id": ["annotations[1]"]}),
    "classes: name a list": (
        lambda raw: (raw["categories"][0].update(name=["cat"]), raw["categories"][1].update(name="")),
        {"category": ["category 7", "category 3"]},
    ),
    "unknown image": (annotate(2, image_id=[1]), {"reference": ["annotation 3"]}),
    "unknown class": (annotate(2, category_id=4), {"reference": ["annotation 3"]}),
    "crowd 2": (annotate(0, iscrowd=2), {"field": ["annotation 1"]}),
    "score": (annotate(0, score=3), {"field": ["annotation 1"]}),
    "point of text": (annotate(1, point="here"), {"field": ["annotation 2"]}),
    "odd polygon": (annotate(0, segmentation=[[1, 2, 3, 4, 5, 6, 7]]), {"bad-mask": ["annotation 1"]}),
    "two corners": (annotate(0, segmentation=[[1, 2, 3, 4]]), {"bad-mask": ["annotation 1"]}),
    "far corner": (annotate(0, segmentation=[[1, 2, 3, 4, 500, 1]]), {"bad-mask": ["annotation 1"]}),
    "polygon of nulls": (annotate(0, segmentation=[[None] * 6]), {"bad-mask": ["annotation 1"]}),
    "RLE of other size": (
        annotate(0, segmentation={"size": [60, 40], "counts": [2400]}),
        {"bad-mask": ["annotation 1"]},
    ),
    "RLE with another sum": (
        annotate(0, segmentation={"size": [40, 60], "counts": [9]}),
        {"bad-mask": ["annotation 1"]},
    ),
    "damaged RLE": (
        annotate(0, segmentation={"size": [40, 60], "counts": "zzz"}),
        {"bad-mask": ["annotation 1"]},
    ),
    "box only": (
        lambda raw: (raw["annotations"][2].pop("point"), annotate(2, bbox=[1, 1, 8, 8])(raw)),
        {"no-label": ["annotation 3"]},
    ),
    "nothing": (lambda raw: raw["annotations"][2].pop("point"), {"no-label": ["annotation 3"]}),
    "point a little outside": (annotate(2, point=[61, 20]), {"point-outside": ["annotation 3"]}),
    "point far outside": (annotate(2, point=[-9, 20]), {"point-outside": ["annotation 3"]}),
    "empty RLE": (
        annotate(1, segmentation={"size": [40, 60], "counts": [2400]}),
        {"empty-mask": ["annotation 2"]},
    ),
    "polygon of a line": (annotate(1, segmentation=[[1, 1, 9, 1, 5, 1]]), {"empty-mask": ["annotation 2"]}),
    "polygon off the image": (
        annotate(1, segmentation=[[70, 1, 79, 1, 75, 9]]),
        {"empty-mask": ["annotation 2"]},
    ),
    "polygon crosses itself": (annotate(0, segmentation=BOW), {"crossing": ["annotation 1"]}),
    "mask twice": (
        append(
            "annotations", {"id": 9, "image_id": 1, "category_id": 3, "segmentation": box_rle(2, 3, 10, 8)}
        ),
        {"same-mask": ["annotation 9"]},
    ),
    "points twice": (
        append("annotations", {"id": 9, "image_id": 2, "category_id": 3, "point": [7, 6]}),
        {"close-points": ["annotation 9"]},
    ),
    "point off its mask": (annotate(1, point=[1, 1]), {"point-off-mask": ["annotation 2"]}),
    "tiny": (
        annotate(0, segmentation=box_rle(2, 3, 1, 3)),
        {"tiny-mask": ["annotation 1"]},
    ),
}
AMONG_OTHERS = {"no list", "image: missing", "classes: no id", "id text"}  # that cause more than one


@pytest.mark.parametrize("name", SEEN)
def test_each_kind_is_reported_with_its_record_and_repaired(
    raw: dict[str, Any], tmp_path: Path, name: str
) -> None:
    change, expected = SEEN[name]
    change(raw)
    found = kinds(check(raw, str(tmp_path)))
    assert {kind: found.get(kind) for kind in expected} == expected
    if name not in AMONG_OTHERS:
        lacking = {"class-not-strong", "no-strong", "class-unused"}
        assert found.keys() - lacking == expected.keys() - lacking
    if any(KINDS[kind].fix for kind in expected):
        repaired(raw, tmp_path)


def record(raw: dict[str, Any], number: int) -> dict[str, Any] | None:
    return next((item for item in raw["annotations"] if item["id"] == number), None)


def test_what_repair_makes_of_labels(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["annotations"] += [
        {"id": 10, "image_id": 2, "category_id": 3, "point": [61, 41.5]},
        {"id": 11, "image_id": 2, "category_id": 3, "point": [63, 20]},
        {"id": 12, "image_id": 2, "category_id": 3, "point": [31, 31]},
        {"id": 13, "image_id": 2, "category_id": 3, "bbox": [40, 2, 10, 6]},
        {"id": 14, "image_id": 2, "category_id": 3, "segmentation": [[1, 2]], "point": [20, 3], "area": 4},
        {"id": 15, "image_id": 2, "category_id": 3, "segmentation": [[1, 2]]},
        {"id": 16, "image_id": 3, "category_id": 7, "segmentation": BOW, "extra": 1},
        {"id": 17, "image_id": 3, "category_id": 7, "segmentation": box_rle(2, 30, 5, 5), "point": [99, 9]},
        {"id": 1, "image_id": 3, "category_id": 7, "segmentation": box_rle(12, 30, 5, 5), "score": 8},
    ]
    new, changes, _ = repaired(raw, tmp_path)
    assert [record(new, number) for number in (11, 12, 15)] == [None] * 3
    assert record(new, 10) == {**raw["annotations"][6], "point": [59.5, 39.5]}
    boxed = record(new, 13)
    assert boxed is not None
    assert (boxed["point"], boxed["box"]) == ([45, 5], [40, 2, 10, 6])
    assert record(new, 14) == {"id": 14, "image_id": 2, "category_id": 3, "point": [20, 3]}
    crossed = record(new, 16)
    assert crossed is not None
    assert crossed["extra"] == 1
    assert crossed["segmentation"] == rle.from_polygons(BOW, SIZE)
    assert "point" not in (record(new, 17) or {"point": 0})
    again = record(new, 18)
    assert again is not None
    assert "score" not in again
    assert record(new, 3) == raw["annotations"][2]
    assert {change.record for change in changes} >= {"annotation 10", "annotation 13", "annotation 1"}


def test_a_mask_beats_a_point_clicked_on_it(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["annotations"].insert(0, {"id": 9, "image_id": 1, "category_id": 7, "point": [41, 20]})
    found = check(raw, str(tmp_path))
    assert kinds(found)["close-points"] == ["annotation 9"]
    assert record(repaired(raw, tmp_path)[0], 9) is None
    raw["annotations"][0]["category_id"] = 3  # of another class it is another object
    assert "close-points" not in kinds(check(raw, str(tmp_path)))


def test_masks_of_two_classes_are_told_and_left(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["annotations"].append({**raw["annotations"][0], "id": 9, "category_id": 7})
    found = check(raw, str(tmp_path))
    assert kinds(found) == {"same-mask": ["annotation 9"]}
    new, changes, _ = repair(raw, found, lambda new, files: check(new, str(tmp_path), files=files))
    assert not changes
    assert new == raw


def test_image_files(raw: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rgb = Image.fromarray(rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.convert("L").save(tmp_path / "gray.png")
    Image.fromarray(rng.integers(0, 4000, SIZE, dtype=np.uint16)).save(tmp_path / "deep.png")
    rgb.convert("P").save(tmp_path / "palette.png")
    rgb.convert("CMYK").save(tmp_path / "cmyk.jpg")
    rgb.convert("RGBA").save(tmp_path / "alpha.png")
    rgb.save(tmp_path / "turned.jpg", exif=exif)
    rgb.save(tmp_path / "two.tif", save_all=True, append_images=[rgb])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:3000])
    (tmp_path / "again.png").write_bytes((tmp_path / "a.png").read_bytes())
    names = ["gray.png", "deep.png", "palette.png", "cmyk.jpg", "alpha.png", "turned.jpg", "two.tif"]
    for number, name in enumerate([*names, "text.png", "half.png", "again.png", "A.png"], 5):
        height, width = SIZE[::-1] if name == "turned.jpg" else SIZE
        raw["images"].append({"id": number, "file_name": name, "height": height, "width": width})
    (tmp_path / "new").mkdir()
    rgb.save(tmp_path / "new/x.PNG")
    found = kinds(check(raw, str(tmp_path)))
    assert found == {
        "missing-image": ["image 15"],
        "unreadable-image": ["image 12", "image 13"],
        "same-image": ["image 14"],
        "same-name": ["image 15"],
        "unlisted": ["new/x.PNG"],
        "exif": ["image 10"],
        "grey": ["image 5"],
        "deep": ["image 6"],
        "palette": ["image 7"],
        "cmyk": ["image 8"],
        "alpha": ["image 9"],
        "frames": ["image 11"],
    }
    headers = check(raw, str(tmp_path), Limits(decode=3))
    assert kinds(headers)["unreadable-image"] == ["image 12"]
    new, _, after = repaired(raw, tmp_path)
    left = {item["file_name"] for item in new["images"]}
    assert left == {f"{name}.png" for name in "abcd"} | set(names)
    assert kinds(after).keys() >= {"grey", "deep"}


def test_of_two_equal_images_the_one_with_more_labels_stays(raw: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "d.png").write_bytes((tmp_path / "c.png").read_bytes())
    raw["images"].insert(0, raw["images"].pop())  # image 4, without labels, comes first
    assert kinds(check(raw, str(tmp_path)))["same-image"] == ["image 3"]
    new, _, after = repaired(raw, tmp_path)
    assert [item["id"] for item in new["images"]] == [1, 2, 3]
    assert len(new["annotations"]) == 6
    assert kinds(after) == {"unlisted": ["d.png"]}


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_drawn_lying_down_are_turned_with_their_picture(tmp_path: Path, orientation: int) -> None:
    stored = np.zeros((*SIZE, 3), dtype=np.uint8)
    stored[5:15, 40:58] = 255  # the object, bright
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    common = {"image_id": 1, "category_id": 1, "point": [57.5, 5.5], "bbox": [40, 5, 18, 10]}
    drawn = [box_rle(40, 5, 18, 10), [[40, 5, 58, 5, 58, 15, 40, 15]]]
    raw = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, **common, "segmentation": drawn[0]},
            {"id": 2, **common, "segmentation": drawn[1], "category_id": 1},
        ],
    }
    assert kinds(check(raw, str(tmp_path)))["exif-size"] == ["image 1"]
    del raw["annotations"][1]
    for segmentation in drawn:
        raw["annotations"][0]["segmentation"] = segmentation
        new, _, _ = repaired(raw, tmp_path)
        picture = read_image(tmp_path, "a.png")[0] > 0
        only = new["annotations"][0]
        mask = only["segmentation"]
        mask = rle.from_polygons(mask, SIZE[::-1]) if isinstance(mask, list) else mask
        assert (rle.decode([mask], SIZE[::-1])[0] == picture).all()
        assert only["bbox"] == rle.bounding_box(mask)
        x, y = only["point"]
        assert picture[int(y), int(x)]
        assert min(abs(x - int(x) - 0.5), abs(y - int(y) - 0.5)) < 1e-6


def test_no_image_folder_is_one_problem(raw: dict[str, Any], tmp_path: Path) -> None:
    found = check(raw, str(tmp_path / "none"))
    assert [item.kind for item in found.problems] == ["no-folder"]


def test_classes_and_images_that_lack_labels(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["categories"] += [{"id": 8, "name": "cow"}, {"id": 9, "name": "emu"}]
    raw["annotations"] += [
        {"id": 100 + n, "image_id": 2 + n % 2, "category_id": 8, "point": [n % 10 * 6, n // 10 * 6]}
        for n in range(60)
    ]
    found = kinds(check(raw, str(tmp_path), Limits(few=0.1)))
    assert found == {"class-not-strong": ["cow"], "few-labels": ["image 1"], "class-unused": ["emu"]}
    raw["annotations"] = [item for item in raw["annotations"] if "point" in item and item["id"] != 2]
    assert kinds(check(raw, str(tmp_path)))["no-strong"] == ["images"]


def test_sizes_are_those_that_the_network_sees(raw: dict[str, Any], tmp_path: Path) -> None:
    levels = Levels([(0, 10), (5, 19.9)], lambda height, width: 0.5 if height == 40 else 1.0)
    sizes = check(raw, str(tmp_path), levels=levels).coverage.sizes
    assert [item["objects"] for item in sizes["levels"]] == [1, 2]  # 4.5, 10 and 10 px
    assert sizes["no_level"] == 0
    found = check(raw, str(tmp_path), levels=Levels([(0, 9)], lambda height, width: 0.5))
    assert kinds(found) == {"no-level": ["annotation 2", "annotation 5"]}


def test_no_annotation_at_all(raw: dict[str, Any], tmp_path: Path) -> None:
    raw["annotations"] = []
    assert kinds(check(raw, str(tmp_path))) == {"class-unused": ["cat", "dog"]}
    assert kinds(check({"images": []}, str(tmp_path))).keys() >= {"document", "category"}


def crosses_by_hand(corners: list[tuple[int, int]]) -> bool:
    def side(a: Any, b: Any, c: Any) -> int:
        return int(np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])))

    edges = list(zip(corners, corners[1:] + corners[:1], strict=True))
    return any(
        side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
        for (a, b), (c, d) in itertools.combinations(edges, 2)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=9), min_size=1)
)
def test_crossing_polygons_of_all_lengths_at_once(polygons: list[list[tuple[int, int]]]) -> None:
    counts = np.array([len(polygon) for polygon in polygons])
    corners = np.array([corner for polygon in polygons for corner in polygon], dtype=float)
    found = crossing(corners, counts)
    assert found.tolist() == [crosses_by_hand(polygon) for polygon in polygons]


def test_close_pairs_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    points, groups = rng.uniform(0, 30, (200, 2)), rng.integers(0, 3, 200)
    apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
    close = (apart <= 2) & (groups[:, None] == groups[None])
    expected = {(i, j) for i, j in zip(*np.nonzero(close), strict=True) if i < j}
    assert {tuple(pair) for pair in close_pairs(points, groups, 2.0).tolist()} == expected
