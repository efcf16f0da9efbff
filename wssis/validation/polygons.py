"""The polygons of a whole file as arrays: boxes, areas and self-crossings."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

MOST_CORNERS = 10_000  # larger polygons are not checked for crossings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def crossing(corners: Floats, counts: Ints) -> NDArray[np.bool_]:
    """Whether two edges of a polygon cross at a point that is an end of neither.

    Args:
        corners: (C, 2) xy of all polygons.
        counts: (P,) number of corners of each, 3 or more.

    Returns:
        (P,) bool.
    """
    rings = shapely.linearrings(corners, indices=np.repeat(np.arange(len(counts)), counts))
    found = ~shapely.is_simple(rings) & (counts <= MOST_CORNERS)
    starts = np.cumsum(counts) - counts
    # A ring that only touches itself is not simple either.
    for row in np.flatnonzero(found).tolist():
        first = corners[starts[row] : starts[row] + counts[row]]
        second = np.roll(first, -1, axis=0)
        edges = shapely.linestrings(np.stack([first, second], 1))
        i, j = shapely.STRtree(edges).query(edges)  # edges whose boxes overlap
        i, j = i[i < j], j[i < j]
        apart = _apart(first[i], second[i], first[j], second[j])
        found[row] = (apart & _apart(first[j], second[j], first[i], second[i])).any()
    return found


def _apart(a: Floats, b: Floats, c: Floats, d: Floats) -> NDArray[np.bool_]:
    """Whether c and d lie clearly on either side of the line a-b."""
    along = b - a
    to_c = along[:, 0] * (c - a)[:, 1] - along[:, 1] * (c - a)[:, 0]
    to_d = along[:, 0] * (d - a)[:, 1] - along[:, 1] * (d - a)[:, 0]
    slack = 1e-6 * np.abs(along).sum(1)  # a millionth of a pixel: rounding of a corner on an edge
    return ((to_c > slack) & (to_d < -slack)) | ((to_c < -slack) & (to_d > slack))


@dataclass(frozen=True)
class Outlines:
    """Properties of M masks that are polygons.

    Attributes:
        owner: (M,) the number under which each was added.
        box: (M, 4) x0, y0, x1, y1 of all corners, in pixels.
        area: (M,) sum over the parts, by the shoelace formula.
        breadth: (M,) twice the area divided by the perimeter: roughly the width of a thin shape.
        crossed: (M,) whether a part crosses itself.
    """

    owner: Ints
    box: Floats
    area: Floats
    breadth: Floats
    crossed: NDArray[np.bool_]


class Polygons:
    """Collects polygons one by one, then computes on all of them at once."""

    def __init__(self) -> None:
        self._corners, self._counts, self._mask = array("d"), array("q"), array("q")
        self._owner: list[int] = []

    def add(self, owner: int, parts: list[list[float]]) -> None:
        """Add a mask's valid parts under a number of the caller's."""
        for part in parts:
            self._corners.extend(part)
            self._counts.append(len(part) // 2)
            self._mask.append(len(self._owner))
        self._owner.append(owner)

    def outlines(self) -> Outlines:
        """The properties of all masks that were added."""
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
        crossed = np.logical_or.reduceat(crossing(corners, counts), first)
        breadth = 2 * area / np.maximum(length, 1e-9)
        return Outlines(owner, np.concatenate([low, high], 1), area, breadth, crossed)
