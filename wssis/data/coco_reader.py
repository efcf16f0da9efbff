"""Checks a COCO JSON document and makes records of it; every fault names its file and record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from wssis.data import rle as rle_api
from wssis.data.images import MAX_PIXELS, leaves_folder
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.data.rle import Rle
from wssis.errors import InputError

_KNOWN = {"id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd", "point", "score"}
_MAX_ID = 2**63 - 1


def parse(path: Path, image_dir: str | None) -> CocoData:
    """The data set in the file `path`; see `wssis.data.coco.load_coco`."""
    return _Parser(path).run(image_dir)


class _Parser:
    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, problem: str, record: str = "", remedy: str = "") -> NoReturn:
        raise InputError(problem, where=self.path, record=record, remedy=remedy)

    def run(self, image_dir: str | None) -> CocoData:
        document = self.read()
        if image_dir is None:
            info = document.get("info")
            image_dir = info.get("image_dir") if isinstance(info, dict) else None
            if not isinstance(image_dir, str) or not image_dir:
                self.fail(
                    "expected info.image_dir, found none",
                    remedy="Name the image folder in the parameters, or add it to the file as info.image_dir",
                )
        categories = self.categories(document["categories"])
        images = self.images(document["images"])
        annotations = self.annotations(document["annotations"], categories, images)
        records = tuple(replace(item, annotations=tuple(annotations[item.id])) for item in images.values())
        return CocoData(categories, records, image_dir, self.path)

    def read(self) -> dict[str, Any]:
        try:
            # NaN and Infinity are no JSON, yet some programs write them: for "not known", read as such.
            document = json.loads(self.path.read_bytes(), parse_constant=lambda name: None)
        except FileNotFoundError:
            self.fail("expected a COCO JSON file, found none", remedy="Check the path")
        except OSError as error:
            self.fail(f"cannot be read ({error.strerror})", remedy="Check the path and its permissions")
        except json.JSONDecodeError as error:
            self.fail(
                f"expected JSON, found {error.msg} at column {error.colno}",
                record=f"line {error.lineno}",
                remedy="Export the file again; it may be cut off",
            )
        except (UnicodeDecodeError, RecursionError, ValueError) as error:
            self.fail(f"expected JSON in UTF-8 ({error})", remedy="Export the file again")
        if not isinstance(document, dict):
            self.fail(
                f"expected a JSON object with images, annotations and categories, found {_kind(document)}",
                remedy="Give COCO's instance format (a list of results is none)",
            )
        for key in ("images", "annotations", "categories"):
            if not isinstance(document.get(key), list):
                found = _kind(document[key]) if key in document else "none"
                self.fail(f"expected a list {key!r}, found {found}", remedy="Give COCO's instance format")
        return document

    def categories(self, records: list[Any]) -> tuple[Category, ...]:
        found: dict[int, Category] = {}
        names: set[str] = set()
        for number, raw in enumerate(records):
            key = self.identity(raw, "category", "categories", number, found)
            name = raw.get("name")
            if not isinstance(name, str) or not name.strip():
                self.fail(f"expected a name, found {name!r}", f"category {key}", "Give every category a name")
            if name in names:
                self.fail(f"expected distinct names, found {name!r} twice", f"category {key}", "Rename one")
            names.add(name)
            found[key] = Category(key, name)
        if not found:
            self.fail("expected at least one category, found none", remedy="List the classes in 'categories'")
        return tuple(found[key] for key in sorted(found))

    def images(self, records: list[Any]) -> dict[int, ImageRecord]:
        found: dict[int, ImageRecord] = {}
        for number, raw in enumerate(records):
            key = self.identity(raw, "image", "images", number, found)
            record = f"image {key}"
            name = raw.get("file_name")
            if not isinstance(name, str) or not name:
                self.fail(f"expected a file_name, found {name!r}", record, "Add the image's file name")
            if leaves_folder(name):
                self.fail(
                    f"expected a file_name inside the image folder, found {name!r}",
                    record,
                    "Use a path relative to the image folder, without '..'",
                )
            height, width = raw.get("height"), raw.get("width")
            if type(height) is not int or type(width) is not int or height < 1 or width < 1:
                self.fail(
                    f"expected height and width in whole pixels, found {height!r} and {width!r}",
                    record,
                    "Add the image's height and width",
                )
            if height * width > MAX_PIXELS:
                self.fail(
                    f"expected at most {MAX_PIXELS // 1_000_000} megapixels, found {width} x {height}",
                    record,
                    "Correct the size, or cut the image into tiles",
                )
            found[key] = ImageRecord(key, name, height, width, corrected=raw.get("corrected") is True)
        return found

    def annotations(
        self, records: list[Any], categories: tuple[Category, ...], images: dict[int, ImageRecord]
    ) -> dict[int, list[Annotation]]:
        labels = {category.id: label for label, category in enumerate(categories)}
        grouped: dict[int, list[Annotation]] = {key: [] for key in images}
        seen: set[int] = set()
        compressed: list[tuple[int, str, int]] = []  # annotation id, counts, pixels: checked all at once
        for number, raw in enumerate(records):
            key = self.identity(raw, "annotation", "annotations", number, seen)
            seen.add(key)
            image_id, category_id = raw.get("image_id"), raw.get("category_id")
            image = images.get(image_id) if type(image_id) is int else None
            label = labels.get(category_id) if type(category_id) is int else None
            if image is None:
                self.fail(
                    f"expected the id of a listed image, found image_id {image_id!r}",
                    f"annotation {key}",
                    "Add the image to 'images' or take the annotation out",
                )
            if label is None:
                self.fail(
                    f"expected one of the category ids {_some(labels)}, found category_id {category_id!r}",
                    f"annotation {key}",
                    "Add the category to 'categories' or correct the annotation",
                )
            annotation = self.annotation(raw, key, label, image)
            if annotation.rle is not None and type(raw["segmentation"]) is dict:
                compressed.append((key, annotation.rle["counts"], image.height * image.width))
            grouped[image.id].append(annotation)
        good = rle_api.sound([item[1] for item in compressed], [item[2] for item in compressed])
        for (key, _, pixels), fine in zip(compressed, good, strict=True):
            if not fine:
                self.fail(
                    f"expected RLE counts of {pixels} pixels, found damaged ones or another sum",
                    f"annotation {key}",
                    "Export the mask again for this image's size",
                )
        return grouped

    def annotation(self, raw: dict[str, Any], key: int, label: int, image: ImageRecord) -> Annotation:
        segmentation, point = raw.get("segmentation"), raw.get("point")
        rle = self.mask(segmentation, key, image) if segmentation not in (None, []) else None
        if point is not None:
            point = self.point(point, key, image)
        crowd, score, area = raw.get("iscrowd", 0), raw.get("score"), raw.get("area")
        if crowd not in (0, 1):
            self.fail(f"expected iscrowd 0 or 1, found {crowd!r}", f"annotation {key}", "Correct it")
        if rle is None and (point is None or crowd):
            found = "a box only" if raw.get("bbox") else "neither"
            self.fail(
                f"expected a segmentation{'' if crowd else ' or a point'}, found {found}",
                f"annotation {key}",
                "Add one, or take the annotation out (boxes alone cannot be used)",
            )
        if score is not None and not (_is_number(score) and 0 <= score <= 1):
            self.fail(f"expected a score in 0…1, found {score!r}", f"annotation {key}", "Scale it to 0…1")
        if area is None or not (_is_number(area) and area >= 0):
            area = None
        extra = {name: value for name, value in raw.items() if name not in _KNOWN}
        return Annotation(key, label, rle, point, bool(crowd), score, extra, area if rle else None)

    def mask(self, segmentation: Any, key: int, image: ImageRecord) -> Rle:
        try:
            if isinstance(segmentation, list):
                return rle_api.from_polygons(segmentation, image.size)
            if not isinstance(segmentation, dict):
                raise ValueError(f"expected polygons or RLE as segmentation, found {_kind(segmentation)}")
            size, counts = segmentation.get("size"), segmentation.get("counts")
            if size != [image.height, image.width]:
                raise ValueError(
                    f"expected an RLE of the image's size [{image.height}, {image.width}], found {size!r}"
                )
            if isinstance(counts, list):
                return rle_api.from_runs(counts, image.size)
            if not isinstance(counts, str):
                raise ValueError(f"expected RLE counts as text or a list, found {_kind(counts)}")
            return {"size": size, "counts": counts}
        except ValueError as error:
            self.fail(str(error), f"annotation {key}", "Draw or export this mask again, or take it out")

    def point(self, point: Any, key: int, image: ImageRecord) -> tuple[float, float]:
        if not isinstance(point, list) or len(point) != 2 or not all(map(_is_number, point)):
            self.fail(f"expected a point [x, y], found {point!r}", f"annotation {key}", "Correct the point")
        x, y = float(point[0]), float(point[1])
        if not (0 <= x < image.width and 0 <= y < image.height):
            self.fail(
                f"expected a point in the image of {image.width} x {image.height} px, found ({x:g}, {y:g})",
                f"annotation {key}",
                "Correct it: pixels, x to the right, y down, origin at the top left corner",
            )
        return x, y

    def identity(self, raw: Any, noun: str, key: str, number: int, seen: Any) -> int:
        """The record's id; fails if it has none of its own."""
        if not isinstance(raw, dict):
            self.fail(f"expected an object, found {_kind(raw)}", f"{key}[{number}]", "Export the file again")
        value = raw.get("id")
        if type(value) is not int:
            self.fail(
                f"expected a whole number as id, found {value!r}", f"{key}[{number}]", f"Number every {noun}"
            )
        if not 0 <= value <= _MAX_ID:
            self.fail(f"expected an id of 0 or more, found {value}", f"{noun} {value}", "Number them anew")
        if value in seen:
            self.fail("expected distinct ids, found this one twice", f"{noun} {value}", "Number them anew")
        return value


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -1e18 < value < 1e18  # false for NaN; isfinite(10**400) raises


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _some(values: Any) -> str:
    listed = sorted(values)
    return ", ".join(map(str, listed[:10])) + (", …" if len(listed) > 10 else "")
