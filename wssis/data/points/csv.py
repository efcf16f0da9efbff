"""Points as CSV with the header `file,x,y,class`: an image's `file_name`, pixels, and a class name.

The columns may come in any order and beside others; `;` and tabs separate as well as commas. A row with a
file only (x, y and class empty) says that its image shows no object.

Two more columns are read if both are there: rows of a file with the same `object_id` are clicks on one
object, whose point is the first of them; `inside` is 1 for a click on the object and 0 for one beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wssis.data.csv_tables import Row, read_table
from wssis.data.records import Click, ClickedObject, CocoData

COLUMNS = ("file", "x", "y", "class")


@dataclass(slots=True)
class ClickedRows:
    """The rows about one image: the first of them, and those of each object, its point first."""

    first: Row
    objects: list[list[Row]] = field(default_factory=list)


def read(path: Path, data: CocoData) -> dict[int, list[ClickedObject]]:
    """Points by image id of `data`; see `wssis.data.points.read_points`."""
    images = {image.file_name: image for image in data.images}
    labels = {name: label for label, name in enumerate(data.class_names)}
    listed = ", ".join(data.class_names[:10]) + (", …" if data.num_classes > 10 else "")
    points: dict[int, list[ClickedObject]] = {}
    for file, rows in clicked_rows(path).items():
        image = images.get(file.replace("\\", "/"))
        if image is None:
            remedy = f"Write file names as in {data.path or 'the annotations'}"
            raise rows.first.error(f"expected an image of the data set, found {file!r}", remedy)
        found = points.setdefault(image.id, [])
        for clicks in rows.objects:
            name = clicks[0].text("class")
            if name not in labels:
                raise clicks[0].error(
                    f"expected a class of the data set, found {name!r}", f"Classes are {listed}"
                )
            for row in clicks:
                if not (0 <= row.number("x") < image.width and 0 <= row.number("y") < image.height):
                    raise row.error(
                        f"expected a point in the image of {image.width} x {image.height} px, "
                        f"found ({row.text('x')}, {row.text('y')})",
                        "Correct it: pixels, x to the right, y down, origin at the top left corner",
                    )
            found.append(ClickedObject(*point_of_row(clicks[0]), labels[name], further_clicks(clicks)))
    return points


def clicked_rows(path: Path, required: Sequence[str] = COLUMNS) -> dict[str, ClickedRows]:
    """The rows of each image by its file, in the order of the table.

    Raises:
        InputError: no such table, a row without a file, clicks of one object with several classes, or one
            whose first click is beside it.
    """
    images: dict[str, ClickedRows] = {}
    named: dict[tuple[str, str], list[Row]] = {}  # clicks of the objects that have an id
    for row in read_table(path, required)[1]:
        file, key, inside = row.text("file"), row.text("object_id"), row.text("inside")
        if not file:
            raise row.error("expected a file name, found none")
        rows = images.setdefault(file, ClickedRows(row))
        if not any(map(row.text, ("x", "y", "class"))):
            continue
        if inside not in ("", "0", "1"):
            raise row.error(f"expected inside 1 (on the object) or 0 (beside it), found {inside!r}")
        clicks = named.setdefault((file, key), []) if key and inside else []
        if not clicks:
            rows.objects.append(clicks)
            if inside == "0":
                raise row.error(
                    "expected a click on the object first, found one beside it",
                    "Give the rows of one object the same object_id, the point first",
                )
        elif clicks[0].text("class") != row.text("class"):
            raise row.error(
                f"expected the class of object {key}, {clicks[0].text('class')}, found {row.text('class')}",
                "Give clicks on one object the same class",
            )
        clicks.append(row)
    return images


def point_of_row(row: Row) -> tuple[float, float]:
    """x, y in pixels."""
    return row.number("x"), row.number("y")


def further_clicks(clicks: Sequence[Row]) -> tuple[Click, ...]:
    """The clicks of an object after the first."""
    return tuple((*point_of_row(row), row.text("inside") != "0") for row in clicks[1:])
