"""Labels of one image brought to its upright pixels: turned, cut to the image, polygons as RLE.

What crosses to worker processes is plain tuples: a data set has a million labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_api

from wssis.data import rle as rle_api
from wssis.data.exif import TURNED, turn_box, turn_mask, turn_points
from wssis.data.images import read_header
from wssis.data.records import Click
from wssis.data.rle import Rle
from wssis.errors import InputError
from wssis.formats.records import LabeledImage, Part

SLACK = 2.0  # px that a point may lie outside: tools round, and click on the border
_EDGE = 1 / 64  # px that such a point is put inside the right and lower border; exact in float32

Box = tuple[float, float, float, float]


class Drawn(NamedTuple):
    """The geometry of a `Label`, in the file's pixels; `region`: a crowd or ignore region, no object."""

    record: str
    parts: tuple[Part, ...]
    rle: Rle | None
    box: Box | None
    point: tuple[float, float] | None
    region: bool
    clicks: tuple[Click, ...] = ()


class Task(NamedTuple):
    """An image file and what is drawn on it."""

    folder: str
    file: str
    where: str
    record: str
    size: tuple[int, int] | None
    drawn: tuple[Drawn, ...]


class Fitted(NamedTuple):
    """A label in upright pixels; `counts`: of its RLE, "" of a mask without a pixel, None without a mask."""

    counts: str | None
    area: int
    box: Box | None
    point: tuple[float, float] | None
    clicks: tuple[Click, ...] = ()


class Fit(NamedTuple):
    """What `fit` makes of a task: upright (H, W), labels in its order, and (notice, record)."""

    size: tuple[int, int]
    labels: list[Fitted]
    notices: list[tuple[str, str]]


def task_of(image: LabeledImage, folder: str, file: str, where: str) -> Task:
    """The part of a labeled image that `fit` needs."""
    drawn = tuple(
        Drawn(item.record, item.parts, item.rle, item.box, item.point, item.crowd or item.ignore, item.clicks)
        for item in image.labels
    )
    return Task(folder, file, where, image.record, image.size, drawn)


def fit_all(tasks: Sequence[Task]) -> list[Fit]:
    """`fit` of each."""
    return [_fit(task) for task in tasks]


def _fit(task: Task) -> Fit:
    """The labels of an image in its upright pixels.

    Raises:
        InputError: no image; sizes that fit neither the upright nor the stored picture; labels far outside
            the image; damaged masks.
    """
    return _Fitter(task).run()


class _Fitter:
    def __init__(self, task: Task) -> None:
        self.task = task
        self.size, self.orientation = read_header(task.folder, task.file)
        self.notices: list[tuple[str, str]] = []

    def fail(self, problem: str, record: str = "", remedy: str = "") -> NoReturn:
        record = record or self.task.record
        raise InputError(problem, where=self.task.where, record=record, remedy=remedy)

    def notice(self, what: str, record: str) -> None:
        self.notices.append((what, f"{self.task.where}, {record}" if record else self.task.where))

    def run(self) -> Fit:
        task = self.task
        self.turned = self.is_stored(self.declared())
        self.drawn_on = (self.size[1], self.size[0]) if self.turned else self.size
        masks = self.polygons()
        for place, item in enumerate(task.drawn):
            if item.rle is not None:
                masks[place] = self.rle(item)
        areas = dict(zip(masks, rle_api.areas(list(masks.values())).tolist(), strict=True))
        labels = []
        for place, item in enumerate(task.drawn):
            area, box = areas.get(place), None
            counts = None if area is None else _text(masks[place]) if area else ""
            if item.box is not None and not area:
                box = self.box(item)
                if box is not None and item.region:
                    mask = _rectangle(box, self.size)
                    counts, area = _text(mask), rle_api.area(mask)
            point = None if item.point is None else self.point(item.point, item.record)
            clicks = tuple((*self.point((x, y), item.record), inside) for x, y, inside in item.clicks)
            labels.append(Fitted(counts, area or 0, box, point, clicks))
        return Fit(self.size, labels, self.notices)

    def declared(self) -> tuple[int, int] | None:
        """(H, W) of the picture that was drawn on: as the file says, or as its masks have it."""
        sizes = [tuple(item.rle["size"]) for item in self.task.drawn if item.rle is not None]
        return self.task.size or (sizes[0] if sizes else None)

    def is_stored(self, declared: tuple[int, int] | None) -> bool:
        """Whether the labels are those of the picture as it is stored, not of the upright one."""
        image = f"{self.task.folder}/{self.task.file}"
        stored = (self.size[1], self.size[0]) if self.orientation in TURNED else self.size
        if declared is None or declared == self.size:
            if self.orientation > 1 and (stored == self.size or declared is None):
                self.notice("turned pictures (EXIF) whose labels were taken to be upright", image)
            return False
        if declared == stored:
            self.notice("turned pictures (EXIF) with labels as stored; the labels were turned, too", image)
            return True
        turned = " after turning it upright (EXIF)" if stored != self.size else ""
        self.fail(
            f"expected the size of {image}, {self.size[1]} x {self.size[0]} px{turned}, "
            f"found {declared[1]} x {declared[0]}",
            remedy="Put the annotated image there, or correct the size",
        )

    def polygons(self) -> dict[int, Any]:
        """Masks (RLE of pycocotools) of the labels that have polygons, by place."""
        rings: list[NDArray[np.float64]] = []
        owners: list[tuple[int, tuple[int, ...]]] = []  # place, holes of a ring
        for place, item in enumerate(self.task.drawn):
            for part in item.parts:
                owners.append((place, tuple(len(hole) for hole in part.holes)))
                rings += [np.asarray(ring, dtype=np.float64) for ring in (part.outer, *part.holes)]
        if not rings:
            return {}
        self.check_rings(rings)
        if self.turned:
            rings = [turn_points(r.reshape(-1, 2), self.drawn_on, self.orientation).ravel() for r in rings]
        drawn = iter(mask_api.frPyObjects(rings, *self.size))
        found: dict[int, list[Any]] = {}
        for place, holes in owners:
            outer = next(drawn)
            if holes:
                outer = _without(outer, [next(drawn) for _ in holes])
            found.setdefault(place, []).append(outer)
        return {
            place: parts[0] if len(parts) == 1 else mask_api.merge(parts) for place, parts in found.items()
        }

    def check_rings(self, rings: Sequence[NDArray[np.float64]]) -> None:
        """Fail at the first ring that is none or lies far outside; note those that reach out of the image."""
        values = np.concatenate(rings)
        limits = np.array([self.drawn_on[1], self.drawn_on[0]], dtype=np.float64)
        even = all(len(ring) >= 6 and len(ring) % 2 == 0 for ring in rings)
        if even:
            pairs = values.reshape(-1, 2)
            if bool(((pairs >= -SLACK) & (pairs <= limits + SLACK)).all()):
                return
        for item in self.task.drawn:
            for ring in (ring for part in item.parts for ring in (part.outer, *part.holes)):
                if len(ring) < 6 or len(ring) % 2:
                    self.fail(
                        f"expected polygons of 3 or more points x, y, found {len(ring)} numbers", item.record
                    )
                pairs = np.asarray(ring, dtype=np.float64).reshape(-1, 2)
                far = ~((pairs >= -limits) & (pairs <= 2 * limits)).all(1)  # NaN is far, too
                if far.any():
                    self.outside("a polygon", pairs[far][0].tolist(), item.record)
                if not ((pairs >= -SLACK) & (pairs <= limits + SLACK)).all():
                    self.notice("polygons that reach out of their image, cut at its border", item.record)

    def outside(self, what: str, at: Sequence[float], record: str) -> NoReturn:
        found = ", ".join(f"{value:g}" for value in at)
        self.fail(
            f"expected {what} in the image of {self.drawn_on[1]} x {self.drawn_on[0]} px, found ({found})",
            record,
            "Correct it: pixels, x to the right, y down, origin at the top left corner",
        )

    def rle(self, item: Drawn) -> Rle:
        """The mask of a label that has an RLE."""
        assert item.rle is not None
        if tuple(item.rle["size"]) != self.drawn_on:
            found = "{1} x {0}".format(*item.rle["size"])
            self.fail(
                f"expected a mask of {self.drawn_on[1]} x {self.drawn_on[0]} px, found {found}", item.record
            )
        return turn_mask(item.rle, self.orientation) if self.turned else item.rle

    def box(self, item: Drawn) -> Box | None:
        """The label's box, cut to the image; None if nothing of it is left."""
        assert item.box is not None
        height, width = self.drawn_on
        x, y, across, down = item.box
        ends = x + across, y + down
        if not (-width <= x <= ends[0] <= 2 * width and -height <= y <= ends[1] <= 2 * height):
            self.outside("a box x, y, width, height", item.box, item.record)
        if min(x, y) < -SLACK or ends[0] > width + SLACK or ends[1] > height + SLACK:
            self.notice("boxes that reach out of their image, cut at its border", item.record)
        left, top = max(x, 0.0), max(y, 0.0)
        box = left, top, min(ends[0], width) - left, min(ends[1], height) - top
        if min(box[2:]) <= 0:
            return None
        return turn_box(box, self.drawn_on, self.orientation) if self.turned else box

    def point(self, point: tuple[float, float], record: str) -> tuple[float, float]:
        """A point or click of a label, inside the image."""
        x, y = point
        height, width = self.drawn_on
        if not (-SLACK <= x <= width + SLACK and -SLACK <= y <= height + SLACK):
            self.outside("a point", point, record)
        if self.turned:
            x, y = turn_points(np.array([[x, y]]), self.drawn_on, self.orientation)[0].tolist()
            height, width = self.size
        return min(max(float(x), 0.0), width - _EDGE), min(max(float(y), 0.0), height - _EDGE)


def _without(outer: Any, holes: list[Any]) -> Any:
    """A mask less others (RLE of pycocotools), from the runs alone."""
    cut = mask_api.merge(holes)
    size = outer["size"]
    runs = np.diff(rle_api.run_ends(cut), prepend=0).tolist()
    inverse = runs[1:] if runs[0] == 0 else [0, *runs]
    rest = mask_api.frPyObjects({"size": size, "counts": inverse}, *size)
    return mask_api.merge([outer, rest], intersect=True)


def _rectangle(box: Box, size: tuple[int, int]) -> Any:
    x, y, width, height = box
    outline = [x, y, x + width, y, x + width, y + height, x, y + height]
    return mask_api.frPyObjects([outline], *size)[0]


def _text(mask: Any) -> str:
    counts = mask["counts"]
    return counts.decode("ascii") if isinstance(counts, bytes) else counts
