"""What a served model answers: rows that hold an image, and points for a labeler, to COCO results."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from wssis.data.coco import Category
from wssis.data.images import MAX_PIXELS, decode_image, decoded_size
from wssis.errors import InputError
from wssis.evaluation.coco_ap import to_coco_results
from wssis.inference.predictor import Predictor, check_pixels
from wssis.pseudo_labels.labeler import Labeler
from wssis.settings import ResizeSettings

Row = dict[str, Any]
Results = list[dict[str, Any]]


class Model(Protocol):
    """A student or a labeler, as it is served."""

    kind: str
    categories: tuple[Category, ...]
    resize: ResizeSettings

    def answer(self, row: Row, number: int) -> Results:
        """COCO results of a row; `image_id` is its number in the request."""


class Student:
    """Images to instances: a row's `image` (bytes of an image file) to COCO results, best score first.

    Args:
        predictor: applies its own minimum score.
        categories: of its labels.
    """

    kind = "student"

    def __init__(self, predictor: Predictor, categories: tuple[Category, ...]) -> None:
        self.predictor, self.categories, self.resize = predictor, categories, predictor.resize

    def answer(self, row: Row, number: int) -> Results:
        """COCO results of a row.

        Raises:
            InputError: its image cannot be read.
        """
        [found] = self.predictor.predict([picture(row, number, self.resize)])
        return to_coco_results(found, number, self.categories)


class PointLabeler:
    """Images and points to one mask a point.

    A row holds `image` (bytes of an image file) and `points`, a list of `{"x", "y", "class"}`: pixels and a
    class name. Its answer has a COCO result a point, in their order, `score` being the confidence; an
    undecided point has `"ignore": true` and an empty mask.
    """

    kind = "labeler"

    def __init__(self, labeler: Labeler, categories: tuple[Category, ...]) -> None:
        self.labeler, self.categories, self.resize = labeler, categories, labeler.resize
        self.labels = {category.name: n for n, category in enumerate(categories)}

    def answer(self, row: Row, number: int) -> Results:
        """COCO results of a row.

        Raises:
            InputError: its image cannot be read, or a point is outside of it or of an unknown class.
        """
        image = picture(row, number, self.resize)
        points = [
            self.checked(point, image, place(number, f"point {n}")) for n, point in enumerate(row["points"])
        ]
        xy = torch.tensor([point[:2] for point in points], dtype=torch.float32).reshape(-1, 2)
        decided = self.labeler.label(
            image, xy, torch.tensor([point[2] for point in points], dtype=torch.int64)
        )
        results = to_coco_results(decided, number, self.categories)
        for result, mask in zip(results, decided.get_masks(), strict=True):
            if not mask.any():
                result["ignore"] = True
        return results

    def checked(self, point: dict[str, Any], image: Tensor, where: str) -> tuple[float, float, int]:
        """(x, y, label) of a point.

        Raises:
            InputError: it lies outside its image, or its class is unknown.
        """
        x, y, name = float(point["x"]), float(point["y"]), str(point["class"])
        height, width = image.shape[1:]
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(
                f"expected a point inside {width} x {height} px, found ({x:g}, {y:g})", where=where
            )
        if name not in self.labels:
            raise InputError(
                f"expected one of {', '.join(self.labels)}, found class {name[:40]!r}", where=where
            )
        return x, y, self.labels[name]


def picture(row: Row, number: int, resize: ResizeSettings) -> Tensor:
    """The image of a row, uint8 (3, H, W).

    Raises:
        InputError: it cannot be read, or its network input would be too large (found before decoding).
    """
    where = place(number, "image")
    check_pixels(decoded_size(row["image"], where), resize, MAX_PIXELS, where)
    return decode_image(row["image"], where)


def place(number: int, part: str) -> str:
    """What an error calls a part of a row."""
    return f"row {number}, {part}"
