"""COCO JSON whose objects are known by several points: COCO keypoints, and detectron2's PointSup.

Beside the fields of `wssis.data.formats.coco` an annotation has

============== =====================================================================================
COCO keypoints `keypoints` `[x1, y1, v1, x2, …]`, v = 0: not labelled (x = y = 0), 1: labelled but hidden,
               2: labelled and visible
PointSup       `point_coords` `[[x, y], …]`, `point_labels` `[1, 0, …]`, 1: on the object, 0: beside it
============== =====================================================================================

An object has one point here: of those on it (v = 2, or v = 1 where none is visible; label 1) the one that is
nearest to their mean. An object without any keeps its box or mask. Segmentations stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from wssis.data.formats.coco import Point, own_point, read_with
from wssis.data.formats.fields import Record
from wssis.data.formats.labels import LabelledImage, Options


def read_keypoints(source: Path, options: Options) -> Iterator[LabelledImage]:
    """Images of a COCO keypoint file; see `wssis.data.formats`."""
    return read_with(source, keypoint)


def read_pointsup(source: Path, options: Options) -> Iterator[LabelledImage]:
    """Images of a PointSup file; see `wssis.data.formats`."""
    return read_with(source, point_sup)


def keypoint(item: Record) -> Point | None:
    """The point of an annotation with keypoints."""
    if not item.has("keypoints"):
        return own_point(item)
    values = item.numbers("keypoints")
    if len(values) % 3:
        raise item.error(f"expected keypoints x, y, v, found {len(values)} numbers")
    triples = list(zip(values[::3], values[1::3], values[2::3], strict=True))
    if wrong := [v for _, _, v in triples if v not in (0, 1, 2)]:
        raise item.error(f"expected v of keypoints as 0, 1 or 2, found {wrong[0]:g}")
    visible, hidden = ([(x, y) for x, y, v in triples if v == wanted] for wanted in (2, 1))
    return central(visible or hidden)


def point_sup(item: Record) -> Point | None:
    """The point of an annotation with point_coords."""
    if not item.has("point_coords"):
        return own_point(item)
    points, labels = item.pairs("point_coords"), item.numbers("point_labels")
    if len(points) != len(labels):
        raise item.error(f"expected a label for each of {len(points)} points, found {len(labels)}")
    if wrong := [label for label in labels if label not in (0, 1)]:
        raise item.error(f"expected point_labels of 0 or 1, found {wrong[0]:g}")
    return central([point for point, label in zip(points, labels, strict=True) if label == 1])


def central(points: Sequence[Point]) -> Point | None:
    """The point nearest to the mean of all, the first of several; None of none."""
    if len(points) < 2:
        return points[0] if points else None
    array = np.array(points)
    x, y = array[((array - array.mean(0)) ** 2).sum(1).argmin()].tolist()
    return x, y
