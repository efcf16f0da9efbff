"""Rotates labels of a stored picture to the upright one (EXIF orientations 5 to 8).

Orientations 2 to 4 keep height and width, so sizes do not reveal how a label was drawn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wssis.data import rle as rle_api
from wssis.data.rle import Rle

TURNED = frozenset((5, 6, 7, 8))


def turn_points(points: NDArray[np.float64], size: tuple[int, int], orientation: int) -> NDArray[np.float64]:
    """Points (N, 2) xy of a stored picture of `size` (H, W), in the upright one."""
    height, width = size
    x, y = points[:, 0], points[:, 1]
    across = height - y if orientation in (6, 7) else y
    down = width - x if orientation in (7, 8) else x
    return np.stack((across, down), 1)


def turn_box(
    box: tuple[float, float, float, float], size: tuple[int, int], orientation: int
) -> tuple[float, float, float, float]:
    """`turn_points` for a box x, y, width, height."""
    corners = np.array([[box[0], box[1]], [box[0] + box[2], box[1] + box[3]]])
    low, high = np.sort(turn_points(corners, size, orientation), 0).tolist()
    return low[0], low[1], high[0] - low[0], high[1] - low[1]


def turn_mask(rle: Rle, orientation: int) -> Rle:
    """`turn_points` for a mask."""
    height, width = rle["size"]
    mask = rle_api.decode([rle], (height, width))[0].numpy().T
    if orientation in (6, 7):
        mask = mask[:, ::-1]
    if orientation in (7, 8):
        mask = mask[::-1]
    return rle_api.encode(np.ascontiguousarray(mask)[None])[0]
