"""What annotation tools export: one reader a format.

A reader is a function of a file or folder and `Options`; it yields a `LabelledImage` for every image that the
source names, and an `Unlabelled` for what it leaves out because nobody has looked at it. It raises
`InputError` that names file and record for anything that it does not understand, and nothing else whatever
the file holds. Another format is another module and a line in `READERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from wssis.formats.readers import (
    bdd100k,
    coco,
    csv,
    cvat,
    datumaro,
    dsb2018,
    imagej,
    label_image,
    label_studio,
    labelme,
    napari,
    qupath,
)
from wssis.formats.records import LabelledImage, Options, Unlabelled

Reader = Callable[[Path, Options], Iterator[LabelledImage | Unlabelled]]

READERS: dict[str, Reader] = {
    "bdd100k": bdd100k.read,
    "coco": coco.read,
    "coco-keypoints": coco.read_keypoints,
    "csv": csv.read,
    "cvat": cvat.read,
    "datumaro": datumaro.read,
    "dsb2018": dsb2018.read,
    "imagej": imagej.read,
    "labelimage": label_image.read,
    "labelme": labelme.read,
    "labelstudio": label_studio.read,
    "napari": napari.read,
    "pointsup": coco.read_pointsup,
    "qupath": qupath.read,
}
