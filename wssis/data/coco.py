"""Loads and saves COCO instance JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from wssis.data import rle as rle_api
from wssis.data.coco_reader import parse_coco
from wssis.data.records import Annotation, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.files import atomic_path, gc_disabled


def load_coco(path: str | Path, image_dir: str | Path | None = None) -> CocoData:
    """Read a COCO instance file and check every record.

    Polygons, compressed and uncompressed RLE all become compressed RLE. Unknown fields are kept in
    `Annotation.extra`. Image files are not opened.

    Args:
        path: the JSON file.
        image_dir: folder of its images; None: `info.image_dir` of the file.

    Raises:
        InputError: the file is missing or is not COCO JSON, or a record is invalid.

    Example:
        >>> from wssis.data.synthetic import generate
        >>> _ = generate("scenes", n_train=3, n_val=2, size=64)
        >>> data = load_coco("scenes/train.json")
        >>> len(data.images), data.class_names, data.images[0].size
        (3, ('disc', 'square', 'triangle', 'star'), (64, 64))
    """
    with gc_disabled():
        return parse_coco(Path(path), None if image_dir is None else str(image_dir))


def save_coco(data: CocoData, path: str | Path, images: Iterable[ImageRecord] | None = None) -> None:
    """Write COCO JSON atomically; `load_coco` reads the same data back.

    Annotations with a mask get `segmentation` (compressed RLE), `bbox` and `area`; those with only a point
    get none of the three. `info.image_dir` is relative if the folder is under the current directory.

    Args:
        data: what to write.
        path: the file.
        images: the images of `data` in the same order with other annotations, held in memory one at a time.
            May be iterated over twice.

    Raises:
        InputError: the disk is full, the folder is read-only, or a field in `extra` is not JSON.
    """
    path, images = Path(path), data.images if images is None else images
    with gc_disabled():
        try:
            _write(data, path, images, orjson.dumps, b",", b":")
        except TypeError:  # integers over 64 bits in `extra`, or file names that are not Unicode
            _write(data, path, images, lambda value: json.dumps(value).encode(), b", ", b": ")


def portable_folder(folder: str) -> str:
    """A folder as files name it: relative if it is under the current directory, otherwise absolute."""
    absolute = os.path.abspath(folder)
    relative = os.path.relpath(absolute)
    return absolute if relative.split(os.sep)[0] == os.pardir else relative


def _write(
    data: CocoData,
    path: Path,
    images: Iterable[ImageRecord],
    dumps: Callable[[Any], bytes],
    comma: bytes,
    colon: bytes,
) -> None:
    """Write one annotation at a time: a whole document would be two more copies of all of them."""
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
        separator = b""
        for record in _annotations(data, path, images):
            file.write(separator + dumps(record))
            separator = comma
        file.write(b"]}\n")


def _annotations(data: CocoData, path: Path, images: Iterable[ImageRecord]) -> Iterator[dict[str, Any]]:
    """The annotations of all images as JSON."""
    for image in images:
        for item in image.annotations:
            if item.extra:
                _check_extra(item, data.path or path)
        yield from annotation_records(data, image)


def annotation_records(data: CocoData, image: ImageRecord) -> Iterator[dict[str, Any]]:
    """An image's annotations as COCO annotations with the category ids of `data`."""
    boxes = iter(rle_api.bounding_boxes([item.rle for item in image.annotations if item.rle]))
    for item in image.annotations:
        box = None if item.rle is None else next(boxes)
        yield _annotation(item, image.id, data.categories[item.label].id, box)


def _check_extra(item: Annotation, where: Path) -> None:
    """Refuse numbers too large for a float: they are not JSON, and orjson would write null."""
    try:
        json.dumps(item.extra, allow_nan=False)
    except ValueError as error:
        raise InputError(
            f"cannot be written as JSON ({error})",
            where=where,
            record=f"annotation {item.id}",
            remedy="Remove the field with this value",
        ) from error


def _annotation(item: Annotation, image_id: int, category_id: int, box: Any) -> dict[str, Any]:
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
    if item.clicks:
        record["clicks"] = [[float(x), float(y), int(inside)] for x, y, inside in item.clicks]
    record["iscrowd"] = int(item.crowd)
    if item.score is not None:
        record["score"] = float(item.score)
    return {**item.extra, **record}
