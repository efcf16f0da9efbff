"""Scalabel's JSON, in which BDD100K comes: part of the reader `bdd100k`.

    [FRAME, …]    or {"frames": [FRAME, …]}
    FRAME: {"name": "b1c66a42.jpg", "videoName": …, "size": {"width": 1280, "height": 720},
            "labels": [LABEL, …]}
    LABEL: {"id": "7", "category": "car", "score": 1.0,
            "attributes": {"occluded": false, "truncated": false, "crowd": false, "ignored": false},
            "box2d": {"x1": 10.2, "y1": 20, "x2": 30, "y2": 44.5},
            "poly2d": [{"vertices": [[x, y], …], "types": "LLCCC…", "closed": true}, …],
            "rle": {"counts": "…", "size": [H, W]}}

The mask is `rle`, else `poly2d`, whose polygons are the parts of one object. In `types`, L is a corner; C are
cubic Bézier curves, either three in a row (two control points and the end, as in BDD100K) or two before the
corner that is the end (as scalabel draws them). The curves become lines. `box2d` is kept beside a mask or
alone, its width x2 - x1.

Names are those of the 8 classes of instance segmentation: `person` is `pedestrian`, `bike` `bicycle`,
`motor` `motorcycle`, `van` and `caravan` `car`. `other person`, `other vehicle` and `trailer` are regions to
ignore (as pedestrian, car and truck), so are labels with `crowd` or `ignored`. All other categories (traffic
lights and signs, lanes, drivable areas) belong to other tasks and are left out. A frame without labels shows
no object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wssis.data import rle as rle_api
from wssis.data.formats.fields import Record, load_json, shown
from wssis.data.formats.labels import Label, LabelledImage, Part
from wssis.data.rle import Rle
from wssis.errors import InputError

CLASSES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
SAME = {"person": "pedestrian", "bike": "bicycle", "motor": "motorcycle", "van": "car", "caravan": "car"}
IGNORED = {"other person": "pedestrian", "other vehicle": "car", "trailer": "truck"}
_CURVE_STEPS = 8  # lines that a curve becomes

Point = tuple[float, float]


def read(path: Path, where: str) -> Iterator[LabelledImage]:
    """The image of every frame of a file; `where` is the images' own."""
    document = load_json(path)
    frames = Record(document, str(path)).array("frames") if isinstance(document, dict) else document
    if not isinstance(frames, list):
        raise InputError(f"expected frames, found {shown(document)}", where=path)
    for place, value in enumerate(frames):
        frame = Record.of(value, path, f"frame {place}", "a frame")
        name, video = frame.text("name"), frame.text("videoName", "")
        labels = tuple(
            label for child in frame.children("labels", "label", []) if (label := _label(child)) is not None
        )
        yield LabelledImage(
            file=f"{video}/{name}" if video else name,
            labels=labels,
            size=frame.child("size", {}).size("height", "width"),
            record=frame.record,
            where=where,
        )


def _label(label: Record) -> Label | None:
    """None: of a category of other tasks."""
    category = label.text("category").strip().lower()
    name = SAME.get(category, IGNORED.get(category, category))
    if name not in CLASSES:
        return None
    flags = label.child("attributes", {})
    box = _box(label.child("box2d")) if label.has("box2d") else None
    rle = _rle(label.child("rle")) if label.has("rle") else None
    polygons = [] if rle else [_ring(child) for child in label.children("poly2d", "polygon", [])]
    if not (rle or polygons or box):
        raise label.error("expected poly2d, rle or box2d, found none of them")
    score = label.number("score", None)
    if score is not None and not 0 <= score <= 1:
        raise label.wrong("score", "a number of 0 to 1", score)
    return Label(
        name=name,
        record=label.record,
        parts=tuple(Part(ring) for ring in polygons),
        rle=rle,
        box=box,
        crowd=flags.flag("crowd") or label.flag("crowd"),
        ignore=category in IGNORED or flags.flag("ignored") or label.flag("ignored"),
        score=score,
    )


def _box(box: Record) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (box.number(key) for key in ("x1", "y1", "x2", "y2"))
    if x2 < x1 or y2 < y1:
        raise box.error(
            f"expected a box2d from its upper left corner on, found {x1:g}, {y1:g}, {x2:g}, {y2:g}"
        )
    return x1, y1, x2 - x1, y2 - y1


def _rle(rle: Record) -> Rle:
    height, width = (int(side) if float(side).is_integer() else 0 for side in rle.numbers("size", 2))
    rle.check_size((height, width), "'size'")
    counts = rle.get("counts", "run lengths")
    if isinstance(counts, str) and rle_api.sound([counts], [height * width])[0]:
        return {"size": [height, width], "counts": counts}
    if not isinstance(counts, list):
        raise rle.wrong("counts", f"run lengths of {height} x {width} px", counts)
    try:
        return rle_api.from_runs(counts, (height, width))
    except ValueError as error:
        raise rle.error(str(error)) from error


def _ring(polygon: Record) -> list[float]:
    """x1, y1, x2, y2, … of a closed line, curves as short lines."""
    vertices = polygon.pairs("vertices")
    types = polygon.text("types", "L" * len(vertices)).upper()
    if len(types) != len(vertices) or set(types) - {"L", "C"} or types.startswith("C"):
        raise polygon.wrong("types", "L or C for each vertex, L first", types)
    if not polygon.flag("closed", True):
        raise polygon.error("expected a closed polygon, found an open line")
    points: list[Point] = []
    place = 0
    while place < len(vertices):
        if types[place] == "L":
            points.append(vertices[place])
            place += 1
            continue
        run = len(types) - place - len(types[place:].lstrip("C"))
        if run % 3 == 1:
            raise polygon.wrong("types", "C two or three in a row", types)
        # The end is the third C, or the corner that follows; the last curve may end in the first corner.
        end = vertices[(place + 2) % len(vertices)]
        points += _curve(points[-1], vertices[place], vertices[place + 1], end)
        place += 3
    if len(points) > 1 and points[0] == points[-1]:
        points.pop()
    if len(points) < 3:
        raise polygon.error(f"expected a polygon of 3 or more corners, found {len(points)}")
    return [value for point in points for value in point]


def _curve(start: Point, first: Point, second: Point, end: Point) -> list[Point]:
    """Points of a cubic Bézier curve, without its start."""
    found = []
    for step in range(1, _CURVE_STEPS + 1):
        t = step / _CURVE_STEPS
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
        found.append(
            (_mix(weights, (start, first, second, end), 0), _mix(weights, (start, first, second, end), 1))
        )
    return found


def _mix(weights: Sequence[float], points: Sequence[Any], axis: int) -> float:
    return float(sum(weight * point[axis] for weight, point in zip(weights, points, strict=True)))
