"""Files that annotation tools import: one writer per format, for pseudo-labels that annotators correct.

A writer takes a data set and the file or folder to write, and keeps the order of images and annotations.
An annotation with a mask becomes a mask, or polygons if the tool has no masks; one without becomes its
point. `score` is the quality shown beside it. To add a format, add a module and a line to `WRITERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wssis.data.coco import save_coco
from wssis.data.records import CocoData
from wssis.formats.writers import cvat, label_studio, labelme

Writer = Callable[[CocoData, Path], None]

WRITERS: dict[str, Writer] = {
    "coco": save_coco,
    "cvat": cvat.write,
    "labelstudio": label_studio.write,
    "labelme": labelme.write,
}
FOLDERS = frozenset({"labelme"})  # formats that write one file per image
