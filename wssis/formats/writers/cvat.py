"""Writes "CVAT for images 1.1": XML, masks exact.

    <image id="0" name="a.png" width="64" height="48">
      <mask label="cell" rle="2, 3, 1" left="5" top="7" width="3" height="2" …>
        <attribute name="quality">0.431</attribute>
      </mask>
      <points label="cell" points="10.00,20.00" …/>

`rle` counts pixels of the box row by row, background first. `meta` names the labels with their attribute
`quality`, so that a task can be made with the same; a task without it imports the shapes alone.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np

from wssis.data import rle as rle_api
from wssis.data.records import Annotation, CocoData
from wssis.data.rle import Rle
from wssis.files import write_text

ATTRIBUTE = "quality"


def write(data: CocoData, path: Path) -> None:
    """Write `data` to the XML file `path`."""
    root = xml.Element("annotations")
    _child(root, "version", "1.1")
    labels = xml.SubElement(xml.SubElement(xml.SubElement(root, "meta"), "task"), "labels")
    for name in data.class_names:
        label = xml.SubElement(labels, "label")
        _child(label, "name", name)
        attribute = xml.SubElement(xml.SubElement(label, "attributes"), "attribute")
        for tag, text in (("name", ATTRIBUTE), ("mutable", "False"), ("input_type", "text")):
            _child(attribute, tag, text)
    for number, record in enumerate(data.images):
        size = {"width": str(record.width), "height": str(record.height)}
        image = xml.SubElement(root, "image", {"id": str(number), "name": record.file_name, **size})
        for item in record.annotations:
            _shape(image, item, data.class_names[item.label])
    xml.indent(root)
    text = xml.tostring(root, encoding="unicode")
    write_text(path, f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n')


def _shape(image: xml.Element, item: Annotation, name: str) -> None:
    common = {"label": name, "source": "auto", "occluded": "0", "z_order": "0"}
    if item.rle is not None and rle_api.area(item.rle):
        shape = xml.SubElement(image, "mask", {**common, **mask_fields(item.rle)})
    elif item.point is not None:
        x, y = item.point
        shape = xml.SubElement(image, "points", {**common, "points": f"{x:.2f},{y:.2f}"})
    else:
        return
    if item.score is not None:
        _child(shape, "attribute", f"{item.score:.3f}").set("name", ATTRIBUTE)


def mask_fields(rle: Rle) -> dict[str, str]:
    """rle, left, top, width and height of a mask that is not empty."""
    left, top, width, height = (int(side) for side in rle_api.bounding_box(rle))
    mask = rle_api.decode([rle], (rle["size"][0], rle["size"][1]))[0].numpy()
    flat = mask[top : top + height, left : left + width].flatten()
    turns = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], turns, [len(flat)]])).tolist()
    runs = [0, *runs] if flat[0] else runs
    sides = {"left": left, "top": top, "width": width, "height": height}
    return {"rle": ", ".join(map(str, runs)), **{key: str(value) for key, value in sides.items()}}


def _child(parent: xml.Element, tag: str, text: str) -> xml.Element:
    child = xml.SubElement(parent, tag)
    child.text = text
    return child
