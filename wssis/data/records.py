"""The records of a data set: categories, images and annotations.

Besides COCO's fields, an annotation may have `"point": [x, y]` (pixels, origin at the top left corner of
the image, pixel i covers [i, i + 1)), alone (a weak label) or with a segmentation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wssis.data import rle as rle_api
from wssis.data.rle import Rle
from wssis.instances import Instances

IMAGE_KINDS = ("strong", "weak", "mixed", "empty")


def image_kind(objects: int, masks: int) -> str:
    """The kind of an image, from its number of objects and of objects with a mask.

    `strong`: all have a mask; `weak`: none; `mixed`: some; `empty`: no object. A listed image counts as
    labeled: without annotations (or with only crowds and ignore regions) it is `empty`. With a points file,
    `split` decides by that file instead.
    """
    if not objects:
        return "empty"
    return "strong" if masks == objects else "mixed" if masks else "weak"


@dataclass(frozen=True, slots=True)
class Category:
    """A class; its label is its index among the categories sorted by id."""

    id: int
    name: str


Click = tuple[float, float, bool]  # x, y in pixels; whether it lies on the object, or beside it


class ClickedObject(NamedTuple):
    """An object of a points file: x, y in pixels, label, and further clicks."""

    x: float
    y: float
    label: int
    clicks: tuple[Click, ...] = ()


@dataclass(frozen=True, slots=True)
class Annotation:
    """One labeled object, crowd or ignore region of an image.

    Attributes:
        id: unique in the data set, ≥ 0.
        label: class index 0..K-1.
        rle: mask as compressed RLE, or None for an object known by its point only.
        point: (x, y) in pixels, or None.
        crowd: a region of many objects, ignored in training and evaluation.
        score: confidence 0..1 of a predicted mask.
        extra: unknown fields of the file, kept unchanged; `ignore` true makes the mask an ignore region.
        area: pixels according to the file (COCO's evaluation uses it); None: the mask's own.
        clicks: further clicks on the object, or beside it ("not this").
    """

    id: int
    label: int
    rle: Rle | None = None
    point: tuple[float, float] | None = None
    crowd: bool = False
    score: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    area: float | None = None
    clicks: tuple[Click, ...] = ()

    @property
    def ignored(self) -> bool:
        """Whether this is a crowd or ignore region instead of an object."""
        return self.crowd or bool(self.extra.get("ignore"))


@dataclass(frozen=True)
class ImageRecord:
    """An image and its annotations.

    Attributes:
        id, file_name: unique in the data set; the path in the image folder.
        height, width: pixels after EXIF rotation.
        annotations: see `Annotation`.
        corrected: a person has corrected its pseudo-labels; see `wssis.data.corrections`.
    """

    id: int
    file_name: str
    height: int
    width: int
    annotations: tuple[Annotation, ...] = ()
    corrected: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.height, self.width

    @property
    def objects(self) -> tuple[Annotation, ...]:
        """The annotations that are objects: neither crowds nor ignore regions."""
        return tuple(item for item in self.annotations if not item.ignored)

    @property
    def strong(self) -> bool:
        """Whether every object has a mask (true of an image without objects)."""
        return all(item.rle is not None for item in self.objects)

    @property
    def kind(self) -> str:
        """See `image_kind`."""
        return image_kind(len(self.objects), sum(item.rle is not None for item in self.objects))

    def instances(self, with_masks: bool = True) -> Instances:
        """The objects as tensors, in the order of the annotations; `ids` says which row is which.

        With masks, only objects that have one are rows; if the image has objects and none has a mask, all
        are rows and `masks` is None. Without masks, all are rows. `points` is None if no row has one; where
        only some have, the others get the center of their mask. `scores` likewise, others get 1. Crowds and
        ignore regions are no rows: their union is `ignore` (None if there is none, or without masks).
        """
        rows = self.objects
        if with_masks and (any(item.rle for item in rows) or not rows):
            rows = tuple(item for item in rows if item.rle is not None)
            masks = rle_api.decode([item.rle for item in rows if item.rle], self.size)
        else:
            masks = None
        regions = [item.rle for item in self.annotations if item.ignored and item.rle]
        scored = any(item.score is not None for item in rows)
        return Instances(
            size=self.size,
            labels=torch.tensor([item.label for item in rows], dtype=torch.int64),
            masks=masks,
            points=self._points(rows),
            scores=torch.tensor([1.0 if item.score is None else item.score for item in rows])
            if scored
            else None,
            ids=torch.tensor([item.id for item in rows], dtype=torch.int64),
            ignore=rle_api.decode(regions, self.size).any(0) if with_masks and regions else None,
        )

    def _points(self, rows: tuple[Annotation, ...]) -> Tensor | None:
        if all(item.point is None for item in rows):
            return None
        points = []
        for item in rows:
            point = item.point
            if point is None and item.rle is not None:
                point = rle_api.inner_point(item.rle)
            points.append(point or (0.0, 0.0))
        return torch.tensor(points, dtype=torch.float32)


@dataclass(frozen=True)
class CocoData:
    """A data set: classes, images with annotations, and the image folder.

    Attributes:
        categories: sorted by id; the index is the label.
        images: records with unique ids.
        image_dir: folder of the images, absolute or relative to the current directory.
        path: the source file, None if made in memory.
    """

    categories: tuple[Category, ...]
    images: tuple[ImageRecord, ...]
    image_dir: str
    path: Path | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.categories)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the labels 0..K-1."""
        return tuple(category.name for category in self.categories)

    @property
    def num_objects(self) -> int:
        """Number of objects, without crowds and ignore regions."""
        return sum(len(image.objects) for image in self.images)

    @cached_property
    def by_id(self) -> dict[int, ImageRecord]:
        """Image id -> record."""
        return {image.id: image for image in self.images}

    def subset(self, ids: Iterable[int]) -> CocoData:
        """The data set restricted to these images, in the present order.

        Raises:
            KeyError: an id is not in the data set.
        """
        wanted = set(ids)
        if unknown := wanted - self.by_id.keys():
            raise KeyError(f"no image with id {min(unknown)}")
        return replace(self, images=tuple(image for image in self.images if image.id in wanted))
