"""Tables as text with a header, which measuring tools export: commas, semicolons or tabs between the cells.

Where semicolons or tabs separate, `12,5` is read as 12.5, as it is written in half of Europe.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wssis.errors import InputError, shown
from wssis.files import read_bytes

_LARGEST = 1e12  # as in `wssis.formats.json_fields`


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: cells by the column's name in small letters, stripped."""

    cells: dict[str, str]
    where: Path
    record: str
    decimal_comma: bool

    def error(self, problem: str, remedy: str = "Correct that line") -> InputError:
        """The error to raise about this line."""
        return InputError(problem, where=self.where, record=self.record, remedy=remedy)

    def number(self, column: str) -> float:
        """A finite number, at most 10^12 from zero.

        Raises:
            InputError: anything else.
        """
        text = self.cells[column]
        plain = text.replace(",", ".") if self.decimal_comma and "." not in text else text
        try:
            # Python would also read 1_000 and the digits of other scripts.
            number = float(plain) if plain.isascii() and "_" not in plain else math.nan
        except ValueError:
            number = math.nan
        if not -_LARGEST <= number <= _LARGEST:  # NaN is not, either
            raise self.error(f"expected {column!r} as a number, found {shown(text)}")
        return number

    def text(self, column: str) -> str:
        """The text of a cell; "" without that column."""
        return self.cells.get(column, "")

    def first(self, columns: Sequence[str]) -> str:
        """The text of the first of `columns` that the table has; "" without one."""
        return next((self.cells[name] for name in columns if name in self.cells), "")


def read_table(path: Path, required: Sequence[str]) -> tuple[list[str], list[Row]]:
    """The columns, in small letters, and all lines that are not blank.

    Args:
        path: the file, UTF-8.
        required: columns that it has to have.

    Raises:
        InputError: unreadable, not UTF-8, without a required column, a column twice, more cells than columns.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"expected a table as text in UTF-8, found something else ({error.reason})",
            where=path,
            remedy="Save it as CSV in UTF-8",
        ) from error
    header = text.partition("\n")[0]
    delimiter = next((mark for mark in ("\t", ";", ",") if mark in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = []
    try:
        columns = [cell.strip().lower() for cell in next(reader, [])]
        _check(columns, required, path)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            row = Row({}, path, f"line {reader.line_num}", delimiter != ",")
            if any(cell.strip() for cell in cells[len(columns) :]):
                remedy = "Write numbers with a point, and texts that hold a separator in quotes"
                raise row.error(f"expected {len(columns)} cells, found {len(cells)}", remedy)
            padded = [cell.strip() for cell in cells[: len(columns)]] + [""] * (len(columns) - len(cells))
            row.cells.update(zip(columns, padded, strict=True))
            rows.append(row)
    except csv.Error as error:
        raise InputError(
            f"expected CSV ({error})",
            where=path,
            record=f"line {reader.line_num}",
            remedy="Correct that line",
        ) from error
    return columns, rows


def _check(columns: Sequence[str], required: Sequence[str], path: Path) -> None:
    missing = [name for name in required if name not in columns]
    twice = [name for name in columns if name and columns.count(name) > 1] if len(columns) < 1000 else columns
    if missing or twice:
        raise InputError(
            f"expected the columns {', '.join(required)}, found no {', '.join(missing)}"
            if missing
            else f"expected a column once, found {shown(twice[0])} again",
            where=path,
            record="line 1",
            remedy="Save the table with its header",
        )
