"""Polygons of a whole file as arrays: boxes, areas, and whether they can be read at all."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_CORNERS = 10_000  # pairs of edges grow with the square; larger ones are not examined
_IN_CACHE = 1 << 15  # corners looked at together

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def crossing(corners: Floats, starts: Ints, counts: Ints) -> NDArray[np.bool_]:
    """Whether two edges of a polygon cross, in a point that is an end of neither.

    Polygons of about the same length are laid side by side, the shorter ended with copies of their first
    corner; then each edge is compared with the one 2, 3, … further on, of all polygons at once. Only edges
    whose boxes overlap are looked at in earnest.

    Args:
        corners: (C, 2) xy of all polygons.
        starts, counts: (P,) the first corner of each and their number.

    Returns:
        (P,) bool.
    """
    found = np.zeros(len(starts), dtype=bool)
    order = np.argsort(counts, kind="stable")
    order = order[(counts[order] > 3) & (counts[order] <= MOST_CORNERS)]
    begin = 0
    while begin < len(order):
        longest = counts[order[begin]] * 5 // 4 + 1
        end = int(np.searchsorted(counts[order], longest, side="right"))
        end = min(end, begin + max(1, _IN_CACHE // int(longest)))
        rows = order[begin:end]
        found[rows] = _side_by_side(corners, starts[rows], counts[rows])
        begin = end
    return found


def _side_by_side(corners: Floats, starts: Ints, counts: Ints) -> NDArray[np.bool_]:
    width = int(counts.max())
    column = np.arange(width)
    places = starts[:, None] + np.where(column < counts[:, None], column, 0)
    first = corners[places]  # (P, width, 2); edge i goes from first i to first i + 1
    second = np.roll(first, -1, axis=1)
    low, high = np.minimum(first, second), np.maximum(first, second)
    low2, high2 = np.concatenate([low, low], 1), np.concatenate([high, high], 1)
    left, top = (np.ascontiguousarray(low2[:, :, axis], dtype=np.float32) for axis in (0, 1))
    right, bottom = (np.ascontiguousarray(high2[:, :, axis], dtype=np.float32) for axis in (0, 1))
    found = np.zeros(len(starts), dtype=bool)
    for lag in range(2, width // 2 + 1):
        other = slice(lag, lag + width)
        overlap = left[:, :width] <= right[:, other]
        overlap &= left[:, other] <= right[:, :width]
        overlap &= top[:, :width] <= bottom[:, other]
        overlap &= top[:, other] <= bottom[:, :width]
        row, edge = overlap.nonzero()
        if len(row):
            after = (edge + lag) % width
            crossed = _cross(first[row, edge], second[row, edge], first[row, after], second[row, after])
            found[row[crossed]] = True
    return found


def _cross(a: Floats, b: Floats, c: Floats, d: Floats) -> NDArray[np.bool_]:
    """Whether the open segments a-b and c-d (n, 2) cross in one point: (n,)."""
    return _apart(a, b, c, d) & _apart(c, d, a, b)


def _apart(a: Floats, b: Floats, c: Floats, d: Floats) -> NDArray[np.bool_]:
    """Whether c and d lie clearly on either side of the line a-b."""
    along = b - a
    to_c = along[:, 0] * (c - a)[:, 1] - along[:, 1] * (c - a)[:, 0]
    to_d = along[:, 0] * (d - a)[:, 1] - along[:, 1] * (d - a)[:, 0]
    slack = 1e-6 * np.abs(along).sum(1)  # a millionth of a pixel: rounding of a corner on an edge
    return ((to_c > slack) & (to_d < -slack)) | ((to_c < -slack) & (to_d > slack))


_NUMBERS = {int, float}


@dataclass(frozen=True)
class Outlines:
    """What is known of M masks that are polygons.

    Attributes:
        owner: (M,) the number that each was added under.
        box: (M, 4) x0, y0, x1, y1 of all corners, in pixels.
        area: (M,) of the parts together, by the shoelace formula.
        breadth: (M,) twice the area over the circumference: about the width of what is long and thin.
        crossed: (M,) whether a part crosses itself.
    """

    owner: Ints
    box: Floats
    area: Floats
    breadth: Floats
    crossed: NDArray[np.bool_]


class Polygons:
    """Gathers polygons one by one, to compute on all at once."""

    def __init__(self) -> None:
        self._corners, self._counts, self._mask = array("d"), array("q"), array("q")
        self._owner: list[int] = []

    def add(self, owner: int, parts: list[Any], reach: int) -> str:
        """Take a mask's parts over.

        Args:
            owner: a number of the caller's.
            reach: the longer side of the image, 0 if it is not known.

        Returns:
            What is wrong with them, as `wssis.data.rle.from_polygons` would say; "" if they were taken.
        """
        for part in parts:
            if not isinstance(part, list) or not set(map(type, part)) <= _NUMBERS:
                return "a polygon is no list of numbers"
            if len(part) % 2:
                return f"a polygon of {len(part)} numbers, which are no pairs"
            if len(part) < 6:
                return f"a polygon of {len(part) // 2} corners"
            low, high = min(part), max(part)
            if reach and (low < -reach or high > 2 * reach):
                return f"a corner at {low if low < -reach else high:g}, far outside the image"
            if low < -1e9 or high > 1e9:
                return "a corner far outside any image"
        for part in parts:
            self._corners.extend(part)
            self._counts.append(len(part) // 2)
            self._mask.append(len(self._owner))
        self._owner.append(owner)
        return ""

    def outlines(self) -> Outlines:
        """What is known of all masks that were taken."""
        number = len(self._owner)
        owner = np.array(self._owner, dtype=np.int64)
        if not number:
            empty = np.zeros(0)
            return Outlines(owner, np.zeros((0, 4)), empty, empty, np.zeros(0, dtype=bool))
        corners = np.frombuffer(self._corners, dtype=np.float64).reshape(-1, 2)
        counts = np.frombuffer(self._counts, dtype=np.int64)
        starts = np.cumsum(counts) - counts
        after = np.arange(1, len(corners) + 1)
        after[starts + counts - 1] = starts
        x, y = corners.T
        area = np.abs(np.add.reduceat(x * y[after] - x[after] * y, starts)) / 2
        length = np.add.reduceat(np.hypot(x[after] - x, y[after] - y), starts)
        del after
        mask = np.frombuffer(self._mask, dtype=np.int64)
        first = np.searchsorted(mask, np.arange(number))  # every mask has a part
        low = np.minimum.reduceat(np.minimum.reduceat(corners, starts), first)
        high = np.maximum.reduceat(np.maximum.reduceat(corners, starts), first)
        area, length = np.add.reduceat(area, first), np.add.reduceat(length, first)
        crossed = np.logical_or.reduceat(crossing(corners, starts, counts), first)
        breadth = 2 * area / np.maximum(length, 1e-9)
        return Outlines(owner, np.concatenate([low, high], 1), area, breadth, crossed)
