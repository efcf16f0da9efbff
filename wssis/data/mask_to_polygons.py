"""Outlines of masks as editable polygons."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from contourpy import FillType, contour_generator
from numpy.typing import NDArray

from wssis.data import rle as rle_api
from wssis.data.rle import Rle

Line = NDArray[np.float64]  # (V, 2) x, y in pixels, closed without repeating the first corner


@dataclass(frozen=True)
class Outline:
    """A connected part of a mask: its outer line and those of its holes."""

    outer: Line
    holes: tuple[Line, ...]


def outlines(rle: Rle, tolerance: float = 0.0) -> list[Outline]:
    """Outlines of the parts of a mask, the largest box first.

    Lines run halfway between the centers of mask and background pixels. With a tolerance of 0 the mask is
    exactly the pixels whose center is inside.

    Args:
        rle: the mask.
        tolerance: px; largest distance of a dropped corner from the simplified line.
    """
    if not rle_api.area(rle):
        return []
    left, top, width, height = (int(side) for side in rle_api.bounding_box(rle))
    mask = rle_api.decode([rle], (rle["size"][0], rle["size"][1]))[0].numpy()
    # A frame of background closes the lines at the image's border.
    framed = np.pad(mask[top : top + height, left : left + width].astype(np.float64), 1)
    filled: Any = contour_generator(z=framed, fill_type=FillType.OuterOffset).filled(0.5, 2.0)
    shift = np.array([left - 0.5, top - 0.5])  # value i of `framed` is the middle of pixel i - 1 of the box
    found = []
    for part, bounds in zip(*filled, strict=True):
        lines = [simplified(part[start : end - 1] + shift, tolerance) for start, end in pairwise(bounds)]
        found.append(Outline(lines[0], tuple(lines[1:])))
    return sorted(found, key=lambda part: -np.ptp(part.outer, axis=0).prod())


def simplified(line: Line, tolerance: float) -> Line:
    """A closed line without corners within `tolerance` of it (Douglas-Peucker); at least 3 remain."""
    if len(line) <= 3:
        return line
    far = int(((line - line[0]) ** 2).sum(1).argmax())
    ring = np.concatenate([line, line[:1]])
    keep = np.zeros(len(ring), dtype=bool)
    keep[[0, far, -1]] = True
    waiting = [(0, far), (far, len(ring) - 1)]
    while waiting:
        start, end = waiting.pop()
        if end - start < 2:
            continue
        away = distances(ring[start + 1 : end], ring[start], ring[end])
        place = int(away.argmax())
        if away[place] > tolerance + 1e-9:
            middle = start + 1 + place
            keep[middle] = True
            waiting += [(start, middle), (middle, end)]
    if keep.sum() < 4:  # two corners, the first of them twice: the one farthest from their line, too
        away = distances(ring, ring[0], ring[far])
        keep[int(np.where(keep, -1.0, away).argmax())] = True
    return ring[:-1][keep[:-1]]


def distances(points: Line, start: Line, end: Line) -> NDArray[np.float64]:
    """Distances (V,) of points from the segment between two."""
    along = end - start
    length = float((along**2).sum())
    share = ((points - start) @ along / length).clip(0, 1) if length else np.zeros(len(points))
    return np.sqrt(((points - start - share[:, None] * along) ** 2).sum(1))
