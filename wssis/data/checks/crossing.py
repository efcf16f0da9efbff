"""Which polygons cross themselves, many at once."""

from __future__ import annotations

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
