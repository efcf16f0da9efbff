"""wssis.formats.readers.qupath: GeoJSON."""

from __future__ import annotations

import json

import pytest

from wssis.errors import InputError
from wssis.formats.readers.qupath import read
from wssis.formats.records import Options, Part

SQUARE = [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]
HOLE = [[2, 2], [2, 4], [4, 4.5], [2, 2]]


def feature(kind, coordinates, **properties):
    return {
        "type": "Feature",
        "id": "00c0ffee",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {"objectType": "annotation", "isLocked": True, "measurements": {"Area": 3}}
        | properties,
    }


def labels(tmp_path, document, **options):
    path = tmp_path / "slide.tif.geojson"
    path.write_text(json.dumps(document))
    (image,) = read(path, Options(**options))
    assert (image.file, image.where) == ("slide.tif", "")
    return image.labels


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


def test_polygons_are_masks_with_holes(tmp_path):
    cell = feature("Polygon", [SQUARE], objectType="cell", classification={"names": ["Tumor", "Positive"]})
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [HOLE]}
    cell["geometry"]["plane"] = {"c": -1, "z": 0, "t": 0}
    first, second, third = labels(
        tmp_path,
        collection(
            feature("Polygon", [SQUARE, HOLE], classification={"name": "Tumor", "color": [200, 0, 0]}),
            feature("MultiPolygon", [[SQUARE], [HOLE]], classification="Stroma"),
            cell,
        ),
    )
    assert first.parts == (Part([0, 0, 9, 0, 9, 9, 0, 9], ([2, 2, 2, 4, 4, 4.5],)),)
    assert (first.name, first.record) == ("Tumor", "feature 0")
    assert (second.name, [part.outer for part in second.parts]) == (
        "Stroma",
        [[0, 0, 9, 0, 9, 9, 0, 9], [2, 2, 2, 4, 4, 4.5]],
    )
    assert (third.name, len(third.parts)) == ("Tumor: Positive", 1)


def test_points_are_many_objects_or_one(tmp_path):
    document = [feature("MultiPoint", [[1, 2], [3, 4.5]], classification=None), feature("Point", [5, 6, 0])]
    many = labels(tmp_path, document, name="nucleus")
    assert [(label.name, label.point) for label in many] == [
        ("nucleus", (x, y)) for x, y in ((1, 2), (3, 4.5), (5, 6))
    ]
    assert [label.point for label in labels(tmp_path, document, points="one")] == [(1, 2), (5, 6)]


def test_other_documents(tmp_path):
    assert labels(tmp_path, collection()) == ()
    assert len(labels(tmp_path, feature("Point", [1, 2]))) == 1
    bare = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": None}
    assert labels(tmp_path, [bare])[0].name == "object"
    (ignored,) = labels(tmp_path, [feature("Polygon", [SQUARE], classification={"name": "Ignore*"})])
    assert (ignored.ignore, ignored.name) == (True, "object")


def test_a_folder_holds_a_file_an_image(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.geojson").write_text(json.dumps(collection(feature("Point", [1, 2]))))
    (tmp_path / "project.qpproj").write_text("{}")
    assert [(image.file, image.where) for image in read(tmp_path, Options())] == [
        (name, str(tmp_path / f"{name}.geojson")) for name in ("a", "b")
    ]


def other_plane():
    found = feature("Point", [1, 2])
    found["geometry"]["plane"] = {"c": -1, "z": 3, "t": 0}
    return found


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (7, "expected GeoJSON features, found 7"),
        ([feature("Point", [1, 2]), 3], "feature 1: expected a feature"),
        ({"type": "FeatureCollection"}, "expected 'features' as a list"),
        ({"type": "Topology"}, "feature 0: expected 'type' as 'Feature'"),
        ([feature("LineString", [[1, 2], [3, 4]])], "feature 0: expected a Polygon"),
        (
            [feature("Polygon", [[[0, 0], [1, 1], [0, 0]]])],
            "feature 0: expected a ring of 3 or more corners, found 2",
        ),
        ([feature("Polygon", [])], "feature 0: expected 'coordinates' as rings"),
        ([feature("MultiPolygon", [])], "feature 0: expected 'coordinates' as polygons"),
        ([feature("Point", [1, "2"])], "feature 0: expected 'coordinates' as a number"),
        ([feature("Point", [1, float("nan")])], "feature 0: expected 'coordinates' as a number"),
        ([feature("MultiPoint", 3)], "feature 0: expected 'coordinates' as a list"),
        ([feature("Point", [1, 2], classification=3)], "feature 0: expected 'classification'"),
        ([feature("Polygon", [SQUARE], objectType="tma_core")], "feature 0: expected an annotation"),
        ([other_plane()], "feature 0: expected objects of one picture"),
        ([{"type": "Feature", "properties": {}}], "feature 0: expected 'geometry' as an object"),
    ],
)
def test_malformed_files_are_refused(document, message, tmp_path):
    with pytest.raises(InputError) as raised:
        labels(tmp_path, document)
    assert "slide.tif.geojson" in str(raised.value)
    assert message in str(raised.value)
