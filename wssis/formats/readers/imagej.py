"""ImageJ's Results table, saved as CSV or text: points of the (multi-)point tool, or measured particles.

     ,Label,Area,Mean,X,Y,Slice,Counter

`X` and `Y` have to be there; commas, tabs or semicolons separate, and with the latter two a decimal comma is
understood. Other columns are optional:

- `Label` is the image's title, with `:slice` or `:roi` behind it. Without one, the file's stem is the
  image's name. A title is what its window shows: `C1-a.tif` of a split channel is no file's name.
- `Area` above 0: the line is a measured region, X and Y are its centroid, and (0, 0) is the corner of the
  first pixel. No area: the line is a point, and since ImageJ 1.52u (0, 0) is the *center* of the first pixel,
  so 0.5 is added.
- `Counter` (multi-point tool) or `Type` (Cell Counter): the class, `counter 1` or `type 1`, if SOURCE has
  more than one; else all are `Options.name`.
- `Slice`, `Frame`, `Ch`: 0 or 1; an image has one frame here.

**X and Y are in the image's units.** Where Analyze > Set Scale gives micrometres, the table is in
micrometres and says so nowhere: take the scale out (Set Scale > Click to Remove Scale) before measuring.
Lines that Analyze > Summarize adds are refused. A table without lines says that its image shows no object.
SOURCE is a file, or a folder of .csv files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wssis.data.csv_tables import Row, read_table
from wssis.formats.json_fields import files
from wssis.formats.records import Label, LabeledImage, Options

CLASS_COLUMNS = ("counter", "type")
FRAME_COLUMNS = ("slice", "frame", "ch")
_SUMMARY = ("Mean", "SD", "Min", "Max")
_CENTRE = 0.5  # px from a pixel's corner to its center


def read(source: Path, options: Options) -> Iterator[LabeledImage]:
    """Every image of every table; see the module."""
    tables = {path: read_table(path, ("x", "y"))[1] for path in files(source, ".csv")}
    classes = {_class(row) for rows in tables.values() for row in rows}
    for path, rows in tables.items():
        images: dict[str, list[Label]] = {} if rows else {path.stem: []}
        for row in rows:
            name = (_class(row) if len(classes) > 1 else "") or options.name
            title = row.first(("label",))
            if title in _SUMMARY:
                raise row.error(
                    f"expected an object, found {title!r} of all lines",
                    "Delete the lines that Analyze > Summarize added",
                )
            image = title.partition(":")[0].strip() or path.stem
            images.setdefault(image, []).append(Label(name, row.record, point=_point(row)))
        for image, labels in images.items():
            yield LabeledImage(image, tuple(labels), where="" if path == source else str(path))


def _class(row: Row) -> str:
    column = next((name for name in CLASS_COLUMNS if row.cells.get(name)), None)
    return f"{column} {row.cells[column]}" if column else ""


def _point(row: Row) -> tuple[float, float]:
    for column in FRAME_COLUMNS:
        if row.cells.get(column) and row.number(column) not in (0, 1):
            raise row.error(
                f"expected points of one picture ({column} 0 or 1), found {column} {row.cells[column]}",
                "Save every slice as an image and a table of its own",
            )
    area = row.cells.get("area", "")
    region = area not in ("", "NaN") and row.number("area") > 0
    offset = 0.0 if region else _CENTRE
    return row.number("x") + offset, row.number("y") + offset
