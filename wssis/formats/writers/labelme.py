"""Writes LabelMe's JSON, one file for each image, named like it: polygons within 0.35 px of the outline.

    {"version": "5.4.1", "flags": {}, "imagePath": "../train/a.png", "imageData": null,
     "imageHeight": 48, "imageWidth": 64,
     "shapes": [{"label": "cell", "shape_type": "polygon", "points": [[x, y], …], "group_id": 17,
                 "description": "quality 0.431", "flags": {}},
                {"label": "cell", "shape_type": "point", "points": [[x, y]], …}]}

Parts of one mask share a `group_id`. LabelMe's polygons have no holes: those of a mask are filled.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

from wssis.data import rle as rle_api
from wssis.data.mask_to_polygons import outlines
from wssis.data.records import Annotation, CocoData
from wssis.errors import InputError
from wssis.files import write_json

TOLERANCE = 0.35  # px: corners nearer than this to the line between their neighbors are left out


def write(data: CocoData, folder: Path) -> None:
    """Write a file for each image of `data` into `folder`, in the folders below it that the image lies in.

    Raises:
        InputError: two images differ by their suffix only, so that their files would be one.
    """
    names: dict[PurePosixPath, str] = {}
    for record in data.images:
        name = PurePosixPath(record.file_name).with_suffix(".json")
        if name in names:
            raise InputError(
                f"expected distinct names without suffix, found {names[name]} and {record.file_name}",
                where=folder,
                remedy="Export them in another format",
            )
        names[name] = record.file_name
    for record, name in zip(data.images, names, strict=True):
        path = folder / name
        document: dict[str, Any] = {
            "version": "5.4.1",
            "flags": {},
            "shapes": [
                shape for item in record.annotations for shape in _shapes(item, data.class_names[item.label])
            ],
            "imagePath": Path(
                os.path.relpath(Path(data.image_dir) / record.file_name, path.parent)
            ).as_posix(),
            "imageData": None,
            "imageHeight": record.height,
            "imageWidth": record.width,
        }
        write_json(path, document, indent=2)


def _shapes(item: Annotation, name: str) -> list[dict[str, Any]]:
    found: list[tuple[str, list[list[float]], int | None]] = []
    if item.rle is not None and rle_api.area(item.rle):
        parts = outlines(item.rle, TOLERANCE)
        group = item.id if len(parts) > 1 else None
        found = [("polygon", [[round(x, 2), round(y, 2)] for x, y in part.outer], group) for part in parts]
    elif item.point is not None:
        found = [("point", [list(item.point)], None)]
    return [
        {
            "label": name,
            "points": points,
            "group_id": group,
            "description": "" if item.score is None else f"quality {item.score:.3f}",
            "shape_type": kind,
            "flags": {},
        }
        for kind, points, group in found
    ]
