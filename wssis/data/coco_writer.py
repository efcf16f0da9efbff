"""Makes a COCO JSON document of records and writes it; the way back of `coco_reader`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from wssis.data import rle as rle_api
from wssis.data.coco import Annotation, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.files import atomic_path


def write(data: CocoData, path: Path, images: Iterable[ImageRecord] | None = None) -> None:
    """Write the data set to `path`; see `wssis.data.coco.save_coco`."""
    images = data.images if images is None else images
    try:
        _write(data, path, images, orjson.dumps, b",", b":")
    except TypeError:  # whole numbers of over 64 bits in `extra`, file names that are no Unicode
        _write(data, path, images, lambda value: json.dumps(value).encode(), b", ", b": ")


def _write(
    data: CocoData,
    path: Path,
    images: Iterable[ImageRecord],
    dumps: Callable[[Any], bytes],
    comma: bytes,
    colon: bytes,
) -> None:
    """One annotation after the other: a document as a whole would be two more copies of them all."""
    head = {
        "info": {"image_dir": portable_folder(data.image_dir)},
        "categories": [{"id": item.id, "name": item.name} for item in data.categories],
        "images": [
            {"id": image.id, "file_name": image.file_name, "height": image.height, "width": image.width}
            | ({"corrected": True} if image.corrected else {})
            for image in data.images
        ],
    }
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(dumps(head)[:-1] + comma + b'"annotations"' + colon + b"[")
        between = b""
        for record in _records(data, path, images):
            file.write(between + dumps(record))
            between = comma
        file.write(b"]}\n")


def _records(data: CocoData, path: Path, images: Iterable[ImageRecord]) -> Iterator[dict[str, Any]]:
    """The annotations of all images as JSON."""
    for image in images:
        boxes = iter(rle_api.bounding_boxes([item.rle for item in image.annotations if item.rle]))
        for item in image.annotations:
            box = None if item.rle is None else next(boxes)
            if item.extra:
                _check_extra(item, data.path or path)
            yield _annotation_json(item, image.id, data.categories[item.label].id, box)


def _check_extra(item: Annotation, where: Path) -> None:
    """Numbers too large for a float are no JSON; orjson would write null, and nothing else has looked."""
    try:
        json.dumps(item.extra, allow_nan=False)
    except ValueError as error:
        raise InputError(
            f"cannot be written as JSON ({error})",
            where=where,
            record=f"annotation {item.id}",
            remedy="Take the field with this value out",
        ) from error


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
