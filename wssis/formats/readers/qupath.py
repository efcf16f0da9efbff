"""GeoJSON of QuPath: File > Object data > Export as GeoJSON, or exportObjectsToGeoJson in a script.

    {"type": "FeatureCollection", "features": [FEATURE, …]}     or a list of them, or one FEATURE
    FEATURE: {"type": "Feature",
              "geometry": {"type": "Polygon", "coordinates": [[[x, y], …], HOLE, …],
                           "plane": {"z": 0, "t": 0}},
              "nucleusGeometry": {…},
              "properties": {"objectType": "annotation", "isLocked": false,
                             "classification": {"name": "Tumor", "color": [200, 0, 0]}}}

Pixels of the full image, (0, 0) at its top left corner, as here. A `Polygon` is a ring and its holes, each
closed by its first corner; `MultiPolygon` is a list of such; both are masks. `Point` is a point; `MultiPoint`
holds many objects or one, by `Options.points`. Lines have no area and are refused. Rectangles and ellipses
are exported as polygons, and so is a region of interest that was drawn around the objects: export the objects
alone.

`objectType` is `annotation`, `detection` or `cell` (older files: none); a cell's `nucleusGeometry`,
measurements, colors and `isLocked` are not read. The class is `classification.name`, or `names` of a
derived class, joined as QuPath shows them (`Tumor: Positive`), or the text itself; unclassified objects are
`Options.name`. `Ignore*`, QuPath's own class for it, is a region of which nothing is known. A file without
features says that its image shows no object.

GeoJSON names no image: the file's stem is its name. SOURCE is a file, or a folder with one .geojson an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wssis.errors import InputError, shown
from wssis.formats.json_fields import Record, files, load_json
from wssis.formats.records import Label, LabeledImage, Options, Part

OBJECT_TYPES = ("annotation", "detection", "cell")
IGNORE = "Ignore*"


def read(source: Path, options: Options) -> Iterator[LabeledImage]:
    """The image of every file; see the module."""
    for path in files(source, ".geojson"):
        labels = tuple(
            label for feature in _features(load_json(path), path) for label in _labels(feature, options)
        )
        yield LabeledImage(path.stem, labels, where="" if path == source else str(path))


def _features(document: Any, path: Path) -> Iterator[Record]:
    if isinstance(document, dict) and document.get("type") == "FeatureCollection":
        document = Record(document, str(path)).array("features")
    elif isinstance(document, dict):
        document = [document]
    if not isinstance(document, list):
        raise InputError(f"expected GeoJSON features, found {shown(document)}", where=path)
    for place, value in enumerate(document):
        feature = Record.of(value, path, f"feature {place}", "a feature")
        if feature.get("type", "'Feature'") != "Feature":
            raise feature.wrong("type", "'Feature'", feature.fields["type"])
        yield feature


def _labels(feature: Record, options: Options) -> Iterator[Label]:
    properties = feature.child("properties", {})
    kind = properties.text("objectType", "annotation")
    if kind == "root":  # the image itself
        return
    if kind not in OBJECT_TYPES:
        raise feature.error(
            f"expected an {', '.join(OBJECT_TYPES[:2])} or {OBJECT_TYPES[2]}, found {shown(kind)}",
            "Export the objects alone",
        )
    geometry = feature.child("geometry")
    plane = geometry.child("plane", {})
    if plane.number("z", 0.0) != 0 or plane.number("t", 0.0) != 0:
        raise feature.error("expected objects of one picture (plane z 0, t 0), found another plane")
    name = _class(properties) or options.name
    ignore = name == IGNORE
    name = options.name if ignore else name
    shape = geometry.text("type")
    if shape in ("Polygon", "MultiPolygon"):
        polygons = geometry.array("coordinates")
        parts = tuple(
            _part(geometry, polygon) for polygon in (polygons if shape == "MultiPolygon" else [polygons])
        )
        if not parts:
            raise geometry.wrong("coordinates", "polygons", polygons)
        yield Label(name, feature.record, parts=parts, ignore=ignore)
    elif shape in ("Point", "MultiPoint"):
        values = geometry.array("coordinates")
        points = [_point(geometry, value) for value in (values if shape == "MultiPoint" else [values])]
        if not points:
            raise geometry.wrong("coordinates", "points", values)
        for clicked in options.objects_of(points):
            yield Label(name, feature.record, ignore=ignore, **clicked)
    else:
        raise feature.error(
            f"expected a Polygon, MultiPolygon, Point or MultiPoint, found {shown(shape)}",
            "Export the objects alone, without lines",
        )


def _class(properties: Record) -> str:
    """The class's name; "" of an unclassified object."""
    value = properties.get("classification", "a class", "")
    if isinstance(value, str):
        return properties.checked_text("classification", value).strip()
    found = properties.child("classification")
    if found.has("name"):
        return found.text("name").strip()
    names = found.array("names", [])
    if not all(isinstance(name, str) for name in names):
        raise found.wrong("names", "texts", names)
    return ": ".join(found.checked_text("names", name).strip() for name in names)


def _part(geometry: Record, polygon: Any) -> Part:
    if not isinstance(polygon, list) or not polygon:
        raise geometry.wrong("coordinates", "rings of points", polygon)
    outer, *holes = (_ring(geometry, ring) for ring in polygon)
    return Part(outer, tuple(holes))


def _ring(geometry: Record, ring: Any) -> list[float]:
    """x1, y1, x2, y2, … without the corner that closes it."""
    if not isinstance(ring, list):
        raise geometry.wrong("coordinates", "rings of points", ring)
    points = [_point(geometry, value) for value in ring]
    if len(points) > 1 and points[0] == points[-1]:
        points.pop()
    if len(points) < 3:
        raise geometry.error(
            f"expected a ring of 3 or more corners, found {len(points)}", "Delete the object"
        )
    return [value for point in points for value in point]


def _point(geometry: Record, value: Any) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) not in (2, 3):  # GeoJSON allows a height
        raise geometry.wrong("coordinates", "points [x, y]", value)
    x, y = (geometry.checked_number("coordinates", number) for number in value[:2])
    return x, y
