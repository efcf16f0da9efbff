"""All annotations of a file as arrays, and what is wrong with each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_api

from wssis.data import rle as rle_api
from wssis.data.coco_fields import box_of, record_name, rle_of
from wssis.data.coco_reader import CocoDocument, Problem, RawAnnotation
from wssis.validation.polygons import Floats, Ints, Polygons
from wssis.validation.problems import Limits

_THIN = 2.0  # pixels; a narrower polygon may cover no pixel


@dataclass
class Labels:
    """The annotations that belong to a listed image and class, A in number.

    Attributes:
        place: (A,) index in the file's list of annotations.
        picture: (A,) index of the image in `CocoDocument.pictures`.
        label: (A,) class.
        ignored: (A,) crowds and ignore regions.
        masked: (A,) whether there is a valid mask with at least one pixel.
        point: (A, 2) xy in pixels, NaN where there is none inside the image.
        boxed: (A,) whether there is a box.
        box: (A, 4) x0, y0, x1, y1 of the mask in pixels; NaN without one.
    """

    place: Ints
    picture: Ints
    label: Ints
    ignored: NDArray[np.bool_]
    masked: NDArray[np.bool_]
    point: Floats
    boxed: NDArray[np.bool_]
    box: Floats


def examine_annotations(document: CocoDocument, limits: Limits) -> Labels:
    """Read every annotation and check its mask; problems go to `document.report`."""
    polygons = Polygons()
    runs: list[tuple[int, rle_api.Rle]] = []  # row, RLE
    rows: list[tuple[int | float, ...]] = []
    for item in document.annotations():
        if isinstance(item.mask, list):
            polygons.add(len(rows), item.mask)
        elif item.mask is not None:
            runs.append((len(rows), item.mask))
        rows.append(_row(item))
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    place, picture, label = table[:, :3].astype(np.int64).T
    labels = Labels(
        *(place, picture, label, table[:, 3] > 0, np.zeros(len(table), dtype=bool)),
        *(table[:, 4:6], table[:, 6] > 0, np.full((len(table), 4), np.nan)),
    )
    if document.damaged:
        runs = [(row, rle) for row, rle in runs if rows[row][0] not in document.damaged]
    rows.clear()
    _examine_rles(document, labels, runs, limits)
    _examine_polygons(document, labels, polygons, limits)
    return labels


def _row(item: RawAnnotation) -> tuple[int | float, ...]:
    raw = item.raw
    drawn = "box" in raw or raw.get("segmentation") in (None, [])  # the bbox of a mask is computed from it
    ignored = item.crowd or bool(raw.get("ignore"))
    x, y = item.point or (np.nan, np.nan)
    return item.place, item.row, item.label, ignored, x, y, drawn and box_of(raw) is not None


def _examine_rles(
    document: CocoDocument, labels: Labels, runs: list[tuple[int, rle_api.Rle]], limits: Limits
) -> None:
    if not runs:
        return
    rows, rles = np.array([row for row, _ in runs]), [rle for _, rle in runs]
    areas, boxes = rle_api.areas(rles), mask_api.toBbox(rles)
    boxes[:, 2:] += boxes[:, :2]
    labels.box[rows] = boxes
    labels.masked[rows] = areas > 0
    _report_small(document, labels, rows, areas, limits)


def _examine_polygons(document: CocoDocument, labels: Labels, polygons: Polygons, limits: Limits) -> None:
    outlines = polygons.outlines()
    rows = outlines.owner
    labels.box[rows] = outlines.box
    labels.masked[rows] = True
    sides = np.array([picture.size[::-1] for picture in document.pictures], dtype=float).reshape(-1, 2)
    sides = sides[labels.picture[rows]]
    outside = (outlines.box[:, :2] >= sides).any(1) | (outlines.box[:, 2:] <= 0).any(1)
    # Whether a thin or small polygon covers any pixel is only known once it is drawn.
    doubtful = (outlines.breadth < _THIN) | (outlines.area < 4 * limits.tiny) | outside
    doubtful &= sides[:, 0] > 0
    if doubtful.any():
        areas = rle_api.areas([mask_of(document, labels, row) for row in rows[doubtful].tolist()])
        labels.masked[rows[doubtful]] = areas > 0
        _report_small(document, labels, rows[doubtful], areas, limits)
    for row in rows[outlines.crossed].tolist():
        document.report(problem_of(document, labels, row, "crossing"))


def _report_small(document: CocoDocument, labels: Labels, rows: Ints, areas: Ints, limits: Limits) -> None:
    """Masks with few pixels or none."""
    few = areas < limits.tiny
    for row, area in zip(rows[few].tolist(), areas[few].tolist(), strict=True):
        kind, detail = ("tiny-mask", f"{area} px") if area else ("empty-mask", "")
        document.report(problem_of(document, labels, row, kind, detail))


def mask_of(document: CocoDocument, labels: Labels, row: int) -> rle_api.Rle:
    """The valid mask of a row of `labels`."""
    raw = document.raw["annotations"][labels.place[row]]
    return rle_of(raw, document.pictures[labels.picture[row]])


def problem_of(
    document: CocoDocument, labels: Labels, row: int, kind: str, detail: str = "", other: int = -1
) -> Problem:
    """The problem of a row of `labels`; `other` is the place of the annotation that it repeats."""
    place = int(labels.place[row])
    image = document.pictures[int(labels.picture[row])].file_name
    return Problem(kind, name_of(document, place), detail, image, place, other)


def name_of(document: CocoDocument, place: int) -> str:
    """What a message calls the annotation at `place`."""
    raw: Any = document.raw["annotations"][place]
    return record_name(raw, place)
