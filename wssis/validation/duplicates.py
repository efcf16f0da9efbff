"""Duplicate labels: equal masks and double clicks; and points off their mask."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from wssis.data import rle as rle_api
from wssis.data.coco_reader import CocoDocument, Problem
from wssis.validation.annotations import Labels, mask_of, name_of, problem_of
from wssis.validation.polygons import Floats, Ints
from wssis.validation.problems import Limits


def duplicates(document: CocoDocument, labels: Labels, limits: Limits) -> Iterator[Problem]:
    """Problems of the kinds same-mask, close-points and point-off-mask."""
    sized = np.array([picture.height > 0 for picture in document.pictures], dtype=bool)
    usable = labels.masked & (sized[labels.picture] if len(sized) else False)
    yield from _same_masks(document, labels, np.flatnonzero(usable))
    yield from _close_points(document, labels, limits.near)
    for row in np.flatnonzero(usable & ~labels.ignored & ~np.isnan(labels.point[:, 0])).tolist():
        if not rle_api.contains(mask_of(document, labels, row), labels.point[row][None])[0]:
            x, y = labels.point[row]
            yield problem_of(document, labels, row, "point-off-mask", f"({x:g}, {y:g})")


def _same_masks(document: CocoDocument, labels: Labels, rows: NDArray[np.intp]) -> Iterator[Problem]:
    """Masks of an image whose boxes agree to a tenth of a pixel are drawn and compared."""
    keys = np.concatenate([labels.picture[rows, None], np.round(labels.box[rows], 1)], 1)
    order = np.lexsort(keys.T[::-1])
    keys, rows = keys[order], rows[order]
    ends = np.flatnonzero((keys[1:] != keys[:-1]).any(1)) + 1
    starts, ends = np.append(0, ends), np.append(ends, len(rows))
    several = ends - starts > 1
    for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        first: dict[str, int] = {}
        for row in sorted(rows[start:end].tolist()):
            earlier = first.setdefault(mask_of(document, labels, row)["counts"], row)
            if earlier != row:
                before = int(labels.place[earlier])
                other = "" if labels.label[row] == labels.label[earlier] else ", with another class"
                detail = f"same as {name_of(document, before)}{other}"
                yield problem_of(document, labels, row, "same-mask", detail, before)


def _close_points(document: CocoDocument, labels: Labels, near: float) -> Iterator[Problem]:
    """Points of one image and class that are close to each other; two with masks are two objects."""
    rows = np.flatnonzero(~np.isnan(labels.point[:, 0]) & ~labels.ignored)
    groups = labels.picture[rows] * len(document.names) + labels.label[rows]
    pairs = rows[close_pairs(labels.point[rows], groups, near)]
    for first, second in sorted(map(tuple, pairs.tolist())):
        if labels.masked[first] and labels.masked[second]:
            continue
        # The later one is redundant, unless it alone has a mask.
        keep, drop = (second, first) if labels.masked[second] else (first, second)
        other = int(labels.place[keep])
        distance = np.hypot(*(labels.point[first] - labels.point[second]))
        detail = f"{distance:.1f} px from {name_of(document, other)}"
        yield problem_of(document, labels, drop, "close-points", detail, other)


def close_pairs(points: Floats, groups: Ints, near: float) -> NDArray[np.intp]:
    """Pairs (n, 2), each i < j, of points (N, 2) in the same group (N,) at most `near` pixels apart."""
    # A third coordinate keeps groups out of each other's reach.
    tree = KDTree(np.column_stack([points, groups * (2 * near + 1)]))
    return tree.query_pairs(near, output_type="ndarray")
