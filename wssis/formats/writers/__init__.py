"""What annotation tools import: one writer a format, of pseudo-labels that people are to correct.

A writer is a function of a data set and the file or folder to write. Images and annotations keep the order
of the data set. An annotation with a mask becomes a mask, or polygons where the tool knows no better; one
without becomes its point. `score` is the quality that is shown beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wssis.data.coco import save_coco
from wssis.data.records import CocoData
from wssis.formats.writers.cvat import write_cvat
from wssis.formats.writers.label_studio import write_labelstudio
from wssis.formats.writers.labelme import write_labelme

Writer = Callable[[CocoData, Path], None]

WRITERS: dict[str, Writer] = {
    "coco": save_coco,
    "cvat": write_cvat,
    "labelstudio": write_labelstudio,
    "labelme": write_labelme,
}
FOLDERS = frozenset({"labelme"})  # formats of a file for each image
