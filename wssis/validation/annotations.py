"""Every annotation of a file: what it is good for, as arrays, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_api

from wssis.data import rle as rle_api
from wssis.validation.polygons import Floats, Ints, Polygons
from wssis.validation.problems import Limits, Problem, shown
from wssis.validation.schema import Document, Picture, usable_id

_THIN = 2.0  # pixels; a polygon of less breadth may cover none


@dataclass
class Labels:
    """The annotations that belong to a listed image and class, A of them.

    Attributes:
        place: (A,) in the file's list of annotations.
        picture: (A,) place of the image in `Document.pictures`.
        label: (A,) class.
        ignored: (A,) crowds and ignore regions.
        masked: (A,) whether there is a mask that can be read and has pixels.
        point: (A, 2) xy in pixels, NaN where there is none inside the image.
        boxed: (A,) whether there is a box.
        box: (A, 4) x0, y0, x1, y1 of the mask in pixels; NaN without one.
        problems: of these annotations, and of those that were left out.
    """

    place: Ints
    picture: Ints
    label: Ints
    ignored: NDArray[np.bool_]
    masked: NDArray[np.bool_]
    point: Floats
    boxed: NDArray[np.bool_]
    box: Floats
    problems: list[Problem] = field(default_factory=list)


def examine(document: Document, limits: Limits) -> Labels:
    """Look at every annotation by itself."""
    return _Reader(document, limits).run()


def is_number(value: Any) -> bool:
    """Whether it is a finite number (true and false are none)."""
    return type(value) in (int, float) and -1e18 < value < 1e18


def point_of(raw: dict[str, Any]) -> tuple[float, float] | None:
    """The point of an annotation wherever it lies; None if there is none that can be read."""
    point = raw.get("point")
    if isinstance(point, list) and len(point) == 2 and all(map(is_number, point)):
        return float(point[0]), float(point[1])
    return None


def box_of(raw: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """x, y, width, height of an annotation's own box; None if there is none that can be read."""
    for name in ("box", "bbox"):
        box = raw.get(name)
        if isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) and min(box[2:]) > 0:
            x, y, width, height = map(float, box)
            return x, y, width, height
    return None


def rle_of(raw: dict[str, Any], picture: Picture) -> rle_api.Rle:
    """The mask of an annotation whose segmentation is known to be sound."""
    segmentation, size = raw["segmentation"], (picture.height, picture.width)
    if isinstance(segmentation, list):
        return rle_api.from_polygons(segmentation, size)
    if isinstance(segmentation["counts"], list):
        return rle_api.from_runs(segmentation["counts"], size)
    return {"size": list(size), "counts": segmentation["counts"]}


def named(raw: dict[str, Any], place: int) -> str:
    """What a message calls an annotation."""
    key = raw.get("id")
    return f"annotation {key}" if type(key) is int else f"annotations[{place}]"


class _Reader:
    def __init__(self, document: Document, limits: Limits) -> None:
        self.document, self.limits = document, limits
        self.problems: list[Problem] = []
        self.polygons = Polygons()
        self.runs: list[tuple[int, dict[str, Any]]] = []  # row, RLE with counts as text
        self.rows: list[tuple[int, int, int, bool, float, float, bool]] = []

    def run(self) -> Labels:
        records = self.document.raw["annotations"]
        seen: set[int] = set()
        for place, raw in enumerate(records):
            if not isinstance(raw, dict):
                self.say("reference", {}, place, f"no record: {shown(raw)}")
                continue
            picture, label = self.reference(raw, place)
            if picture is None or label is None:
                continue
            key = raw.get("id")
            if not usable_id(key) or key in seen:
                self.say("annotation-id", raw, place, "id twice" if key in seen else f"id {shown(key)}")
            else:
                seen.add(key)
            self.record(raw, place, picture, label)
        return self.finish(records)

    def say(self, kind: str, raw: dict[str, Any], place: int, detail: str, image: str = "") -> None:
        self.problems.append(Problem(kind, named(raw, place), detail, image, place))

    def reference(self, raw: dict[str, Any], place: int) -> tuple[int | None, int | None]:
        image_id, category_id = raw.get("image_id"), raw.get("category_id")
        row = self.document.rows.get(image_id) if type(image_id) is int else None
        label = self.document.labels.get(category_id) if type(category_id) is int else None
        if row is None:
            self.say("reference", raw, place, f"image_id {shown(image_id)}")
        elif label is None:
            name = self.document.pictures[row].file_name
            self.say("reference", raw, place, f"category_id {shown(category_id)}", name)
        return row, label

    def record(self, raw: dict[str, Any], place: int, row: int, label: int) -> None:
        picture = self.document.pictures[row]
        name, number = picture.file_name, len(self.rows)
        crowd, score = raw.get("iscrowd", 0), raw.get("score")
        if crowd not in (0, 1):
            self.say("field", raw, place, f"iscrowd {shown(crowd)}", name)
            crowd = 0
        if score is not None and not (is_number(score) and 0 <= score <= 1):
            self.say("field", raw, place, f"score {shown(score)}, not in 0 to 1", name)
        x = y = float("nan")
        if raw.get("point") is not None:
            point = point_of(raw)
            if point is None:
                self.say("field", raw, place, f"point {shown(raw['point'])}", name)
            elif picture.height and not (0 <= point[0] < picture.width and 0 <= point[1] < picture.height):
                detail = f"({point[0]:g}, {point[1]:g}) in {picture.width} x {picture.height} px"
                self.say("point-outside", raw, place, detail, name)
            else:
                x, y = point
        segmentation = raw.get("segmentation")
        if segmentation in (None, []):
            if (raw.get("point") is None) or crowd:
                found = "a box only" if box_of(raw) else "neither"
                self.say("no-label", raw, place, found, name)
        elif problem := self.mask(segmentation, number, picture):
            self.say("bad-mask", raw, place, problem, name)
        ignored = bool(crowd or raw.get("ignore"))
        drawn = "box" in raw or segmentation in (None, [])  # the bbox of a mask is computed from it
        self.rows.append((place, row, label, ignored, x, y, drawn and box_of(raw) is not None))

    def mask(self, segmentation: Any, number: int, picture: Picture) -> str:
        """Takes a mask over; says what is wrong with it."""
        if isinstance(segmentation, list):
            return self.polygons.add(number, segmentation, max(picture.height, picture.width))
        if not isinstance(segmentation, dict):
            return f"neither polygons nor RLE: {shown(segmentation)}"
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if not picture.height:
            return "" if isinstance(counts, list | str) else "RLE without counts"
        if size != [picture.height, picture.width]:
            return f"RLE of size {shown(size)} in an image of [{picture.height}, {picture.width}]"
        if isinstance(counts, list):
            try:
                segmentation = rle_api.from_runs(counts, (picture.height, picture.width))
            except ValueError as error:
                return str(error).replace("expected ", "no ", 1)
        elif not isinstance(counts, str):
            return f"RLE counts {shown(counts)}"
        self.runs.append((number, segmentation))
        return ""

    def finish(self, records: list[Any]) -> Labels:
        count = len(self.rows)
        table = np.array(self.rows, dtype=np.float64).reshape(count, 7)
        self.rows.clear()
        place, picture, label = table[:, :3].astype(np.int64).T
        labels = Labels(
            place,
            picture,
            label,
            table[:, 3] > 0,
            np.zeros(count, dtype=bool),
            table[:, 4:6],
            table[:, 6] > 0,
            np.full((count, 4), np.nan),
            self.problems,
        )
        self.read_runs(labels, records)
        self.read_polygons(labels, records)
        return labels

    def read_runs(self, labels: Labels, records: list[Any]) -> None:
        rows = np.array([row for row, _ in self.runs], dtype=np.int64)
        rles = [rle for _, rle in self.runs]
        pixels = [rle["size"][0] * rle["size"][1] for rle in rles]
        sound = rle_api.sound([rle["counts"] for rle in rles], pixels)
        for row in rows[~sound].tolist():
            self.tell(labels, records, row, "bad-mask", "RLE counts are damaged or of another size")
        rows, rles = rows[sound], [rle for rle, fine in zip(rles, sound, strict=True) if fine]
        if rles:
            areas = rle_api.areas(rles)
            boxes = mask_api.toBbox(rles)
            boxes[:, 2:] += boxes[:, :2]
            labels.box[rows] = boxes
            labels.masked[rows] = areas > 0
            self.small(labels, records, rows, areas)

    def read_polygons(self, labels: Labels, records: list[Any]) -> None:
        outlines = self.polygons.outlines()
        rows = outlines.owner
        labels.box[rows] = outlines.box
        labels.masked[rows] = True
        pictures = self.document.pictures
        sides = np.array([(p.width, p.height) for p in pictures], dtype=float).reshape(-1, 2)
        sides = sides[labels.picture[rows]]
        outside = (outlines.box[:, :2] >= sides).any(1) | (outlines.box[:, 2:] <= 0).any(1)
        # What is left of thin and small ones is known only once they are drawn.
        doubtful = (outlines.breadth < _THIN) | (outlines.area < 4 * self.limits.tiny) | outside
        doubtful &= sides[:, 0] > 0
        drawn = [
            rle_of(records[labels.place[row]], pictures[labels.picture[row]])
            for row in rows[doubtful].tolist()
        ]
        if drawn:
            areas = rle_api.areas(drawn)
            labels.masked[rows[doubtful]] = areas > 0
            self.small(labels, records, rows[doubtful], areas)
        for row in rows[outlines.crossed].tolist():
            self.tell(labels, records, row, "crossing", "")

    def small(self, labels: Labels, records: list[Any], rows: Ints, areas: Ints) -> None:
        """Masks with few pixels or none."""
        few = areas < self.limits.tiny
        for row, area in zip(rows[few].tolist(), areas[few].tolist(), strict=True):
            self.tell(
                labels, records, row, "tiny-mask" if area else "empty-mask", f"{area} px" if area else ""
            )

    def tell(self, labels: Labels, records: list[Any], row: int, kind: str, detail: str) -> None:
        place = int(labels.place[row])
        image = self.document.pictures[int(labels.picture[row])].file_name
        self.say(kind, records[place], place, detail, image)
