"""LabelMe's JSON: one file an image, or a folder of them.

    {"imagePath": "..\\\\images\\\\a.png",     from the folder of the JSON file, which is put before it
     "imageData": null,                    or the image file in base64
     "imageHeight": 480, "imageWidth": 640,
     "shapes": [{"label": "cell", "points": [[x, y], …], "group_id": null, "shape_type": "polygon"}]}

by `shape_type`, in pixels from the top left corner:

    polygon (or none)   3 or more corners
    rectangle           two opposite corners, or four
    circle              the middle and a point of the line
    point               one point
    points              points
    mask                first and last pixel of a box; "mask": the box as PNG in base64, background 0

Shapes of one `group_id` (0 is one) and one label are parts of one object. Shapes labeled `__ignore__` are
regions of which nothing is known. Lines and linestrips, and types that are not named here, are refused: they
outline no object, and leaving them out would show the object as background. An image without shapes shows no
object.
"""

from __future__ import annotations

import base64
import io
import math
import posixpath
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wssis.data.images import leaves_folder
from wssis.data.rle import Rle
from wssis.formats.geometry import ellipse, grouped, hull, placed
from wssis.formats.json_fields import EXPORT_AGAIN, Record, files, load_json
from wssis.formats.records import Label, LabeledImage, Options, Part

IGNORE = "__ignore__"
COUNTS = {"point": (1,), "rectangle": (2, 4), "circle": (2,), "mask": (2,)}  # of points
SHAPES = ("polygon", *COUNTS, "points")
Size = tuple[int, int] | None


def read(source: Path, options: Options) -> Iterator[LabeledImage]:
    """Images and labels of LabelMe's JSON; see the module's text."""
    for path in files(source, ".json"):
        document = Record.of(load_json(path), path, what="LabelMe's object of 'imagePath' and 'shapes'")
        yield _image(document, path.relative_to(source).parent.as_posix() if path != source else "", options)


def _image(document: Record, folder: str, options: Options) -> LabeledImage:
    name = document.text("imagePath")
    file = posixpath.normpath(posixpath.join(folder, name.replace("\\", "/")))
    if not name or leaves_folder(file):
        file = name
    size = document.size("imageHeight", "imageWidth")
    shapes: list[tuple[str | None, Label]] = []
    for shape in document.children("shapes", "shape"):
        group = shape.label("group_id", shape.fields["group_id"]) if shape.has("group_id") else None
        shapes += [(group, label) for label in _labels(shape, size, options)]
    content = _decoded(document, "imageData") if document.has("imageData") else None
    return LabeledImage(file, grouped(shapes, document.where), size, content=content, where=document.where)


def _labels(shape: Record, size: Size, options: Options) -> Iterator[Label]:
    name = shape.label("label", shape.get("label", "a text"))
    kind = shape.text("shape_type", "polygon")
    if kind not in SHAPES:
        raise shape.error(
            f"expected {', '.join(SHAPES)}, found {kind[:40]!r}",
            "Delete it in LabelMe or draw the object as a polygon",
        )
    points = shape.pairs("points")
    if kind in COUNTS and len(points) not in COUNTS[kind]:
        expected = " or ".join(map(str, COUNTS[kind]))
        raise shape.error(f"expected a {kind} of {expected} points, found {len(points)}")
    ignore = name == IGNORE
    for found in _shapes(kind, points, shape, size, options):
        yield Label("" if ignore else name, shape.record, ignore=ignore, **found)


def _shapes(
    kind: str, points: list[tuple[float, float]], shape: Record, size: Size, options: Options
) -> Iterator[dict[str, Any]]:
    """What the labels of a shape have beside name and record."""
    if kind in ("point", "points"):
        yield from options.objects_of(points)
    elif kind == "rectangle":
        yield {"box": hull(points)}
    elif kind == "circle":
        radius = math.dist(*points)
        yield {"parts": (Part(ellipse(points[0], (radius, radius))),)}
    elif kind == "mask":
        yield {"rle": _mask(points, shape, size)}
    elif len(points) < 3:
        raise shape.error(f"expected a polygon of 3 or more points, found {len(points)}")
    else:
        yield {"parts": (Part([value for point in points for value in point]),)}


def _mask(points: list[tuple[float, float]], shape: Record, size: Size) -> Rle:
    if size is None:
        raise shape.error("expected 'imageHeight' and 'imageWidth', as a mask needs, found none")
    (left, top), (right, bottom) = ((round(x), round(y)) for x, y in points)
    data = _decoded(shape, "mask")
    expected = bottom - top + 1, right - left + 1
    shape.check_size(expected, "the box")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                found = image.size[1], image.size[0]
                mask = np.asarray(image.convert("L")) > 0 if found == expected else None
        except MemoryError:
            raise
        except Exception as error:  # decoders raise nearly anything on damaged files
            raise shape.error("expected 'mask' as a PNG in base64, found something else") from error
    if mask is None:
        boxed = f"{expected[1]} x {expected[0]} px as its points say"
        raise shape.error(f"expected a mask of {boxed}, found {found[1]} x {found[0]}")
    return placed(mask, left, top, size)


def _decoded(record: Record, key: str) -> bytes:
    try:
        return base64.b64decode(record.text(key), validate=True)
    except ValueError as error:
        raise record.error(f"expected {key!r} in base64, found something else", EXPORT_AGAIN) from error
