"""Polygons of a whole file as arrays: boxes, areas, and whether they can be read at all."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wssis.data.checks.crossing import Floats, Ints, crossing

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
