"""A good file of every format, for tests that damage it, and the images that it speaks of."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.wssis.formats.readers import (
    test_coco,
    test_cvat,
    test_datumaro,
    test_label_studio,
    test_labelme,
)
from wssis.formats.find_images import SUFFIXES
from wssis.formats.readers import READERS
from wssis.formats.records import LabeledImage, Options

LABELS = np.array([[0, 1, 1, 300], [7, 0, 0, 300], [7, 7, 0, 0]], np.uint16)
BITMASK = np.array([[[1, 4, 0, 1], [0, 0, 0, 0]], [[3, 2, 1, 0], [8, 0, 0, 2]]], np.uint8)


@dataclass(frozen=True)
class Seed:
    """A file at `name` below its source, the folder (`folder`) or itself; `embedded`: it holds its images."""

    kind: str
    name: str
    data: bytes
    folder: bool = True
    embedded: bool = False

    def write(self, folder: Path) -> Path:
        """Lay a source out in `folder`; the file."""
        path = folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data)
        if self.kind == "dsb2018":
            (folder / "a/images").mkdir()
            (folder / "a/images/a.png").touch()
        return path


def write_images(images: Iterator[LabeledImage], folder: Path) -> None:
    """A small picture for each; every second one is stored lying on its side (EXIF)."""
    for place, image in enumerate(images):
        sizes = [label.rle["size"] for label in image.labels if label.rle]
        height, width = image.size or (sizes[0] if sizes else (48, 64))
        parts = [part for part in image.file.replace("\\", "/").split("/") if part not in ("", "..")]
        path = folder.joinpath(*parts)
        if path.suffix.lower() not in SUFFIXES:
            path = path.with_name(f"{path.name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 6 if place % 2 else 1
        Image.new("RGB", (height, width) if place % 2 else (width, height)).save(path, "PNG", exif=exif)


def lay_out(seed: Seed, folder: Path) -> tuple[Path, Path, Path]:
    """A seed's file, its source and the folder of its images."""
    path = seed.write(folder / "source")
    source = folder / "source" if seed.folder else path
    (folder / "images").mkdir()
    named = [one for one in READERS[seed.kind](source, Options()) if isinstance(one, LabeledImage)]
    write_images(named, folder / "images")
    return path, source, folder / "images"


def picture(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def _coco(**more: Any) -> bytes:
    document: dict[str, Any] = deepcopy(test_coco.DOCUMENT)
    document["annotations"][1:1] = [
        {"id": 50 + place, "image_id": key, "category_id": 44, "bbox": [1, 1, 3, 2], "iscrowd": 0, **more}
        for place, key in enumerate((397133, 0))
    ]
    return json.dumps(document).encode()


def _geojson() -> bytes:
    def feature(kind: str, coordinates: Any) -> dict[str, Any]:
        properties = {"objectType": "cell", "classification": {"name": "Tumor"}}
        geometry = {"type": kind, "coordinates": coordinates, "plane": {"z": 0, "t": 0}}
        return {"type": "Feature", "geometry": geometry, "properties": properties}

    square = [[0, 0], [9, 0], [9, 9], [0, 0]]
    features = [feature("MultiPolygon", [[square, square]]), feature("MultiPoint", [[1, 2], [3, 4]])]
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def _frames() -> bytes:
    curve = {"vertices": [[0, 0], [9, 0], [9, 9], [0, 9], [0, 5]], "types": "LLCCC", "closed": True}
    labels = [
        {"category": "person", "attributes": {"crowd": False}, "poly2d": [curve], "score": 0.5},
        {"category": "bus", "box2d": {"x1": 0, "y1": 1, "x2": 2, "y2": 3}},
        {"category": "car", "rle": {"counts": [50, 2, 48], "size": [10, 10]}},
        {"category": "car", "rle": {"counts": "52m2", "size": [10, 10]}},
    ]
    return json.dumps([{"name": "a.jpg", "size": {"width": 10, "height": 10}, "labels": labels}]).encode()


def _labelme() -> bytes:
    embedded = test_labelme.png(np.zeros((10, 12), dtype=np.uint8))
    return json.dumps(test_labelme.GOOD | {"imageData": embedded}).encode()


_SHAPES = b"index,shape-type,vertex-index,axis-0,axis-1\n" + b"".join(
    b"%d,%s,%d,%d,%d\n" % (place, kind, corner, y, x)
    for place, kind in enumerate((b"polygon", b"ellipse", b"rectangle"))
    for corner, (y, x) in enumerate([(0, 0), (0, 8), (8, 8), (8, 0)])
)
_RESULTS = b" ;Label;Area;X;Y;Slice;Counter\n1;a.tif:1;0;1,5;2;1;0\n2;b.tif;3;3;4;0;1\n"
_TASKS = json.dumps(test_label_studio.GOOD).encode()

SEEDS: dict[str, Seed] = {
    "bdd100k": Seed("bdd100k", "a.png", picture(BITMASK)),
    "bdd100k scalabel": Seed("bdd100k", "a.json", _frames()),
    "coco": Seed("coco", "a.json", json.dumps(test_coco.DOCUMENT).encode(), folder=False),
    "coco-keypoints": Seed(
        "coco-keypoints",
        "a.json",
        _coco(keypoints=[1, 1, 2, 2, 2, 1, 0, 0, 0, 3, 2, 2], num_keypoints=3),
        folder=False,
    ),
    "csv": Seed(
        "csv", "a.csv", b"file,x,y,class\na.png,1.5,2,cat\nb/b.png,,,\na.png,3,4,dog\n", folder=False
    ),
    "cvat": Seed("cvat", "a.xml", test_cvat.GOOD.encode()),
    "datumaro": Seed("datumaro", "a.json", json.dumps(test_datumaro.GOOD).encode()),
    "dsb2018": Seed("dsb2018", "a/masks/0.png", picture((LABELS > 0).astype(np.uint8) * 255)),
    "imagej": Seed("imagej", "a.csv", _RESULTS),
    "labelimage": Seed("labelimage", "a_masks.png", picture(LABELS)),
    "labelimage tif": Seed("labelimage", "a_masks.tif", picture(LABELS.astype(np.int32), "TIFF")),
    "labelimage float": Seed("labelimage", "a.tif", picture(LABELS.astype(np.float32), "TIFF")),
    "labelimage lzw": Seed("labelimage", "a.tif", picture(LABELS, "TIFF", compression="tiff_lzw")),
    "labelme": Seed("labelme", "a.json", json.dumps(test_labelme.GOOD).encode()),
    "labelme embedded": Seed("labelme", "a.json", _labelme(), embedded=True),
    "labelstudio": Seed("labelstudio", "a.json", _TASKS),
    "napari": Seed("napari", "a.csv", b"index,axis-0,axis-1,axis-2,label\n0,0,1.5,2,cell\n1,0,3,4,\n"),
    "napari shapes": Seed("napari", "a.csv", _SHAPES),
    "pointsup": Seed(
        "pointsup",
        "a.json",
        _coco(point_coords=[[1, 1], [2, 2], [3, 1.5]], point_labels=[1, 0, 1]),
        folder=False,
    ),
    "qupath": Seed("qupath", "a.geojson", _geojson()),
}
