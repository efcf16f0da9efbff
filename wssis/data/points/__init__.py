"""Points files: one reader per format, chosen by the file's suffix.

A reader is a function of a path and the data set that the points belong to; it returns, by image id, the
clicked objects of every listed image. To add a format, add a module and a line here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wssis.data.points import coco, csv
from wssis.data.records import ClickedObject, CocoData
from wssis.errors import InputError

Points = dict[int, list[ClickedObject]]

READERS: dict[str, Callable[[Path, CocoData], Points]] = {".json": coco.read, ".csv": csv.read}


def read_points(path: str | Path, data: CocoData) -> Points:
    """Clicked objects by image id: pixels, 0 ≤ x < W, 0 ≤ y < H; an image may have none.

    Args:
        path: a file of a suffix in `READERS`.
        data: the images and classes that the file refers to.

    Raises:
        InputError: unknown suffix, unreadable file, unknown image or class, a point outside its image.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"expected a points file ({', '.join(READERS)}), found {path.suffix or 'no suffix'!r}",
            where=path,
            remedy="Save it in one of these formats",
        )
    return reader(path, data)
