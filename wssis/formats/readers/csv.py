"""Clicks as CSV: `file,x,y,class`, one object a line.

====== ====================================================================
file   path or name of the image
x, y   pixels from the top left corner; both empty: the image shows no object
class  name; the column may be absent
====== ====================================================================

The columns may come in any order and beside others; `;` and tabs separate as well as commas.
Further clicks on an object are as in `wssis.data.points.csv`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wssis.data.points.csv import clicked_rows, further_clicks, point_of_row
from wssis.formats.records import Label, LabeledImage, Options


def read(source: Path, options: Options) -> Iterator[LabeledImage]:
    """Images of a CSV file, each with its clicks; see `wssis.formats.readers`."""
    for file, rows in clicked_rows(source, required=("file", "x", "y")).items():
        labels = tuple(
            Label(
                clicks[0].text("class"),
                clicks[0].record,
                point=point_of_row(clicks[0]),
                clicks=further_clicks(clicks),
            )
            for clicks in rows.objects
        )
        yield LabeledImage(file, labels, record=rows.first.record)
