"""Readers of pictures, tables and GeoJSON on mutated files: read, or an InputError that names the file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wssis.data.formats import READERS
from wssis.data.formats.labels import Options
from wssis.errors import InputError

LABELS = np.array([[0, 1, 1, 300], [7, 0, 0, 300], [7, 7, 0, 0]], np.uint16)
BITMASK = np.array([[[1, 4, 0, 1], [0, 0, 0, 0]], [[3, 2, 1, 0], [8, 0, 0, 2]]], np.uint8)


def picture(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def geojson():
    def feature(kind, coordinates):
        properties = {"objectType": "cell", "classification": {"name": "Tumor"}}
        geometry = {"type": kind, "coordinates": coordinates, "plane": {"z": 0, "t": 0}}
        return {"type": "Feature", "geometry": geometry, "properties": properties}

    square = [[0, 0], [9, 0], [9, 9], [0, 0]]
    features = [feature("MultiPolygon", [[square, square]]), feature("MultiPoint", [[1, 2], [3, 4]])]
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def frames():
    curve = {"vertices": [[0, 0], [9, 0], [9, 9], [0, 9], [0, 5]], "types": "LLCCC", "closed": True}
    labels = [
        {"category": "person", "attributes": {"crowd": False}, "poly2d": [curve], "score": 0.5},
        {"category": "bus", "box2d": {"x1": 0, "y1": 1, "x2": 2, "y2": 3}},
        {"category": "car", "rle": {"counts": [5, 2, 5], "size": [3, 4]}},
        {"category": "car", "rle": {"counts": "52", "size": [1, 7]}},
    ]
    return json.dumps([{"name": "a.jpg", "size": {"width": 4, "height": 3}, "labels": labels}]).encode()


SHAPES = b"index,shape-type,vertex-index,axis-0,axis-1\n" + b"".join(
    b"%d,%s,%d,%d,%d\n" % (place, kind, corner, y, x)
    for place, kind in enumerate((b"polygon", b"ellipse", b"rectangle"))
    for corner, (y, x) in enumerate([(0, 0), (0, 8), (8, 8), (8, 0)])
)

# format, path below the source that is read, bytes
CASES = {
    "labelimage png": ("labelimage", "a_masks.png", picture(LABELS)),
    "labelimage tif": ("labelimage", "a_masks.tif", picture(LABELS.astype(np.int32), "TIFF")),
    "labelimage float": ("labelimage", "a.tif", picture(LABELS.astype(np.float32), "TIFF")),
    "labelimage lzw": ("labelimage", "a.tif", picture(LABELS, "TIFF", compression="tiff_lzw")),
    "dsb2018": ("dsb2018", "a/masks/0.png", picture((LABELS > 0).astype(np.uint8) * 255)),
    "bdd100k png": ("bdd100k", "a.png", picture(BITMASK)),
    "bdd100k json": ("bdd100k", "a.json", frames()),
    "qupath": ("qupath", "a.geojson", geojson()),
    "napari": ("napari", "a.csv", b"index,axis-0,axis-1,axis-2,label\n0,0,1.5,2,cell\n1,0,3,4,\n"),
    "napari shapes": ("napari", "a.csv", SHAPES),
    "imagej": (
        "imagej",
        "a.csv",
        b" ;Label;Area;X;Y;Slice;Counter\n1;a.tif:1;0;1,5;2;1;0\n2;b.tif;3;3;4;0;1\n",
    ),
}
VALUES = [
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"9" * 400,
    b'""',
    b"[]",
    b"{}",
    b"true",
    b"[" * 9999,
    b"\xff",
    b"\\ud800",
    b"\0",
]


@st.composite
def mutated(draw, data):
    """Bytes changed, cut out, or values put in."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, max(len(data) - 1, 0)))
        end = begin + draw(st.integers(0, 12))
        data[begin:end] = draw(st.one_of(st.binary(max_size=6), st.sampled_from(VALUES)))
    return bytes(data)


def read(source: Path, kind: str):
    return list(READERS[kind](source, Options()))


@pytest.mark.parametrize("case", CASES)
def test_a_mutated_file_is_read_or_refused(case, tmp_path):
    kind, name, data = CASES[case]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "dsb2018":
        (tmp_path / "a/images").mkdir()
        (tmp_path / "a/images/a.png").touch()
    path.write_bytes(data)
    assert read(tmp_path, kind)[0].labels  # as it is, it can be read

    @settings(max_examples=40, deadline=None, database=None, derandomize=True)
    @given(mutated(data))
    def check(changed):
        path.write_bytes(changed)
        try:
            images = read(tmp_path, kind)
        except InputError as error:
            assert path.name in str(error)  # noqa: PT017
            return
        for label in (label for image in images for label in image.labels):
            assert label.rle or label.parts or label.box or label.point

    check()
