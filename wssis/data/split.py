"""Chooses which images keep their masks, and creates points for all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Any, Literal

import numpy as np

from wssis.data import rle as rle_api
from wssis.data.corrections import with_corrected
from wssis.data.label_cost import PRICES, Kind, count_labels, kind_of, labels_used, make_ledger, price
from wssis.data.records import Annotation, ClickedObject, CocoData, ImageRecord
from wssis.errors import InputError

Clicked = Mapping[int, Sequence[ClickedObject]]
_EDGE = 1 / 64  # px that a jittered point stays inside the right and lower edge; exact in float32


@dataclass(frozen=True)
class _Split:
    """What `split` returns.

    Attributes:
        strong: images with masks, to train on; a point beside each mask, made as those of weak images are.
        holdout: images with masks and such points, for every choice.
        points: weak images; annotations have a point and no mask, nor any other field of the source.
        drawn: masks of weak images in which other objects have none (mixed images): these cannot be strong,
            and what was drawn in them is used. Never a mask of an image that the draw made weak.
        truth: the same images with the masks that the source has for them; an object has one id in all three.
        ledger: see `wssis.data.label_cost.make_ledger`; besides, image ids under `unlabelled` (not in the
        points file, no annotations: used nowhere) and annotation ids under `without_point` (empty masks).
    """

    strong: CocoData
    holdout: CocoData
    points: CocoData
    drawn: CocoData
    truth: CocoData
    ledger: dict[str, Any]


def split(
    data: CocoData,
    strong_fraction: float,
    holdout_fraction: float,
    seed: int,
    points: Literal["center", "random"] = "center",
    jitter: float = 0.0,
    clicked: Clicked | None = None,
    prices: Mapping[str, float] = PRICES,
    val_labels: Sequence[Mapping[str, Any]] = (),
) -> _Split:
    """Split a data set into strong, held-out and weak images.

    The draw goes by image ids: a larger fraction keeps the images of a smaller one strong, and an object's
    made point depends on the seed and its id only. An image with an object that has no mask is weak. At least
    one image is held out, and one strong image remains, both with an object.

    Images with corrected labels take no part in the draw, and those fully drawn are strong whatever the
    share: they were chosen for their bad labels, so that nothing is chosen on them, and the others are drawn
    as if they had not been corrected.

    A weak image's points are, in this order: `clicked`, the points in the data, points made from its masks.
    Masks drawn in a mixed image count as labels of their objects also where `clicked` leaves these out.

    Args:
        data: all training images.
        strong_fraction: share of the images that keep their masks, 0..1.
        holdout_fraction: share of these that is held out, 0..1.
        seed: ≥ 0.
        points: made points: the center of mass, moved to the nearest mask pixel's middle where it is off the
            mask, or the middle of a random mask pixel.
        jitter: px; made points are moved within a disc of this radius, staying in the image.
        clicked: objects by image id, of a points file. Images without annotations that are not in it
            are not used: nobody has looked at them.
        prices: seconds a label, by kind.
        val_labels: `count_labels` of the validation set, for the ledger; nothing else of it is known here.

    Raises:
        InputError: too few images for the fractions, or too few with masks.

    Example:
        >>> from wssis.data.synthetic import generate
        >>> data, _ = generate("scenes", n_train=20, n_val=1)
        >>> parts = split(data, strong_fraction=0.2, holdout_fraction=0.25, seed=0)
        >>> len(parts.strong.images), len(parts.holdout.images), len(parts.points.images)
        (3, 1, 16)
    """
    used = [
        image
        for image in data.images
        if image.annotations or image.corrected or clicked is None or image.id in clicked
    ]
    strong, holdout, weak = _draw(used, strong_fraction, holdout_fraction, seed, clicked)
    strong, weak = with_corrected(used, strong, weak)
    maker = _PointMaker(data, seed, points, jitter, clicked or {})
    point_images = tuple(maker.image(image) for image in weak)
    truth_images = tuple(
        replace(image, annotations=tuple(item for item in image.annotations if item.rle)) for image in weak
    )
    kept, out, weak_points, truth = (
        replace(data, images=tuple(images), path=None)
        for images in (strong, holdout, point_images, truth_images)
    )
    drawn = _drawn(weak, weak_points)
    kinds = _kinds(weak, drawn, clicked or {})
    used_ids = {item.id for image in drawn.images for item in image.annotations}
    compared = tuple(
        replace(image, annotations=tuple(item for item in image.annotations if item.id not in used_ids))
        for image in truth_images
    )
    labels = [
        *labels_used(kept, "training", prices),
        *labels_used(out, "selection", prices),
        *price(count_labels(weak_points, kinds=kinds), "training", prices),
        *labels_used(replace(truth, images=compared), "evaluation", prices),
        *price(val_labels, "evaluation", prices),
    ]
    objects = kept.num_objects + out.num_objects + weak_points.num_objects
    ledger = make_ledger(labels, objects, prices)
    ledger["unlabelled"] = sorted({image.id for image in data.images} - {image.id for image in used})
    ledger["without_point"] = maker.without_point
    kept, out = (
        replace(part, images=tuple(maker.prompted(image) for image in part.images)) for part in (kept, out)
    )
    return _Split(kept, out, weak_points, drawn, truth, ledger)


def _drawn(weak: Sequence[ImageRecord], points: CocoData) -> CocoData:
    """Masks of the objects of mixed images; images without one are omitted."""
    images = []
    for image in weak:
        if image.strong:  # weak by the draw: its masks must stay unseen
            continue
        known = {item.id for item in points.by_id[image.id].annotations}
        items = tuple(
            Annotation(item.id, item.label, item.rle)
            for item in image.objects
            if item.rle is not None and item.id in known and rle_api.area(item.rle)
        )
        if items:
            images.append(replace(image, annotations=items))
    return replace(points, images=tuple(images))


def _kinds(weak: Sequence[ImageRecord], drawn: CocoData, clicked: Clicked) -> dict[int, Kind]:
    """What a person made for objects of weak images, by annotation id, where that is more than a point."""
    kinds: dict[int, Kind] = {
        item.id: "box"
        for image in weak
        if image.id not in clicked
        for item in image.objects
        if kind_of(item) == "box"
    }
    return kinds | {item.id: "mask" for image in drawn.images for item in image.annotations}


def _draw(
    images: Sequence[ImageRecord], strong: float, holdout: float, seed: int, clicked: Clicked | None
) -> tuple[list[ImageRecord], list[ImageRecord], list[ImageRecord]]:
    """Strong, held-out and weak images, each in the order of the data."""
    able = sorted(
        (
            image
            for image in images
            if image.strong and not image.corrected and (image.annotations or clicked is None)
        ),
        key=lambda image: image.id,
    )
    if len(able) < 2:
        raise InputError(
            f"expected at least 2 images with masks of all their objects, found {len(able)}",
            where="split",
            remedy="Draw the masks of a few images",
        )
    order = np.random.default_rng([seed, 0]).permutation(len(able))
    count = min(int(strong * len(images) + 0.5), len(able))
    if count < 2:
        raise InputError(
            f"expected at least 2 strong images (one is held out), found {count} of {len(images)}",
            where=f"split.strong {strong:g}",
            remedy=f"Set it to {min(1.0, np.ceil(200 / len(images)) / 100):g} or more",
        )
    if count == len(images):
        raise InputError(
            f"expected at least one weak image, found none of {count}",
            where=f"split.strong {strong:g}",
            remedy="Lower it",
        )
    chosen = [able[place] for place in order[:count]]
    held = min(max(int(holdout * count + 0.5), 1), count - 1)
    kept, out = chosen[:-held], chosen[-held:]
    _have_objects(kept, out)
    ids = {image.id for image in kept}, {image.id for image in out}
    return (
        [image for image in images if image.id in ids[0]],
        [image for image in images if image.id in ids[1]],
        [image for image in images if image.id not in ids[0] | ids[1]],
    )


def _have_objects(kept: list[ImageRecord], out: list[ImageRecord]) -> None:
    """Swap an image if one list has no image with objects: training and selection need one."""
    for poor, rich in ((kept, out), (out, kept)):
        spare = [place for place, image in enumerate(rich) if image.objects]
        if not any(image.objects for image in poor):
            if len(spare) < 2:
                raise InputError(
                    f"expected at least 2 strong images with objects, found {len(spare)}",
                    where="split.strong",
                    remedy="Raise it, or choose another seed",
                )
            poor[-1], rich[spare[0]] = rich[spare[0]], poor[-1]


class _PointMaker:
    """Makes the points of weak images; `without_point` gathers annotations whose mask is empty."""

    def __init__(
        self, data: CocoData, seed: int, points: Literal["center", "random"], jitter: float, clicked: Clicked
    ) -> None:
        self.seed, self.points, self.jitter, self.clicked = seed, points, jitter, clicked
        self.next_id = 1 + max((item.id for image in data.images for item in image.annotations), default=0)
        self.without_point: list[int] = []

    def image(self, image: ImageRecord) -> ImageRecord:
        """The image with points only."""
        if image.id in self.clicked:
            annotations = self.match(image, self.clicked[image.id])
            if not image.strong:  # drawn objects need no click
                known = {item.id for item in annotations}
                rest = [item for item in image.objects if item.rle is not None and item.id not in known]
                annotations += self.own(rest, image)
        else:
            annotations = self.own(image.objects, image)
        return replace(image, annotations=tuple(annotations))

    def own(self, items: Sequence[Annotation], image: ImageRecord) -> list[Annotation]:
        """Objects with the points in the data, or made of their masks."""
        annotations = []
        for item in items:
            point = item.point or self.make(item, image)
            if point is None:
                self.without_point.append(item.id)
            else:
                annotations.append(Annotation(item.id, item.label, point=point, clicks=item.clicks))
        return annotations

    def prompted(self, image: ImageRecord) -> ImageRecord:
        """The image with a point beside each mask: tuning needs prompts like a weak image's."""
        return replace(
            image,
            annotations=tuple(
                item
                if item.crowd or item.ignored or item.point
                else replace(item, point=self.make(item, image))
                for item in image.annotations
            ),
        )

    def make(self, item: Annotation, image: ImageRecord) -> tuple[float, float] | None:
        assert item.rle is not None, "an object has a point or a mask"
        if self.points == "center" and self.jitter == 0:
            return rle_api.inner_point(item.rle)
        rng = np.random.default_rng([self.seed, 1, item.id])
        if self.points == "random":
            pixels = rle_api.pixels(item.rle)
            point = tuple(pixels[rng.integers(len(pixels))] + 0.5) if len(pixels) else None
        else:
            point = rle_api.inner_point(item.rle)
        if point is None or self.jitter == 0:
            return point if point is None else (float(point[0]), float(point[1]))
        radius, angle = self.jitter * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        x, y = point[0] + radius * np.cos(angle), point[1] + radius * np.sin(angle)
        return float(np.clip(x, 0, image.width - _EDGE)), float(np.clip(y, 0, image.height - _EDGE))

    def match(self, image: ImageRecord, clicked: Sequence[ClickedObject]) -> list[Annotation]:
        """Points with the id of the smallest unused mask of their class below them, else a new id."""
        free = {item.id: item for item in image.objects if item.rle is not None}
        annotations = []
        for x, y, label, clicks in starmap(ClickedObject, clicked):
            under = [
                (rle_api.area(item.rle), key)
                for key, item in free.items()
                if item.rle and item.label == label and rle_api.contains(item.rle, np.array([[x, y]]))[0]
            ]
            if under:
                key = min(under)[1]
                del free[key]
            else:
                key, self.next_id = self.next_id, self.next_id + 1
            annotations.append(Annotation(key, label, point=(float(x), float(y)), clicks=clicks))
        return annotations
