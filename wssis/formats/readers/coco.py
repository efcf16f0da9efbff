"""COCO instance JSON, and what wssis itself writes.

======================= ==================================================================================
images                  `id`, `file_name`; `height`, `width` (pixels, optional)
categories              `id`, `name`
annotations             `image_id`, `category_id`, and one or more of:
  segmentation          polygons `[[x1, y1, x2, y2, …], …]` whose union is the mask;
                        `{"size": [H, W], "counts": […]}` (runs down the columns, background first), or the
                        same with compressed `counts` as text
  bbox                  `[x, y, width, height]`
  point                 `[x, y]` (ours)
  box                   `[x, y, width, height]` that a person drew beside or in place of the point (ours)
annotations, optional   `iscrowd` 0 or 1; `ignore` (a region of which nothing is known); `score` 0…1
======================= ==================================================================================

Pixels, origin at the top left corner. An image without annotations shows no object. Ids may be texts.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wssis.data import rle as rle_api
from wssis.data.coco_fields import clicks_of
from wssis.data.records import Click
from wssis.data.rle import Rle
from wssis.errors import InputError, shown
from wssis.formats.json_fields import Record, load_json
from wssis.formats.records import Label, LabeledImage, Options, Part


def read_keypoints(source: Path, options: Options) -> Iterator[LabeledImage]:
    """Images of a COCO keypoint file; see `wssis.formats.readers`."""
    return read_with(source, keypoint)


def read_pointsup(source: Path, options: Options) -> Iterator[LabeledImage]:
    """Images of a PointSup file; see `wssis.formats.readers`."""
    return read_with(source, point_sup)


def keypoint(item: Record) -> Clicked:
    """The point of an annotation with keypoints."""
    if not item.has("keypoints"):
        return own_point(item)
    values = item.numbers("keypoints")
    if len(values) % 3:
        raise item.error(f"expected keypoints x, y, v, found {len(values)} numbers")
    triples = list(zip(values[::3], values[1::3], values[2::3], strict=True))
    if wrong := [v for _, _, v in triples if v not in (0, 1, 2)]:
        raise item.error(f"expected v of keypoints as 0, 1 or 2, found {wrong[0]:g}")
    visible, hidden = ([(x, y) for x, y, v in triples if v == wanted] for wanted in (2, 1))
    return central(visible or hidden), ()


def point_sup(item: Record) -> Clicked:
    """The point of an annotation with point_coords, the most central one on the object, and the others."""
    if not item.has("point_coords"):
        return own_point(item)
    points, labels = item.pairs("point_coords"), item.numbers("point_labels")
    if len(points) != len(labels):
        raise item.error(f"expected a label for each of {len(points)} points, found {len(labels)}")
    if wrong := [label for label in labels if label not in (0, 1)]:
        raise item.error(f"expected point_labels of 0 or 1, found {wrong[0]:g}")
    point = central([point for point, label in zip(points, labels, strict=True) if label == 1])
    clicks = [(x, y, label == 1) for (x, y), label in zip(points, labels, strict=True)]
    if point is None:
        return None, ()
    clicks.remove((*point, True))
    return point, tuple(clicks)


def central(points: Sequence[Point]) -> Point | None:
    """The point nearest to the mean of all, the first of several; None of none."""
    if len(points) < 2:
        return points[0] if points else None
    array = np.array(points)
    x, y = array[((array - array.mean(0)) ** 2).sum(1).argmin()].tolist()
    return x, y


Point = tuple[float, float]
_NUMBERS = frozenset((int, float))
_LARGEST = 1e12
Clicked = tuple[Point | None, tuple[Click, ...]]
PointOf = Callable[[Record], Clicked]


def read(source: Path, options: Options) -> Iterator[LabeledImage]:
    """Images of a COCO file; see `wssis.formats.readers`."""
    return read_with(source, own_point)


def read_with(source: Path, point_of: PointOf) -> Iterator[LabeledImage]:
    """As `read`; `point_of` finds the point and further clicks of an annotation."""
    document = Record.of(load_json(source), source, what="COCO JSON with images, annotations, categories")
    names = _names(document)
    images = _images(document)
    groups = _grouped(document, images)
    where = document.where
    document.fields.clear()  # what is read need not stay in memory
    for key, image in images.items():
        labels = tuple(
            [_label(_record(place, raw, where), names, point_of) for place, raw in groups.pop(key)]
        )
        yield LabeledImage(image.text("file_name"), labels, image.size("height", "width"), image.record)


def own_point(item: Record) -> Clicked:
    """The fields `point` and `clicks`."""
    if item.fields.get("point") is None:
        return None, ()
    x, y = item.numbers("point", 2)
    try:
        return (x, y), clicks_of(item.fields)
    except ValueError as error:
        raise item.error(f"expected clicks [[x, y, 1 or 0], …], found {error}") from error


def _names(document: Record) -> dict[Any, str]:
    found: dict[Any, str] = {}
    for place, raw in enumerate(document.array("categories")):
        item = Record.of(raw, document.where, f"categories[{place}]")
        key = _key(item, "id")
        if key in found:
            raise item.error(f"expected distinct ids, found {key!r} twice")
        name = item.text("name").strip()
        if not name:
            raise item.error("expected a name, found an empty one", "Name every category")
        found[key] = name
    return found


def _images(document: Record) -> dict[Any, Record]:
    found: dict[Any, Record] = {}
    for place, raw in enumerate(document.array("images")):
        item = Record.of(raw, document.where, f"images[{place}]")
        key = _key(item, "id")
        if key in found:
            raise item.error(f"expected distinct ids, found {key!r} twice")
        found[key] = item.named(f"image {key}")
        if not item.text("file_name"):
            raise found[key].error("expected a file_name, found an empty one")
    return found


def _grouped(document: Record, images: dict[Any, Record]) -> dict[Any, list[tuple[int, dict[str, Any]]]]:
    """Place and fields of the annotations by image; their compressed masks are sound."""
    groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {key: [] for key in images}
    compressed: list[tuple[Record, str, int]] = []
    for place, raw in enumerate(document.array("annotations")):
        key = raw.get("image_id") if type(raw) is dict else None
        if key is None or type(key) not in (int, str) or key not in groups:
            item = _record(place, raw, document.where)
            key = _key(item, "image_id")
            raise item.error(
                f"expected the id of a listed image, found image_id {key!r}",
                "Add the image to 'images' or take the annotation out",
            )
        groups[key].append((place, raw))
        mask = raw.get("segmentation")
        if type(mask) is dict and isinstance(mask.get("counts"), str):
            item = _record(place, raw, document.where)
            size = _rle_size(item, mask)
            compressed.append((item, mask["counts"], size[0] * size[1]))
    good = rle_api.sound([row[1] for row in compressed], [row[2] for row in compressed])
    for (item, _, pixels), fine in zip(compressed, good, strict=True):
        if not fine:
            raise item.error(f"expected RLE counts of {pixels} pixels, found damaged ones or another sum")
    return groups


def _record(place: int, raw: Any, where: str) -> Record:
    """An annotation under its id, or its place if it has none."""
    if type(raw) is dict and type(raw.get("id")) is int:
        return Record(raw, where, f"annotation {raw['id']}")
    return Record.of(raw, where, f"annotations[{place}]")


def _label(item: Record, names: dict[Any, str], point_of: PointOf) -> Label:
    raw = item.fields
    key = _key(item, "category_id")
    if key not in names:
        raise item.error(
            f"expected the id of a listed category, found category_id {key!r}", "Add it to 'categories'"
        )
    parts: tuple[Part, ...] = ()
    rle: Rle | None = None
    box: tuple[float, float, float, float] | None = None
    mask = raw.get("segmentation")
    if mask:
        if isinstance(mask, dict):
            rle = _rle(item, mask)
        else:
            parts = _polygons(item, mask)
    for field in ("box", "bbox"):
        if box is None and raw.get(field):
            box = _box(item, field)
    point, clicks = point_of(item)
    crowd = item.flag("iscrowd") if raw.get("iscrowd") else False
    ignore = item.flag("ignore") if raw.get("ignore") else False
    score = item.number("score", None) if "score" in raw else None
    if score is not None and not 0 <= score <= 1:
        raise item.error(f"expected a score in 0…1, found {score:g}", "Scale it to 0…1")
    if not (parts or rle or box or point):
        raise item.error(
            "expected a segmentation, a bbox or a point, found none", "Add one, or take the annotation out"
        )
    return Label(names[key], item.record, parts, rle, box, point, crowd, ignore, score, clicks)


def _polygons(item: Record, mask: Any) -> tuple[Part, ...]:
    if isinstance(mask, list) and not isinstance(mask[0], list):
        mask = [mask]  # one polygon without the list around it
    try:
        if not isinstance(mask, list):
            raise TypeError
        return tuple([Part(array("d", ring)) for ring in mask])
    except (TypeError, OverflowError) as error:
        raise item.error(f"expected polygons [[x, y, …], …] or RLE, found {shown(mask)}") from error


def _box(item: Record, field: str) -> tuple[float, float, float, float]:
    value = item.fields[field]
    plain = type(value) is list and len(value) == 4 and all(map(_NUMBERS.__contains__, map(type, value)))
    if not plain or min(value) < -_LARGEST or max(value) > _LARGEST:
        item.numbers(field, 4)  # says what is wrong
    x, y, width, height = value
    return x, y, width, height


def _rle(item: Record, mask: dict[str, Any]) -> Rle:
    height, width = _rle_size(item, mask)
    counts = mask.get("counts")
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts}
    if not isinstance(counts, list):
        raise item.error(f"expected RLE counts as text or a list, found {shown(counts)}")
    try:
        return rle_api.from_runs(counts, (height, width))
    except (ValueError, OverflowError) as error:
        raise item.error(str(error)) from error


def _rle_size(item: Record, mask: dict[str, Any]) -> tuple[int, int]:
    size = mask.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int for side in size):
        raise item.error(f"expected the size of an RLE as [height, width], found {shown(size)}")
    item.check_size((size[0], size[1]), "the size of an RLE")
    return size[0], size[1]


def _key(item: Record, field: str) -> int | str:
    value = item.fields.get(field)
    if type(value) is int or isinstance(value, str):
        return value
    raise InputError(
        f"expected {field!r} as a whole number, found {shown(value)}",
        where=item.where,
        record=item.record,
        remedy="Export the file again",
    )
