"""Statistics of the whole data set, and the problems that they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from wssis.data.coco_reader import CocoDocument, Problem
from wssis.data.records import IMAGE_KINDS, image_kind
from wssis.validation.annotations import Labels
from wssis.validation.problems import Limits

BOUNDS = (4, 8, 16, 32, 64, 128, 256, 512)  # of the size distribution, in pixels


@dataclass(frozen=True)
class Levels:
    """How a model sees objects.

    Attributes:
        ranges: sqrt(box area) that each level answers for, low <= size < high, in pixels it sees.
        factor: (height, width) of an image to its scale for the network.
    """

    ranges: Sequence[tuple[float, float]]
    factor: Callable[[int, int], float]


@dataclass(frozen=True)
class Coverage:
    """Counts as plain values for JSON, and the problems that they show."""

    counts: dict[str, int]
    classes: list[dict[str, Any]]
    sizes: dict[str, Any]
    problems: list[Problem]


def survey(document: CocoDocument, labels: Labels, limits: Limits, levels: Levels | None) -> Coverage:
    """Count everything.

    An object is an annotation that is neither a crowd nor an ignore region; for kinds of images see
    `wssis.data.coco.image_kind`.
    """
    images = len(document.pictures)
    objects = ~labels.ignored
    pointed = ~np.isnan(labels.point[:, 0])
    of_image = np.bincount(labels.picture[objects], minlength=images)
    masks = np.bincount(labels.picture[objects & labels.masked], minlength=images)
    state = np.array([IMAGE_KINDS.index(image_kind(n, m)) for n, m in zip(of_image, masks, strict=True)], int)
    counts = {
        "images": images,
        **{name: int((state == number).sum()) for number, name in enumerate(IMAGE_KINDS)},
        "objects": int(objects.sum()),
        "masks": int((objects & labels.masked).sum()),
        "points": int((objects & pointed).sum()),
        "points_only": int((objects & pointed & ~labels.masked).sum()),
        "boxes": int((objects & labels.boxed).sum()),
        "ignored": int(labels.ignored.sum()),
    }
    classes = _classes(document, labels, objects, state)
    sizes, problems = _sizes(document, labels, objects & labels.masked, levels)
    problems += _few(document, of_image, limits)
    return Coverage(counts, classes, sizes, problems + _missing_labels(counts, classes))


def _classes(document: CocoDocument, labels: Labels, objects: Any, state: Any) -> list[dict[str, Any]]:
    total = len(document.names)

    def count(rows: Any) -> list[int]:
        return np.bincount(labels.label[rows], minlength=total).tolist()

    columns = {
        "objects": count(objects),
        "masks": count(objects & labels.masked),
        "points_only": count(objects & ~labels.masked & ~np.isnan(labels.point[:, 0])),
        "objects_in_strong": count(objects & (state[labels.picture] == IMAGE_KINDS.index("strong"))),
    }
    rows = zip(document.names, *columns.values(), strict=True)
    return [dict(zip(("name", *columns), row, strict=True)) for row in rows]


def _sizes(
    document: CocoDocument, labels: Labels, rows: Any, levels: Levels | None
) -> tuple[dict[str, Any], list[Problem]]:
    """sqrt(box area) of masks: in pixels of the image, and as the network sees them."""
    box = labels.box[rows]
    size = np.sqrt(np.clip(box[:, 2:] - box[:, :2], 0, None).prod(1))
    found: dict[str, Any] = {"pixels": _distribution(size)}
    if levels is None:
        return found, []
    factors = [levels.factor(p.height, p.width) if p.height else 1.0 for p in document.pictures]
    seen = size * np.array(factors, dtype=float)[labels.picture[rows]] if len(size) else size
    inside = [(low <= seen) & (seen < high) for low, high in levels.ranges]
    found["network"] = _distribution(seen)
    found["levels"] = [
        {"from": float(low), "to": float(high), "objects": int(held.sum())}
        for (low, high), held in zip(levels.ranges, inside, strict=True)
    ]
    outside = np.flatnonzero(~np.logical_or.reduce(inside))
    found["no_level"] = len(outside)
    records, problems = document.raw["annotations"], []
    for place, row in zip(labels.place[rows][outside].tolist(), outside.tolist(), strict=True):
        image = document.pictures[int(labels.picture[rows][row])].file_name
        record = f"annotation {records[place].get('id')}"
        problems.append(Problem("no-level", record, f"{seen[row]:.0f} px", image, place))
    return found, problems


def _distribution(size: Any) -> dict[str, Any]:
    if not len(size):
        return {"count": 0}
    quantiles = np.quantile(size, (0, 0.1, 0.5, 0.9, 1)).round(1).tolist()
    edges = (0, *BOUNDS, np.inf)
    bins = np.histogram(size, edges)[0].tolist()
    names = [f"{low:g}-{high:g}" if high < np.inf else f"{low:g}-" for low, high in pairwise(edges)]
    spread = dict(zip(("min", "p10", "median", "p90", "max"), quantiles, strict=True))
    return {"count": len(size), **spread, "bins": dict(zip(names, bins, strict=True))}


def _few(document: CocoDocument, of_image: Any, limits: Limits) -> list[Problem]:
    labeled = of_image[of_image > 0]
    average = float(labeled.mean()) if len(labeled) else 0.0
    if average < limits.average:
        return []
    rows = np.flatnonzero((of_image > 0) & (of_image <= limits.few * average))
    return [
        Problem(
            "few-labels",
            f"image {picture.id}",
            f"{of_image[row]} where {average:.0f} is the average",
            picture.file_name,
            picture.place,
        )
        for row in rows[np.argsort(of_image[rows], kind="stable")].tolist()
        for picture in [document.pictures[row]]
    ]


def _missing_labels(counts: dict[str, int], classes: list[dict[str, Any]]) -> list[Problem]:
    problems = [Problem("class-unused", item["name"]) for item in classes if not item["objects"]]
    if counts["objects"] and not counts["strong"]:
        return [*problems, Problem("no-strong", "images", "the teacher learns from such images only")]
    for item in classes:
        if item["objects"] and not item["objects_in_strong"]:
            problems.append(
                Problem("class-not-strong", item["name"], f"{item['objects']} objects, all in other images")
            )
    return problems
