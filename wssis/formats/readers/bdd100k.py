"""BDD100K: instance masks as RGBA bitmasks, or labels as scalabel JSON.

A folder with PNG files is one of bitmasks (`labels/ins_seg/bitmasks/train`), a file `.json` (or a folder of
these) is scalabel's. A bitmask is a PNG of 8-bit RGBA, whose alpha is a number as the others are:

    R          category, 1 … 8 in the order of `CLASSES`; 0 is background; 9, 10 (traffic light, traffic
               sign) belong to other tasks and are left out
    G          truncated · 8 + occluded · 4 + crowd · 2 + ignored
    B, A       the instance: B · 256 + A

Crowds and ignored instances take no part in evaluation; truncated and occluded ones are objects as others.
The image has the mask's path, with .jpg for .png. The dataset's `colormaps` and `masks` are pictures of other
kinds and refused.

Scalabel's JSON:

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

import numpy as np

from wssis.data import rle as rle_api
from wssis.data.rle import Rle
from wssis.errors import InputError, shown
from wssis.formats.json_fields import Record, files, load_json
from wssis.formats.label_pixels import objects, read_pixels
from wssis.formats.records import Label, LabeledImage, Options, Part

CLASSES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
SAME = {"person": "pedestrian", "bike": "bicycle", "motor": "motorcycle", "van": "car", "caravan": "car"}
IGNORED = {"other person": "pedestrian", "other vehicle": "car", "trailer": "truck"}
_CURVE_STEPS = 8  # lines that a curve becomes

_OTHER_TASKS = (9, 10)
_LAST_FLAG = 15


def read(source: Path, options: Options) -> Iterator[LabeledImage]:
    """The image of every bitmask, or of every frame; see the module."""
    suffix = source.suffix.lower()
    try:
        folder = source.is_dir()
        if folder:
            suffix = next((".png" for path in source.rglob("*") if path.suffix.lower() == ".png"), ".json")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", where=source) from error
    for path in files(source, suffix):
        where = str(path) if folder else ""
        if suffix == ".png":
            file = path.relative_to(source) if folder else Path(path.name)
            yield _bitmask(path, file.with_suffix(".jpg").as_posix(), where)
        else:
            yield from _frames(path, where)


def _bitmask(path: Path, file: str, where: str) -> LabeledImage:
    pixels = read_pixels(path)
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        raise InputError(
            "expected a bitmask: PNG of 8-bit RGBA, found other channels",
            where=path,
            remedy="Import the dataset's bitmasks, not its colormaps or masks",
        )
    numbers = np.ascontiguousarray(pixels).view("<u4")[..., 0]  # all four as one; red is its lowest byte
    numbers = np.where(pixels[..., 0] == 0, np.uint32(0), numbers)
    labels: dict[int, Label] = {}
    for number, rle in objects(numbers, path):
        red, green, blue, alpha = number & 255, number >> 8 & 255, number >> 16 & 255, number >> 24
        instance = blue * 256 + alpha
        record = f"instance {instance}"
        if red > len(CLASSES) and red not in _OTHER_TASKS:
            raise InputError(
                f"expected a category (red) of 0 to {_OTHER_TASKS[-1]}, found {red}",
                where=path,
                record=record,
            )
        if green > _LAST_FLAG:
            raise InputError(
                f"expected attributes (green) of 0 to {_LAST_FLAG}, found {green}", where=path, record=record
            )
        if instance in labels:
            raise InputError(
                "expected one category and one set of attributes, found two", where=path, record=record
            )
        name = CLASSES[red - 1] if red <= len(CLASSES) else ""
        labels[instance] = Label(name, record, rle=rle, crowd=bool(green & 2), ignore=bool(green & 1))
    kept = tuple(labels[instance] for instance in sorted(labels) if labels[instance].name)
    return LabeledImage(file, kept, size=(pixels.shape[0], pixels.shape[1]), where=where)


Point = tuple[float, float]


def _frames(path: Path, where: str) -> Iterator[LabeledImage]:
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
        yield LabeledImage(
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
