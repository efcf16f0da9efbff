"""Points as CSV with the header `file,x,y,class`: an image's `file_name`, pixels, and a class name.

The columns may come in any order and beside others; `;` and tabs separate as well as commas. A row with a
file only (x, y and class empty) says that its image shows no object.

Two more columns are read if both are there: rows of a file with the same `object_id` are clicks on one
object, whose point is the first of them; `inside` is 1 for a click on the object and 0 for one beside it.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from wssis.data.records import ClickedObject, CocoData
from wssis.errors import InputError

COLUMNS = ("file", "x", "y", "class")
CLICKS = ("object_id", "inside")  # optional columns


def read(path: Path, data: CocoData) -> dict[int, list[ClickedObject]]:
    """Points by image id of `data`; see `wssis.data.points.read_points`."""
    images = {image.file_name: image for image in data.images}
    labels = {name: label for label, name in enumerate(data.class_names)}
    points: dict[int, list[ClickedObject]] = {}
    places: dict[tuple[int, str], int] = {}  # of the objects that the file names, in their images' lists
    for line, (file, x_text, y_text, name, key, inside) in read_rows(path, optional=CLICKS):
        record = f"line {line}"
        image = images.get(file.replace("\\", "/"))
        if image is None:
            raise InputError(
                f"expected an image of the data set, found {file!r}",
                where=path,
                record=record,
                remedy=f"Write file names as in {data.path or 'the annotations'}",
            )
        rows = points.setdefault(image.id, [])
        if not (x_text or y_text or name):
            continue
        if name not in labels:
            listed = ", ".join(data.class_names[:10]) + (", …" if data.num_classes > 10 else "")
            raise InputError(
                f"expected a class of the data set, found {name!r}",
                where=path,
                record=record,
                remedy=f"Classes are {listed}",
            )
        x, y = _number(x_text), _number(y_text)
        if not (0 <= x < image.width and 0 <= y < image.height):
            raise InputError(
                f"expected a point in the image of {image.width} x {image.height} px, "
                f"found ({x_text}, {y_text})",
                where=path,
                record=record,
                remedy="Correct it: pixels, x to the right, y down, origin at the top left corner",
            )
        key = key if inside else ""  # without the column `inside` each row is an object
        place = places.get((image.id, key)) if key else None
        on_object = is_inside(inside, place is not None, path, record)
        if place is None:
            places[image.id, key] = len(rows)
            rows.append(ClickedObject(x, y, labels[name]))
            continue
        known = rows[place]
        if known.label != labels[name]:
            raise InputError(
                f"expected the class of object {key}, {data.class_names[known.label]}, found {name}",
                where=path,
                record=record,
                remedy="Give clicks on one object the same class",
            )
        rows[place] = known._replace(clicks=(*known.clicks, (x, y, on_object)))
    return points


def is_inside(text: str, further: bool, path: Path, record: str) -> bool:
    """Whether a click is on its object, from the cell `inside`; `further`: it is not the object's first.

    Raises:
        InputError: neither 1 nor 0 nor empty, or the first click is beside the object.
    """
    if text not in ("", "0", "1"):
        raise InputError(
            f"expected inside 1 (on the object) or 0 (beside it), found {text!r}",
            where=path,
            record=record,
            remedy="Correct it",
        )
    if text == "0" and not further:
        raise InputError(
            "expected a click on the object first, found one beside it",
            where=path,
            record=record,
            remedy="Give the rows of one object the same object_id, the point first",
        )
    return text != "0"


def read_rows(path: Path, optional: tuple[str, ...] = ()) -> list[tuple[int, tuple[str, ...]]]:
    """Line number and the cells of every row that is not blank: `COLUMNS`, then others of `optional`.

    Args:
        path: the file.
        optional: columns that may be absent; their cells are empty.

    Raises:
        InputError: no CSV, without a column, or a row of more cells than the header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError("expected a points file, found none", where=path, remedy="Check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", where=path, remedy="Save it as CSV in UTF-8") from error
    first = text.partition("\n")[0]
    delimiter = next((mark for mark in (",", ";", "\t") if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[tuple[int, tuple[str, ...]]] = []
    names = (*COLUMNS, *(name for name in optional if name not in COLUMNS))
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        if missing := [name for name in COLUMNS if name not in (*header, *optional)]:
            raise InputError(
                f"expected the columns {','.join(COLUMNS)}, found no {', '.join(missing)}",
                where=path,
                record="line 1",
                remedy=f"Start the file with {','.join(COLUMNS)}",
            )
        places = [header.index(name) if name in header else len(header) for name in names]
        for row in reader:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if any(cells[len(header) :]):
                raise InputError(
                    f"expected {len(header)} cells, found {len(cells)}",
                    where=path,
                    record=f"line {reader.line_num}",
                    remedy="Write numbers with a point, and texts that hold a separator in quotes",
                )
            padded = [*cells[: len(header)], *[""] * (1 + max(len(header) - len(cells), 0))]
            rows.append((reader.line_num, tuple(padded[place] for place in places)))
    except csv.Error as error:
        raise InputError(
            f"expected CSV ({error})", where=path, record=f"line {reader.line_num}", remedy="Fix that line"
        ) from error
    return rows


def _number(text: str) -> float:
    """The number, or NaN, which lies in no image."""
    try:
        return float(text)
    except ValueError:
        return math.nan
