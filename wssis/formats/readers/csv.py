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
from dataclasses import replace
from pathlib import Path

from wssis.data.points.csv import CLICKS, is_inside, read_rows
from wssis.errors import InputError
from wssis.formats.records import Label, LabelledImage, Options


def read(source: Path, options: Options) -> Iterator[LabelledImage]:
    """Images of a CSV file, each with its clicks; see `wssis.formats.readers`."""
    images: dict[str, tuple[str, list[Label]]] = {}
    places: dict[tuple[str, str], int] = {}  # of the objects that the file names, in their images' lists
    for line, (file, x, y, name, key, inside) in read_rows(source, optional=("class", *CLICKS)):
        record = f"line {line}"
        if not file:
            raise InputError("expected a file name, found none", where=source, record=record)
        labels = images.setdefault(file, (record, []))[1]
        if x or y or name:
            point = _number(x, "x", source, record), _number(y, "y", source, record)
            place = places.get((file, key)) if key and inside else None
            on_object = is_inside(inside, place is not None, source, record)
            if place is not None:
                known = labels[place]
                labels[place] = replace(known, clicks=(*known.clicks, (*point, on_object)))
            else:
                places[file, key] = len(labels)
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
