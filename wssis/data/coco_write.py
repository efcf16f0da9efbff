"""Makes a COCO JSON document of records and writes it; the way back of `coco_parse`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from wssis.data import rle as rle_api
from wssis.data.coco import Annotation, CocoData
from wssis.errors import InputError
from wssis.files import write_json


def write(data: CocoData, path: Path) -> None:
    """Write the data set to `path`; see `wssis.data.coco.save_coco`."""
    annotations = []
    for image in data.images:
        boxes = iter(rle_api.bounding_boxes([item.rle for item in image.annotations if item.rle]))
        for item in image.annotations:
            box = None if item.rle is None else next(boxes)
            annotations.append(_annotation_json(item, image.id, data.categories[item.label].id, box))
    images = [
        {"id": image.id, "file_name": image.file_name, "height": image.height, "width": image.width}
        | ({"corrected": True} if image.corrected else {})
        for image in data.images
    ]
    document = {
        "info": {"image_dir": portable_folder(data.image_dir)},
        "categories": [{"id": item.id, "name": item.name} for item in data.categories],
        "images": images,
        "annotations": annotations,
    }
    try:
        write_json(path, document)
    except ValueError as error:  # a number too large for a float in `extra`, which nothing has checked
        raise InputError(
            f"cannot be written as JSON ({error})",
            where=data.path or path,
            record=_unwritable(annotations),
            remedy="Take the field with this value out",
        ) from error


def _unwritable(annotations: list[dict[str, Any]]) -> str:
    for record in annotations:
        try:
            json.dumps(record, allow_nan=False)
        except ValueError:
            return f"annotation {record['id']}"
    return ""


def _annotation_json(item: Annotation, image_id: int, category_id: int, box: Any) -> dict[str, Any]:
    record: dict[str, Any] = {"id": item.id, "image_id": image_id, "category_id": category_id}
    if item.rle is not None:
        counts = item.rle["counts"]
        record["segmentation"] = {
            "size": [int(side) for side in item.rle["size"]],
            "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
        }
        record["bbox"] = box
        record["area"] = rle_api.area(item.rle) if item.area is None else item.area
    if item.point is not None:
        record["point"] = [float(value) for value in item.point]
    record["iscrowd"] = int(item.crowd)
    if item.score is not None:
        record["score"] = float(item.score)
    return {**item.extra, **record}


def portable_folder(folder: str) -> str:
    """A folder as files name it: relative if it is under the current one, absolute otherwise."""
    absolute = os.path.abspath(folder)
    relative = os.path.relpath(absolute)
    return absolute if relative.split(os.sep)[0] == os.pardir else relative
