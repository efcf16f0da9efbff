"""Reads COCO instance JSON record by record and reports what is wrong with it.

`CocoDocument` is tolerant: it hands every problem to a function and continues with the next record. `parse`
raises the first problem as an `InputError`; `wssis check` collects all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from wssis.data import rle as rle_api
from wssis.data.coco_fields import (
    Picture,
    box_of,
    clicks_of,
    is_number,
    kind_of_json,
    point_of,
    record_name,
    shown_ids,
    usable_id,
)
from wssis.data.images import MAX_PIXELS, leaves_folder
from wssis.data.records import Annotation, Category, Click, CocoData, ImageRecord
from wssis.data.rle import Rle
from wssis.errors import InputError

LISTS = ("images", "annotations", "categories")
TWICE = "expected distinct ids, found this one twice"
_KNOWN = {
    "id",
    "image_id",
    "category_id",
    "segmentation",
    "bbox",
    "area",
    "iscrowd",
    "point",
    "clicks",
    "score",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One invalid record.

    Attributes:
        kind: a key of `wssis.validation.problems.KINDS`.
        record: e.g. ``annotation 17``.
        detail: what is wrong with it.
        image: file name of its image, if it has one.
        place: index in the file's list `annotations`, `images` or `categories`; -1: none.
        other: index of the record that it repeats; -1: none.
        remedy: what to do about it.
        field: the invalid field, if the record is valid without it.
    """

    kind: str
    record: str
    detail: str = ""
    image: str = ""
    place: int = -1
    other: int = -1
    remedy: str = ""
    field: str = ""

    def as_json(self) -> dict[str, str]:
        """The fields that are not empty, for another program."""
        named = {"record": self.record, "image": self.image, "detail": self.detail}
        return {name: value for name, value in named.items() if value}


@dataclass(slots=True)
class RawAnnotation:
    """The valid fields of an annotation of a listed image and class; an invalid field is None (crowd: False).

    Attributes:
        place: index in the file's list.
        raw: the record.
        row: index of its image in `CocoDocument.pictures`.
        mask: polygons, or compressed RLE (damaged ones are in `CocoDocument.damaged` at the end).
    """

    place: int
    raw: dict[str, Any]
    row: int
    label: int
    crowd: bool
    score: float | None
    point: tuple[float, float] | None
    clicks: tuple[Click, ...]
    mask: list[list[float]] | Rle | None


class CocoDocument:
    """The valid images and categories of a file; `annotations` reads the rest.

    Args:
        raw: the JSON object, see `read_json`; it is not changed.
        report: called with each problem; may raise.

    Attributes:
        raw: with an empty list for each missing one.
        names: class names by label.
        labels: label by category id.
        pictures: images with an id and a file name.
        rows: index in `pictures` by image id.
        damaged: places of annotations whose RLE counts are damaged.
    """

    def __init__(self, raw: dict[str, Any], report: Callable[[Problem], None]) -> None:
        self.raw, self.report, self.damaged = dict(raw), report, set[int]()
        for name in LISTS:
            if not isinstance(raw.get(name), list):
                found = kind_of_json(raw[name]) if name in raw else "none"
                detail = f"expected a list {name!r}, found {found}"
                report(Problem("document", name, detail, remedy="Use COCO's instance format"))
                self.raw[name] = []
        found_names = self._categories()
        self.names = tuple(found_names[key] for key in sorted(found_names))
        self.labels = {key: label for label, key in enumerate(sorted(found_names))}
        self.pictures = list(self._pictures())
        self.rows = {picture.id: row for row, picture in enumerate(self.pictures)}

    def annotations(self) -> Iterator[RawAnnotation]:
        """Annotations in the file's order; damaged RLE counts are reported after the last one."""
        seen: set[int] = set()
        compressed: list[tuple[int, str, int]] = []  # place, counts, pixels: checked all at once
        for place, raw in enumerate(self.raw["annotations"]):
            item = self._annotation(raw, place, seen)
            if item is None:
                continue
            if type(item.mask) is dict and type(raw["segmentation"]["counts"]) is str:
                height, width = self.pictures[item.row].size
                compressed.append((place, item.mask["counts"], height * width))
            yield item
        sound = rle_api.sound([item[1] for item in compressed], [item[2] for item in compressed])
        for (place, _, pixels), good in zip(compressed, sound, strict=True):
            if not good:
                self.damaged.add(place)
                raw = self.raw["annotations"][place]
                detail = f"expected RLE counts of {pixels} pixels, found damaged ones or another sum"
                name = self.pictures[self.rows[raw["image_id"]]].file_name
                remedy = "Export the mask again for this image's size"
                self.report(Problem("bad-mask", record_name(raw, place), detail, name, place, remedy=remedy))

    def _categories(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for place, raw in enumerate(self.raw["categories"]):
            detail, record = _identity(raw, "category", "categories", place, found)
            if detail:
                self.report(Problem("category", record, detail, place=place, remedy="Number them anew"))
                continue
            key, name = raw["id"], raw.get("name")
            if not isinstance(name, str) or not name.strip():
                detail, name = f"expected a name, found {shown_ids(name)}", str(key)
            elif name in found.values():
                detail = f"expected distinct names, found {name!r} twice"
            if detail:
                remedy = "Give every category a name of its own"
                self.report(Problem("category", record, detail, place=place, remedy=remedy))
            found[key] = name
        if not self.raw["categories"]:
            detail = "expected at least one category, found none"
            self.report(Problem("category", "categories", detail, remedy="List the classes in 'categories'"))
        return found

    def _pictures(self) -> Iterator[Picture]:
        seen: set[int] = set()
        for place, raw in enumerate(self.raw["images"]):
            detail, record = _identity(raw, "image", "images", place, seen)
            name = raw.get("file_name") if isinstance(raw, dict) else None
            if detail:
                image = str(name or "")
                self.report(Problem("image-id", record, detail, image, place, remedy="Number them anew"))
                continue
            seen.add(raw["id"])
            if not isinstance(name, str) or not name or leaves_folder(name):
                inside = " inside the image folder" if isinstance(name, str) and name else ""
                detail = f"expected a file_name{inside}, found {shown_ids(name)}"
                remedy = "Use a path relative to the image folder, without '..'"
                self.report(Problem("image-name", record, detail, place=place, remedy=remedy))
                continue
            height, width = raw.get("height"), raw.get("width")
            remedy = "Correct the image's height and width"
            if type(height) is not int or type(width) is not int or height < 1 or width < 1:
                found = f"{shown_ids(height)} and {shown_ids(width)}"
                detail = f"expected height and width in whole pixels, found {found}"
            elif height * width > MAX_PIXELS:
                detail = f"expected at most {MAX_PIXELS // 1_000_000} megapixels, found {width} x {height}"
                remedy = "Correct the size, or cut the image into tiles"
            if detail:
                self.report(Problem("image-size", record, detail, name, place, remedy=remedy))
                height = width = 0
            yield Picture(place, raw["id"], name, height, width)

    def _annotation(self, raw: Any, place: int, seen: set[int]) -> RawAnnotation | None:
        name = ""

        def report(kind: str, detail: str, remedy: str, field: str = "") -> None:
            self.report(
                Problem(kind, record_name(raw, place), detail, name, place, remedy=remedy, field=field)
            )

        if not isinstance(raw, dict):
            report("reference", f"expected an object, found {kind_of_json(raw)}", "Export the file again")
            return None
        image_id, category_id = raw.get("image_id"), raw.get("category_id")
        row = self.rows.get(image_id) if type(image_id) is int else None
        label = self.labels.get(category_id) if type(category_id) is int else None
        if row is None:
            detail = f"expected the id of a listed image, found image_id {shown_ids(image_id)}"
            report("reference", detail, "Add the image to 'images' or remove the annotation")
            return None
        picture = self.pictures[row]
        name = picture.file_name
        if label is None:
            listed = sorted(self.labels)
            some = ", ".join(map(str, listed[:10])) + (", …" if len(listed) > 10 else "")
            detail = f"expected one of the category ids {some}, found category_id {shown_ids(category_id)}"
            report("reference", detail, "Add the category to 'categories' or correct the annotation")
            return None
        detail, _ = _identity(raw, "annotation", "annotations", place, seen)
        if detail:
            report("annotation-id", detail, "Number them anew")
        else:
            seen.add(raw["id"])
        mask, point, score = None, None, raw.get("score")
        crowd, segmentation = raw.get("iscrowd", 0), raw.get("segmentation")
        if crowd not in (0, 1):
            report("field", f"expected iscrowd 0 or 1, found {shown_ids(crowd)}", "Correct it", "iscrowd")
            crowd = 0
        if score is not None and not (is_number(score) and 0 <= score <= 1):
            report("field", f"expected a score in 0…1, found {shown_ids(score)}", "Scale it to 0…1", "score")
            score = None
        if raw.get("point") is not None:
            point = point_of(raw)
            if point is None:
                detail = f"expected a point [x, y], found {shown_ids(raw['point'])}"
                report("field", detail, "Correct the point", "point")
            elif picture.height and not (0 <= point[0] < picture.width and 0 <= point[1] < picture.height):
                detail = (
                    f"expected a point in the image of {picture.width} x {picture.height} px, "
                    f"found ({point[0]:g}, {point[1]:g})"
                )
                remedy = "Correct it: pixels, x to the right, y down, origin at the top left corner"
                report("point-outside", detail, remedy)
                point = None
        clicks: tuple[Click, ...] = ()
        try:
            clicks = clicks_of(raw, picture.size)
        except ValueError as error:
            detail = f"expected clicks [[x, y, 1 on the object or 0 beside it], …], found {error}"
            report("field", detail, "Correct the clicks", "clicks")
        if segmentation not in (None, []):
            try:
                mask = _mask(segmentation, picture)
            except ValueError as error:
                report("bad-mask", str(error), "Draw or export this mask again, or remove it")
        elif crowd or raw.get("point") is None:
            found = "a box only" if box_of(raw) else "neither"
            detail = f"expected a segmentation{'' if crowd else ' or a point'}, found {found}"
            report("no-label", detail, "Add one, or remove the annotation (boxes alone cannot be used)")
        return RawAnnotation(place, raw, row, label, bool(crowd), score, point, clicks, mask)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; NaN and Infinity are read as null.

    Raises:
        InputError: the file is missing or unreadable, or holds no JSON object with a list of images.
    """

    def fail(problem: str, remedy: str, record: str = "") -> NoReturn:
        raise InputError(problem, where=path, record=record, remedy=remedy) from None

    try:
        # NaN and Infinity are not JSON, yet some programs write them for unknown values.
        raw = json.loads(path.read_bytes(), parse_constant=lambda name: None)
    except FileNotFoundError:
        fail("expected a COCO JSON file, found none", "Check the path")
    except OSError as error:
        fail(f"cannot be read ({error.strerror})", "Check the path and its permissions")
    except json.JSONDecodeError as error:
        problem = f"expected JSON, found {error.msg} at column {error.colno}"
        fail(problem, "Export the file again; it may be truncated", f"line {error.lineno}")
    except (RecursionError, ValueError) as error:
        fail(f"expected JSON in UTF-8 ({error})", "Export the file again")
    remedy = "Use COCO's instance format; `wssis import` converts others"
    if not isinstance(raw, dict):
        found = kind_of_json(raw)
        fail(f"expected an object with 'images', 'annotations' and 'categories', found {found}", remedy)
    if not isinstance(raw.get("images"), list):
        found = kind_of_json(raw["images"]) if "images" in raw else "none"
        fail(f"expected a list 'images', found {found}", remedy)
    return raw


def image_dir_of(raw: dict[str, Any]) -> str | None:
    """The field `info.image_dir`, None if it is missing or invalid."""
    info = raw.get("info")
    folder = info.get("image_dir") if isinstance(info, dict) else None
    return folder if isinstance(folder, str) and folder else None


def parse_coco(path: Path, image_dir: str | None) -> CocoData:
    """The data set in a file; the first problem is raised. See `wssis.data.coco.load_coco`."""

    def fail(problem: Problem) -> NoReturn:
        raise InputError(problem.detail, where=path, record=problem.record, remedy=problem.remedy)

    raw = read_json(path)
    image_dir = image_dir or image_dir_of(raw)
    if image_dir is None:
        raise InputError(
            "expected info.image_dir, found none",
            where=path,
            remedy="Name the image folder in the parameters, or add it to the file as info.image_dir",
        )
    document = CocoDocument(raw, fail)
    annotations: list[list[Annotation]] = [[] for _ in document.pictures]
    for item in document.annotations():
        annotations[item.row].append(_record(item, document.pictures[item.row].size))
    images = (
        ImageRecord(
            *(picture.id, picture.file_name, picture.height, picture.width, tuple(items)),
            corrected=raw["images"][picture.place].get("corrected") is True,
        )
        for picture, items in zip(document.pictures, annotations, strict=True)
    )
    categories = tuple(Category(key, name) for key, name in zip(document.labels, document.names, strict=True))
    return CocoData(categories, tuple(images), image_dir, path)


def _record(item: RawAnnotation, size: tuple[int, int]) -> Annotation:
    raw, mask = item.raw, item.mask
    rle = rle_api.from_polygons(mask, size) if isinstance(mask, list) else mask
    extra = {name: value for name, value in raw.items() if name not in _KNOWN}
    area = raw.get("area")
    if rle is None or area is None or not (is_number(area) and area >= 0):
        area = None
    identity = raw["id"], item.label
    return Annotation(*identity, rle, item.point, item.crowd, item.score, extra, area, item.clicks)


def _identity(raw: Any, noun: str, plural: str, place: int, seen: Container[int]) -> tuple[str, str]:
    """What is wrong with a record's id ("" if nothing), and what a message calls the record."""
    if not isinstance(raw, dict):
        return f"expected an object, found {kind_of_json(raw)}", f"{plural}[{place}]"
    key = raw.get("id")
    if type(key) is not int:
        return f"expected a whole number as id, found {shown_ids(key)}", f"{plural}[{place}]"
    if not usable_id(key):
        return f"expected an id of 0 or more, found {key}", f"{noun} {key}"
    return TWICE if key in seen else "", f"{noun} {key}"


def _mask(segmentation: Any, picture: Picture) -> list[list[float]] | Rle | None:
    """Valid polygons, or compressed RLE; None where the image's size, and with it the RLE's, is unknown.

    Raises:
        ValueError: neither; says why.
    """
    if isinstance(segmentation, list):
        rle_api.check_polygons(segmentation, picture.size)
        return segmentation
    if not isinstance(segmentation, dict):
        raise ValueError(f"expected polygons or RLE as segmentation, found {kind_of_json(segmentation)}")
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if picture.height and size != [picture.height, picture.width]:
        raise ValueError(
            f"expected an RLE of the image's size [{picture.height}, {picture.width}], "
            f"found {shown_ids(size)}"
        )
    if not isinstance(counts, list | str):
        raise ValueError(f"expected RLE counts as text or a list, found {kind_of_json(counts)}")
    if not picture.height:
        return None
    if isinstance(counts, list):
        return rle_api.from_runs(counts, picture.size)
    return {"size": size, "counts": counts}
