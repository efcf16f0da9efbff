"""Merges corrected labels into an existing data set; everything else stays unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from wssis.data import rle as rle_api
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.errors import InputError


def merge(base: CocoData, corrections: CocoData) -> CocoData:
    """`base` with the labels of all images in `corrections` replaced.

    Images are matched by file name, classes by name. Ids of images and classes stay,
    and those of the annotations of other images. A corrected label takes over id and point of the label in
    `base` whose point it holds; others get new ids. New classes come after those of `base`. The images are
    marked as `corrected`, which keeps the split's draw among the others as it was.

    Raises:
        InputError: an image that `base` has not, or one of another size.
    """
    known = {record.file_name: record for record in base.images}
    for record in corrections.images:
        before = known.get(record.file_name)
        found = "none" if before is None else f"one of {before.width} x {before.height} px"
        if before is None or before.size != record.size:
            raise InputError(
                f"expected an image of the data set of {record.width} x {record.height} px, found {found}",
                where=corrections.path or "",
                record=f"image {record.file_name}",
                remedy="Import new images as a data set of their own",
            )
    categories, labels = _classes(base, corrections)
    new = _IdSource(item.id for record in base.images for item in record.annotations)
    corrected = {record.file_name: record for record in corrections.images}
    images = tuple(
        _corrected(record, corrected[record.file_name], labels, new)
        if record.file_name in corrected
        else record
        for record in base.images
    )
    return replace(base, categories=categories, images=images, path=None)


def with_corrected(
    images: Sequence[ImageRecord], strong: list[ImageRecord], weak: list[ImageRecord]
) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """Strong and weak images, in the order of the data, once the corrected and fully drawn are strong."""
    corrected = {image.id for image in weak if image.corrected and image.strong}
    if not corrected:
        return strong, weak
    if len(corrected) == len(weak):
        raise InputError(
            f"expected at least one weak image, found that all {len(weak)} are corrected",
            where="split",
            remedy="Add images with points: with every mask drawn there is nothing to label",
        )
    kept = {image.id for image in strong} | corrected
    return [image for image in images if image.id in kept], [i for i in weak if i.id not in corrected]


def _classes(base: CocoData, corrections: CocoData) -> tuple[tuple[Category, ...], list[int]]:
    """All classes, and for each label of `corrections` the one that it becomes."""
    categories = list(base.categories)
    place = {category.name: label for label, category in enumerate(categories)}
    labels = []
    for category in corrections.categories:
        if category.name not in place:
            place[category.name] = len(categories)
            categories.append(Category(categories[-1].id + 1 if categories else 1, category.name))
        labels.append(place[category.name])
    return tuple(categories), labels


class _IdSource:
    """Unused annotation ids."""

    def __init__(self, taken: Iterable[int]) -> None:
        self.last = max(taken, default=0)

    def take(self) -> int:
        self.last += 1
        return self.last


def _corrected(before: ImageRecord, after: ImageRecord, labels: list[int], new: _IdSource) -> ImageRecord:
    items = [replace(item, label=labels[item.label], score=None) for item in after.annotations]
    taken = _successors(before.objects, items)
    annotations = tuple(
        replace(item, id=old.id, point=item.point or old.point)
        if (old := taken.get(place))
        else replace(item, id=new.take())
        for place, item in enumerate(items)
    )
    return replace(before, annotations=annotations, corrected=True)


def _successors(before: Iterable[Annotation], after: list[Annotation]) -> dict[int, Annotation]:
    """For places in `after`: the label that was there before. One of its class is preferred."""
    taken: dict[int, Annotation] = {}
    for old in before:
        point = old.point or (rle_api.inner_point(old.rle) if old.rle else None)
        if point is None:
            continue
        held = [
            (item.label != old.label, rle_api.area(item.rle) if item.rle else 0, place)
            for place, item in enumerate(after)
            if place not in taken and not item.ignored and _holds(item, point)
        ]
        if held:
            taken[min(held)[2]] = old
    return taken


def _holds(item: Annotation, point: tuple[float, float]) -> bool:
    if item.rle is not None:
        height, width = item.rle["size"]
        inside = 0 <= point[0] < width and 0 <= point[1] < height
        return inside and bool(rle_api.contains(item.rle, np.array([point]))[0])
    # Labeling tools round points to about a hundredth of a pixel.
    return item.point is not None and max(abs(item.point[0] - point[0]), abs(item.point[1] - point[1])) < 0.05
