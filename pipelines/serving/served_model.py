"""What a served model answers: a validated row to COCO results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from pipelines.serving.request import LabelerRow, Limits, Point, Row
from wssis.data.images import MAX_PIXELS, decode_image, decoded_size
from wssis.data.records import Category
from wssis.errors import InputError
from wssis.evaluation.coco_ap import to_coco_results
from wssis.inference.predictor import Predictor, check_pixels
from wssis.pseudo_labels.labeler import Labeler
from wssis.settings import ResizeSettings

Results = list[dict[str, Any]]


class Model(Protocol):
    """A student or a labeler, as it is served."""

    kind: str
    resize: ResizeSettings

    def answer(self, row: Any, number: int) -> Results:
        """COCO results of a row; `image_id` is its number in the request."""


class Student:
    """Images to instances.

    Args:
        predictor: applies its own minimum score.
        categories: of its labels.
    """

    kind = "student"

    def __init__(self, predictor: Predictor, categories: tuple[Category, ...]) -> None:
        self.predictor, self.categories, self.resize = predictor, categories, predictor.resize

    def answer(self, row: Row, number: int) -> Results:
        """COCO results of a row, best score first.

        Raises:
            InputError: the image cannot be read.
        """
        [instances] = self.predictor.predict([_read_image(row, number, self.resize)])
        return to_coco_results(instances, number, self.categories)


class PointLabeler:
    """Images and points to one mask per point."""

    kind = "labeler"

    def __init__(self, labeler: Labeler, categories: tuple[Category, ...]) -> None:
        self.labeler, self.categories, self.resize = labeler, categories, labeler.resize
        self.labels = {category.name: n for n, category in enumerate(categories)}

    def answer(self, row: LabelerRow, number: int) -> Results:
        """A COCO result per point, in the order of the points; `score` is the confidence.

        An undecided point has `"ignore": true` and an empty mask.

        Raises:
            InputError: the image cannot be read, or a point is outside it or of an unknown class.
        """
        image = _read_image(row, number, self.resize)
        labels = [self._label(point, image, f"row {number}, point {n}") for n, point in enumerate(row.points)]
        xy = torch.tensor([(point.x, point.y) for point in row.points], dtype=torch.float32).reshape(-1, 2)
        decided = self.labeler.label(image, xy, torch.tensor(labels, dtype=torch.int64))
        results = to_coco_results(decided, number, self.categories)
        for result in results:
            if not result["area"]:
                result["ignore"] = True
        return results

    def _label(self, point: Point, image: Tensor, where: str) -> int:
        height, width = image.shape[1:]
        if not (0 <= point.x < width and 0 <= point.y < height):
            found = f"({point.x:g}, {point.y:g})"
            raise InputError(f"expected a point inside {width} x {height} px, found {found}", where=where)
        if point.label not in self.labels:
            found = f"class {point.label[:40]!r}"
            raise InputError(f"expected one of {', '.join(self.labels)}, found {found}", where=where)
        return self.labels[point.label]


def check_sizes(rows: Sequence[Row], limits: Limits, resize: ResizeSettings) -> None:
    """Check the images of a request by their headers, and the points for the masks that they need.

    Raises:
        InputError: no image, a larger one, or more points than `limits` allow.
    """
    weighted, total = 0.0, 0
    for number, row in enumerate(rows):
        megapixels = _check_size(row, number, resize, limits.pixels) / 1e6
        points = len(row.points) if isinstance(row, LabelerRow) else 0
        weighted, total = weighted + points * max(1.0, megapixels), total + points
    if weighted > limits.points:
        raise InputError(
            f"expected at most {limits.points} points (fewer in images of over a megapixel), found {total}",
            where="request",
            remedy="Send fewer images or smaller ones at a time",
        )


def _check_size(row: Row, number: int, resize: ResizeSettings, most: int) -> int:
    """Pixels of an image, or of its network input where that is much larger; `most` are allowed."""
    where = f"row {number}, image"
    return check_pixels(decoded_size(row.image, where, most), resize, most, where)


def _read_image(row: Row, number: int, resize: ResizeSettings) -> Tensor:
    """The image of a row, uint8 (3, H, W)."""
    _check_size(row, number, resize, MAX_PIXELS)
    return decode_image(row.image, f"row {number}, image")
