"""Clicks as CSV: `file,x,y,class`, one object a line.

====== ====================================================================
file   path or name of the image
x, y   pixels from the top left corner; both empty: the image shows no object
class  name; the column may be absent
====== ====================================================================

The columns may come in any order and beside others; `;` and tabs separate as well as commas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from wssis.data.points.csv import read_rows
from wssis.errors import InputError
from wssis.formats.records import Label, LabelledImage, Options


def read(source: Path, options: Options) -> Iterator[LabelledImage]:
    """Images of a CSV file, each with its clicks; see `wssis.formats.readers`."""
    images: dict[str, tuple[str, list[Label]]] = {}
    for line, (file, x, y, name) in read_rows(source, optional=("class",)):
        record = f"line {line}"
        if not file:
            raise InputError("expected a file name, found none", where=source, record=record)
        labels = images.setdefault(file, (record, []))[1]
        if x or y or name:
            point = _number(x, "x", source, record), _number(y, "y", source, record)
            labels.append(Label(name, record, point=point))
    for file, (record, labels) in images.items():
        yield LabelledImage(file, tuple(labels), record=record)


def _number(text: str, column: str, source: Path, record: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"expected a number as {column}, found {text!r}",
            where=source,
            record=record,
            remedy="Write pixels, with a point before decimals",
        )
    return value
