"""Writes tasks for Label Studio: JSON, masks exact, as predictions that people turn into annotations.

    [{"data": {"image": "/data/local-files/?d=a.png"},
      "predictions": [{"model_version": "wssis", "score": 0.43, "result": [
        {"id": "17", "type": "brushlabels", "from_name": "mask", "to_name": "image", "score": 0.43,
         "original_width": 64, "original_height": 48, "image_rotation": 0,
         "value": {"format": "rle", "rle": [0, 0, …], "brushlabels": ["cell"]}},
        {"type": "keypointlabels", "from_name": "point", …,
         "value": {"x": 15.6, "y": 41.7, "width": 0.5, "keypointlabels": ["cell"]}}]}]}]

Coordinates are in percent of the image's sides. `image` is what local storage calls a file below the folder
that the server was told of; the labeling configuration that fits lies beside the file (.xml).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as xml

import numpy as np

from wssis.data import rle as rle_api
from wssis.data.records import Annotation, CocoData, ImageRecord
from wssis.data.rle import Rle
from wssis.files import write_json, write_text

LOCAL_FILES = "/data/local-files/?d="
_SIZES = (3, 4, 8, 16)  # bits in which the length of a run is written
_WORD = 8  # bits of a value
_CHANNELS = 4  # Label Studio paints RGBA
_OPAQUE = 255


def write(data: CocoData, path: Path) -> None:
    """Write `data` to the JSON file `path`, and the labeling configuration beside it."""
    write_text(path.with_suffix(".xml"), configuration(data.class_names))
    write_json(path, [_task(record, data.class_names) for record in data.images])


def configuration(names: tuple[str, ...]) -> str:
    """The labeling configuration: masks are painted, points are clicked."""
    view = xml.Element("View")
    xml.SubElement(view, "Image", {"name": "image", "value": "$image", "zoom": "true"})
    for tag, name in (("BrushLabels", "mask"), ("KeyPointLabels", "point")):
        control = xml.SubElement(view, tag, {"name": name, "toName": "image"})
        for label in names:
            xml.SubElement(control, "Label", {"value": label})
    xml.indent(view)
    return xml.tostring(view, encoding="unicode") + "\n"


def _task(record: ImageRecord, names: tuple[str, ...]) -> dict[str, Any]:
    results = [_result(item, record, names[item.label]) for item in record.annotations]
    scores = [item.score for item in record.annotations if item.score is not None]
    prediction: dict[str, Any] = {"model_version": "wssis", "result": list(filter(None, results))}
    if scores:
        prediction["score"] = round(sum(scores) / len(scores), 4)  # tasks are sorted by it
    return {"data": {"image": LOCAL_FILES + quote(record.file_name)}, "predictions": [prediction]}


def _result(item: Annotation, record: ImageRecord, name: str) -> dict[str, Any] | None:
    if item.rle is not None and rle_api.area(item.rle):
        kind, control = "brushlabels", "mask"
        value: dict[str, Any] = {"format": "rle", "rle": list(packed(item.rle))}
    elif item.point is not None:
        kind, control = "keypointlabels", "point"
        x, y = item.point
        value = {"x": 100 * x / record.width, "y": 100 * y / record.height, "width": 0.5}
    else:
        return None
    return {
        "id": str(item.id),
        "type": kind,
        "from_name": control,
        "to_name": "image",
        "original_width": record.width,
        "original_height": record.height,
        "image_rotation": 0,
        **({} if item.score is None else {"score": round(item.score, 4)}),
        "value": {**value, kind: [name]},
    }


def packed(rle: Rle) -> bytes:
    """A mask as Label Studio's RLE (thi.ng's rle-pack) of an RGBA picture, 255 in all channels inside.

    Bits: 32 of the number of values, 5 of the bits of a value - 1, 4 x 4 of the four sizes - 1; then for each
    run a 1 (a 0 would be values one by one), 2 that choose a size, the run's length - 1 in so many bits, and
    the value.
    """
    height, width = rle["size"]
    flat = rle_api.decode([rle], (height, width))[0].numpy().flatten()
    ends = np.concatenate([np.flatnonzero(np.diff(flat)) + 1, [len(flat)]]) * _CHANNELS
    bits = [f"{len(flat) * _CHANNELS:032b}", f"{_WORD - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    value, start = bool(flat[0]), 0
    for end in ends.tolist():
        word = f"{_OPAQUE * value:0{_WORD}b}"
        while start < end:
            length = min(end - start, 1 << _SIZES[-1])
            choice = next(n for n, size in enumerate(_SIZES) if length <= 1 << size)
            bits.append(f"1{choice:02b}{length - 1:0{_SIZES[choice]}b}{word}")
            start += length
        value = not value
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")
