"""CSV of napari: a points layer or a shapes layer, saved with File > Save Selected Layers.

    index,axis-0,axis-1                            points, a line each; columns of properties may follow
    index,shape-type,vertex-index,axis-0,axis-1    shapes, a line a corner

Axes are those of the array: of the last two, the first is the row (y), the second the column (x). More axes
come before them (frame, slice, …) and have to be 0 throughout: an image has one frame here. In napari, (0, 0)
is the *center* of the first pixel (it covers -0.5 … 0.5); here it is the pixel's corner, so 0.5 is added.
Layers are saved in pixels of their own data: a layer that was scaled or moved in napari is not.

The class is the first of the columns `label`, `class`, `name` that is there, else `Options.name`. Of shapes,
`polygon` and `ellipse` (its four corners are saved) are masks, an upright `rectangle` is a box; `line` and
`path` enclose nothing and are refused. A table without lines says that its image shows no object.

The file names no image: its stem is the image's name. SOURCE is a file, or a folder with one a image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from wssis.data.csv_tables import Row, read_table
from wssis.errors import InputError
from wssis.formats.json_fields import files
from wssis.formats.records import Label, LabeledImage, Options, Part

CLASS_COLUMNS = ("label", "class", "name")
_CENTRE = 0.5  # px from a pixel's corner to its center
_ELLIPSE_CORNERS = 64

Point = tuple[float, float]


def read(source: Path, options: Options) -> Iterator[LabeledImage]:
    """The image of every table; see the module."""
    for path in files(source, ".csv"):
        columns, rows = read_table(path, ("axis-0", "axis-1"))
        axes = _axes(columns, path)
        if "shape-type" in columns:
            if missing := [name for name in ("index", "vertex-index") if name not in columns]:
                raise InputError(f"expected a column {missing[0]}, found none", where=path, record="line 1")
            labels = [_shape(shape, axes, options) for shape in _shapes(rows)]
        else:
            labels = [
                Label(
                    name=row.first(CLASS_COLUMNS) or options.name, record=row.record, point=_point(row, axes)
                )
                for row in rows
            ]
        yield LabeledImage(path.stem, tuple(labels), where="" if path == source else str(path))


def _axes(columns: Sequence[str], path: Path) -> list[str]:
    axes = sorted(name for name in columns if name.startswith("axis-"))
    expected = [f"axis-{place}" for place in range(len(axes))]
    if axes != expected or len(axes) > 9:
        raise InputError(
            f"expected the columns {', '.join(expected[:9])}, found {', '.join(axes)[:100]}",
            where=path,
            record="line 1",
        )
    return axes


def _point(row: Row, axes: Sequence[str]) -> Point:
    """(x, y) in pixels from the corner of the image."""
    *before, y, x = (row.number(axis) for axis in axes)
    for axis, value in zip(axes, before, strict=False):
        if value != 0:
            raise row.error(
                f"expected points of one frame ({axis} 0 throughout), found {axis} {value:g}",
                "Save every frame as an image and a table of its own",
            )
    return x + _CENTRE, y + _CENTRE


def _shapes(rows: Sequence[Row]) -> list[list[Row]]:
    """The lines of each shape, in the order of its corners."""
    shapes: dict[float, list[Row]] = {}
    for row in rows:
        shapes.setdefault(row.number("index"), []).append(row)
    return [sorted(shape, key=lambda row: row.number("vertex-index")) for shape in shapes.values()]


def _shape(rows: Sequence[Row], axes: Sequence[str], options: Options) -> Label:
    kind = rows[0].cells["shape-type"].lower()
    name, record = rows[0].first(CLASS_COLUMNS) or options.name, rows[0].record
    corners = [_point(row, axes) for row in rows]
    if kind == "polygon" and len(corners) >= 3:
        return Label(name, record, parts=(Part([value for corner in corners for value in corner]),))
    if kind == "ellipse" and len(corners) == 4:
        return Label(name, record, parts=(Part(_ellipse(corners)),))
    if kind == "rectangle" and len(corners) in (2, 4):
        xs, ys = sorted({x for x, _ in corners}), sorted({y for _, y in corners})
        if len(xs) != 2 or len(ys) != 2:
            raise rows[0].error("expected an upright rectangle, found a turned one", "Draw it as a polygon")
        return Label(name, record, box=(xs[0], ys[0], xs[1] - xs[0], ys[1] - ys[0]))
    raise rows[0].error(
        f"expected a polygon of 3 or more corners, an ellipse or rectangle of 4, "
        f"found {len(corners)} of a {kind or 'shape without type'!r}",
        "Delete the shape, or draw it as a polygon",
    )


def _ellipse(corners: Sequence[Point]) -> list[float]:
    """A polygon of the ellipse inside a parallelogram."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    center_x, center_y = (x0 + x1 + x2 + x3) / 4, (y0 + y1 + y2 + y3) / 4
    ring = []
    for step in range(_ELLIPSE_CORNERS):
        angle = 2 * math.pi * step / _ELLIPSE_CORNERS
        along, across = math.cos(angle) / 2, math.sin(angle) / 2
        ring += [
            center_x + (x1 - x0) * along + (x3 - x0) * across,
            center_y + (y1 - y0) * along + (y3 - y0) * across,
        ]
    return ring
