"""Outlines and masks that annotation tools draw, and groups of shapes that are one object."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_api

from wssis.data import rle
from wssis.data.rle import Rle
from wssis.errors import InputError
from wssis.formats.json_fields import EXPORT_AGAIN
from wssis.formats.records import Label, Part

Box = tuple[float, float, float, float]


def hull(points: Iterable[tuple[float, float]]) -> Box:
    """The smallest upright box x, y, width, height around points."""
    x, y = zip(*points, strict=True)
    return min(x), min(y), max(x) - min(x), max(y) - min(y)


def turned_box(box: Box, degrees: float, pivot: tuple[float, float]) -> Box:
    """The smallest upright box around a box that was turned clockwise about `pivot`."""
    x, y, width, height = box
    return hull(_turned([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], degrees, pivot))


def _turned(
    points: Iterable[tuple[float, float]], degrees: float, pivot: tuple[float, float]
) -> list[tuple[float, float]]:
    """Points turned clockwise as one sees the image."""
    if degrees == 0:
        return list(points)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [
        (
            pivot[0] + (x - pivot[0]) * cosine - (y - pivot[1]) * sine,
            pivot[1] + (x - pivot[0]) * sine + (y - pivot[1]) * cosine,
        )
        for x, y in points
    ]


def ellipse(
    center: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0, corners: int = 64
) -> list[float]:
    """The ring of an ellipse turned clockwise; it lies within 0.13 % of the radii inside the true line."""
    angles = [2 * math.pi * corner / corners for corner in range(corners)]
    upright = [
        (center[0] + radii[0] * math.cos(angle), center[1] + radii[1] * math.sin(angle)) for angle in angles
    ]
    return [value for point in _turned(upright, degrees, center) for value in point]


def from_row_runs(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The mask (h, w) of lengths of runs along the rows, background first.

    Raises:
        ValueError: negative lengths, or their sum is not h * w.
    """
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"expected run lengths that sum to {height} x {width}, found a sum of {sum(runs)}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)


def placed(mask: NDArray[np.bool_], left: int, top: int, size: tuple[int, int]) -> Rle:
    """The RLE of an image of `size` that shows `mask` (h, w) at a place; what leaves the image is cut off."""
    height, width = size
    mask = mask[max(0, -top) : max(0, height - top), max(0, -left) : max(0, width - left)]
    left, top = max(0, left), max(0, top)
    if mask.size == 0:
        return rle.from_runs([height * width], size)
    columns = np.zeros((mask.shape[1], height), dtype=bool)
    columns[:, top : top + mask.shape[0]] = mask.T
    # where the value of a pixel differs from the one before, counted down the columns of the whole image
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + left * height
    return rle.from_runs(np.diff(changes, prepend=0, append=height * width).tolist(), size)


def grouped(shapes: Iterable[tuple[Hashable, Label]], where: str) -> tuple[Label, ...]:
    """Labels in order, those of one group and one class as one object at the place of the first.

    The object has the union of their masks, the box around their boxes and the first of their points.

    Args:
        shapes: pairs of a group, or None, and a label.
        where: file, for errors.

    Raises:
        InputError: masks of different sizes, or polygons beside a mask that make none, in one group.
    """
    found: dict[Hashable, list[Label]] = {}
    for place, (group, label) in enumerate(shapes):
        found.setdefault((None, place) if group is None else (group, label.name), []).append(label)
    return tuple(members[0] if len(members) == 1 else _union(members, where) for members in found.values())


def _union(members: list[Label], where: str) -> Label:
    boxes = [label.box for label in members if label.box is not None]
    corners = [corner for x, y, w, h in boxes for corner in ((x, y), (x + w, y + h))]
    parts = tuple(part for label in members for part in label.parts)
    masks = [label.rle for label in members if label.rle is not None]
    return replace(
        members[0],
        parts=() if masks else parts,
        rle=_merged(masks, parts, members[0], where) if masks else None,
        box=hull(corners) if corners else None,
        point=next((label.point for label in members if label.point is not None), None),
        crowd=any(label.crowd for label in members),
        ignore=any(label.ignore for label in members),
    )


def _merged(masks: list[Rle], parts: tuple[Part, ...], label: Label, where: str) -> Rle:
    size = masks[0]["size"]
    try:
        if any(mask["size"] != size for mask in masks):
            raise ValueError("expected masks of one size in one group, found several")
        masks = masks + [rle.from_polygons([list(part.outer)], (size[0], size[1])) for part in parts]
    except ValueError as error:
        raise InputError(str(error), where=where, record=label.record, remedy=EXPORT_AGAIN) from error
    merged = mask_api.merge(masks)
    return {"size": list(size), "counts": merged["counts"].decode("ascii")}
