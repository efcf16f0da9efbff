"""Files that annotation tools export: one reader per format.

A reader takes a file or folder and `Options`. It yields a `LabeledImage` for each image in the source and an
`Unlabeled` for each image that no annotator has reviewed. Whatever the file holds, a reader raises only
`InputError`, which names file and record. To add a format, add a module and a line to `READERS`.
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
from wssis.formats.records import LabeledImage, Options, Unlabeled

Reader = Callable[[Path, Options], Iterator[LabeledImage | Unlabeled]]

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
