"""Labels that are there twice: masks that are the same, and points clicked twice; points off their mask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from wssis.data import rle as rle_api
from wssis.validation.annotations import Labels, named, rle_of
from wssis.validation.polygons import Floats, Ints
from wssis.validation.problems import Limits, Problem
from wssis.validation.schema import Document


def doubled(document: Document, labels: Labels, limits: Limits) -> list[Problem]:
    """Problems of the kinds same-mask, close-points and point-off-mask."""
    known = np.array([picture.height > 0 for picture in document.pictures], dtype=bool)
    usable = known[labels.picture] if len(known) else np.zeros(0, dtype=bool)
    records = document.raw["annotations"]
    return [
        *_same_masks(document, labels, usable, records),
        *_close_points(document, labels, limits.near, records),
        *_off_masks(document, labels, usable, records),
    ]


def _same_masks(document: Document, labels: Labels, usable: Any, records: list[Any]) -> Iterator[Problem]:
    """Masks of an image with the same box, to a tenth of a pixel, are drawn and compared."""
    rows = np.flatnonzero(labels.masked & usable)
    keys = np.concatenate([labels.picture[rows, None], np.round(labels.box[rows], 1)], 1)
    order = np.lexsort(keys.T[::-1])
    keys, rows = keys[order], rows[order]
    equal = (keys[1:] == keys[:-1]).all(1)
    starts = np.flatnonzero(np.diff(np.concatenate([[False], equal, [False]]).astype(int)) == 1)
    stops = np.flatnonzero(np.diff(np.concatenate([[False], equal, [False]]).astype(int)) == -1)
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        first: dict[str, int] = {}
        for row in sorted(rows[start : stop + 1].tolist()):
            picture, place = document.pictures[labels.picture[row]], int(labels.place[row])
            counts = rle_of(records[place], picture)["counts"]
            earlier = first.setdefault(counts, row)
            if earlier == row:
                continue
            before = int(labels.place[earlier])
            other = "" if labels.label[row] == labels.label[earlier] else ", with another class"
            detail = f"as {named(records[before], before)}{other}"
            yield Problem("same-mask", named(records[place], place), detail, picture.file_name, place, before)


def _close_points(document: Document, labels: Labels, near: float, records: list[Any]) -> Iterator[Problem]:
    """Points of one image and class that are near each other; two that have masks are two objects."""
    rows = np.flatnonzero(~np.isnan(labels.point[:, 0]) & ~labels.ignored)
    pairs = close_pairs(
        labels.point[rows], labels.picture[rows] * len(document.names) + labels.label[rows], near
    )
    for first, second in sorted((int(rows[i]), int(rows[j])) for i, j in pairs.tolist()):
        if labels.masked[first] and labels.masked[second]:
            continue
        # The one to do without: the later, unless it alone has a mask.
        keep, drop = (second, first) if labels.masked[second] else (first, second)
        place, other = int(labels.place[drop]), int(labels.place[keep])
        apart = float(np.hypot(*(labels.point[first] - labels.point[second])))
        detail = f"{apart:.1f} px from {named(records[other], other)}"
        image = document.pictures[labels.picture[drop]].file_name
        yield Problem("close-points", named(records[place], place), detail, image, place, other)


def close_pairs(points: Floats, groups: Ints, near: float) -> Ints:
    """Pairs (n, 2), each i < j, of points (N, 2) of one group (N,) at most `near` pixels apart."""
    order = np.lexsort([points[:, 0], groups])
    points, groups = points[order], groups[order]
    left = np.arange(len(points))
    found = []
    for lag in range(1, len(points)):
        left = left[left < len(points) - lag]
        right = left + lag
        # Sorted by x: a point that is beyond reach of this one, and all after it, need not be looked at.
        reach = (groups[left] == groups[right]) & (points[right, 0] - points[left, 0] <= near)
        left, right = left[reach], right[reach]
        if not len(left):
            break
        close = np.hypot(*(points[left] - points[right]).T) <= near
        found.append(np.stack([order[left[close]], order[right[close]]], 1))
    pairs = np.concatenate(found) if found else np.zeros((0, 2), dtype=np.int64)
    return np.sort(pairs, 1)


def _off_masks(document: Document, labels: Labels, usable: Any, records: list[Any]) -> Iterator[Problem]:
    both = labels.masked & usable & ~labels.ignored & ~np.isnan(labels.point[:, 0])
    for row in np.flatnonzero(both).tolist():
        picture, place = document.pictures[labels.picture[row]], int(labels.place[row])
        x, y = labels.point[row]
        if not rle_api.contains(rle_of(records[place], picture), labels.point[row][None])[0]:
            detail = f"({x:g}, {y:g})"
            yield Problem("point-off-mask", named(records[place], place), detail, picture.file_name, place)
