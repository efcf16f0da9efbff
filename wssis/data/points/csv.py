"""Points as CSV with the header `file,x,y,class`: an image's `file_name`, pixels, and a class name.

The columns may come in any order and beside others; `;` and tabs separate as well as commas. A row with a
file only (x, y and class empty) says that its image shows no object.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

from wssis.data.records import CocoData
from wssis.errors import InputError

COLUMNS = ("file", "x", "y", "class")


def read(path: Path, data: CocoData) -> dict[int, list[tuple[float, float, int]]]:
    """Points by image id of `data`; see `wssis.data.points.read_points`."""
    images = {image.file_name: image for image in data.images}
    labels = {name: label for label, name in enumerate(data.class_names)}
    points: dict[int, list[tuple[float, float, int]]] = {}
    for line, (file, x_text, y_text, name) in read_rows(path):
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
        rows.append((x, y, labels[name]))
    return points


def read_rows(path: Path, optional: tuple[str, ...] = ()) -> list[tuple[int, tuple[str, str, str, str]]]:
    """Line number and the four cells of every row that is not blank.

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
    rows: list[tuple[int, tuple[str, str, str, str]]] = []
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        if missing := [name for name in COLUMNS if name not in (*header, *optional)]:
            raise InputError(
                f"expected the columns {','.join(COLUMNS)}, found no {', '.join(missing)}",
                where=path,
                record="line 1",
                remedy=f"Start the file with {','.join(COLUMNS)}",
            )
        places = [header.index(name) if name in header else len(header) for name in COLUMNS]
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
            file, x, y, name = (padded[place] for place in places)
            rows.append((reader.line_num, (file, x, y, name)))
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
