"""Datumaro's JSON, as CVAT exports it, too: a file, or a folder of one file a subset.

    {"categories": {"label": {"labels": [{"name": "cell"}]}},
     "items": [{"id": "folder/a",                                      no suffix
                "image": {"path": "folder/a.png", "size": [H, W]},     or "media"; either may be absent
                "annotations": [{"id", "type", "label_id", "group", "attributes": {}, …}]}]}

by `type`, in pixels from the top left corner:

    mask      "rle": {"counts": text or list, "size": [H, W]}      COCO's, down the columns of the whole image
    polygon   "points": [x, y, x, y, …]
    bbox      "bbox": [x, y, width, height]; attribute "rotation": degrees clockwise about the middle
    ellipse   "points": [left, top, right, bottom]
    points    "points": [x, y, …], "visibility": [0 absent, 1 hidden, 2 visible]; absent ones are skipped
    label, caption, feature_vector, hash_key: say something of the image, skipped

Annotations of one group, other than 0, and one label are parts of one object. A rotated box counts as the
upright box around it. The attribute `is_crowd` makes a crowd of a label; `outside` says that it is not in the
image, and skips it. All other types (polyline, cuboid_3d, skeleton, …) are refused: they outline no object,
and leaving them out would show the object as background. An item without annotations is an image that shows
no object.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wssis.data import rle
from wssis.data.rle import Rle
from wssis.formats.geometry import ellipse, grouped, turned_box
from wssis.formats.json_fields import EXPORT_AGAIN, Record, files, load_json
from wssis.formats.records import Label, LabeledImage, Options, Part

SKIPPED = ("label", "caption", "feature_vector", "hash_key")
SHAPES = ("mask", "polygon", "bbox", "ellipse", "points")


def read(source: Path, options: Options) -> Iterator[LabeledImage]:
    """Images and labels of Datumaro's JSON; see the module's text."""
    for path in files(source, ".json"):
        document = Record.of(load_json(path), path, what="Datumaro's object of 'categories' and 'items'")
        names = _names(document)
        for item in document.children("items", "item"):
            yield _image(item, names, options)


def _names(document: Record) -> list[str]:
    labels = document.child("categories", {}).child("label", {}).children("labels", "label", [])
    return [label.text("name") for label in labels]


def _image(item: Record, names: list[str], options: Options) -> LabeledImage:
    name = item.label("id", item.get("id", "a text"))
    item = item.named(f"item {name!r}" if len(name) < 200 else item.record)
    media = item.child("image", None) if item.has("image") else item.child("media", {})
    path = media.text("path", "") or name
    size = None
    if media.has("size"):
        height, width = media.numbers("size", 2)
        size = int(height), int(width)
        item.check_size(size, "'size'")
    shapes: list[tuple[int | None, Label]] = []
    for place, annotation in enumerate(item.children("annotations", "annotation", [])):
        number = annotation.whole("id", place)
        annotation = annotation.named(f"{item.record}, annotation {number or place}")
        group = annotation.whole("group", 0) or None
        shapes += [(group, label) for label in _labels(annotation, names, size, options)]
    labels = grouped(shapes, item.where)
    return LabeledImage(path, labels, size, item.record, where=item.where, also=(name,) * (path != name))


def _labels(
    annotation: Record, names: list[str], size: tuple[int, int] | None, options: Options
) -> Iterator[Label]:
    kind = annotation.text("type")
    attributes = annotation.child("attributes", {})
    if kind in SKIPPED or attributes.fields.get("outside") is True:
        return
    if kind not in SHAPES:
        raise annotation.error(
            f"expected {', '.join(SHAPES)}, found {kind[:40]!r}, which outlines no object",
            f"Delete it or draw the object as a polygon, then {EXPORT_AGAIN.lower()}",
        )
    number = annotation.whole("label_id", None)
    if number is not None and not 0 <= number < len(names):
        raise annotation.error(f"expected 'label_id' below {len(names)} as the labels say, found {number}")
    name = "" if number is None else names[number]
    crowd = attributes.fields.get("is_crowd") in (True, 1)
    for shape in _shapes(kind, annotation, attributes, size, options):
        yield Label(name, annotation.record, crowd=crowd, **shape)


def _shapes(
    kind: str, annotation: Record, attributes: Record, size: tuple[int, int] | None, options: Options
) -> Iterator[dict[str, Any]]:
    """What the labels of an annotation have beside name and record."""
    if kind == "mask":
        yield {"rle": _mask(annotation, size)}
    elif kind == "bbox":
        x, y, width, height = annotation.numbers("bbox", 4)
        if width < 0 or height < 0:
            raise annotation.error(f"expected a box of 0 px or more, found {width:g} x {height:g}")
        degrees = attributes.number("rotation", 0.0)
        yield {"box": turned_box((x, y, width, height), degrees, (x + width / 2, y + height / 2))}
    elif kind == "ellipse":
        left, top, right, bottom = annotation.numbers("points", 4)
        radii = abs(right - left) / 2, abs(bottom - top) / 2
        yield {"parts": (Part(ellipse(((left + right) / 2, (top + bottom) / 2), radii)),)}
    else:
        values = annotation.numbers("points")
        if len(values) % 2:
            raise annotation.error(f"expected 'points' in pairs, found {len(values)} numbers")
        if kind == "points":
            yield from options.objects_of(_points(annotation, values))
        elif len(values) < 6:
            raise annotation.error(f"expected a polygon of 3 or more points, found {len(values) // 2}")
        else:
            yield {"parts": (Part(values),)}


def _points(annotation: Record, values: list[float]) -> list[tuple[float, float]]:
    points = list(zip(values[::2], values[1::2], strict=True))
    if annotation.has("visibility"):
        visibility = annotation.numbers("visibility", len(points))
        if not set(visibility) <= {0, 1, 2}:
            raise annotation.error("expected 'visibility' as 0, 1 or 2, found another number")
        points = [point for point, seen in zip(points, visibility, strict=True) if seen]
    return points


def _mask(annotation: Record, size: tuple[int, int] | None) -> Rle:
    coded = annotation.child("rle")
    height, width = (int(side) for side in coded.numbers("size", 2))
    coded.check_size((height, width), "a mask's 'size'")
    if size is not None and (height, width) != size:
        raise annotation.error(f"expected a mask of {size[1]} x {size[0]} px, found {width} x {height}")
    counts = coded.get("counts", "a text or list")
    if isinstance(counts, list):
        try:
            return rle.from_runs(counts, (height, width))
        except ValueError as error:
            raise annotation.error(str(error)) from error
    counts = coded.text("counts")
    if not rle.sound([counts], [height * width])[0]:
        raise annotation.error(f"expected RLE counts of {width} x {height} px, found others")
    return {"size": [height, width], "counts": counts}
