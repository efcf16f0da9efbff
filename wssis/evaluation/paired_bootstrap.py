"""How sure a difference between two models is: a paired bootstrap over the images that both were measured on.

Both are averaged over the same images drawn with replacement, again and again. What an image contributed is
kept, so that a resample is a sum and not an evaluation. COCO's AP is no mean over images: its matches are
kept and summed up anew, an image that was drawn twice counting as two (`ApScores`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wssis.data.records import CocoData
from wssis.evaluation.coco_ap import matched

Floats = NDArray[np.float64]


class Scores(Protocol):
    """What was measured of a model on I images, ready to be averaged over any resample of them."""

    @property
    def images(self) -> int:
        """I."""
        ...

    def by_class(self, weights: Floats) -> Floats:
        """Score (K,) of each class with image i counted weights[i] (I,) times; NaN without an object."""
        ...


@dataclass(frozen=True)
class ClassMatches:
    """The D results of one class, best score first; what lies on a region to ignore is no result.

    Attributes:
        image: (D,) row of the image that each is of.
        hits: for each IoU threshold the places (H,) among D of those that match an object.
        counted: (U, D) bool, those that count; thresholds differ in these only where regions are ignored.
        row: for each IoU threshold its row of `counted`.
        objects: (I,) objects of each image that count.
    """

    image: NDArray[np.int64]
    hits: tuple[NDArray[np.int64], ...]
    counted: NDArray[np.bool_]
    row: tuple[int, ...]
    objects: Floats


@dataclass(frozen=True)
class ApScores:
    """COCO's AP (mean over IoU .50:.05:.95) from the matches of I images; see `ap_scores`.

    Attributes:
        images: I.
        classes: matches by label.
        recalls: (R,) recalls at which precision is read.
    """

    images: int
    classes: tuple[ClassMatches, ...]
    recalls: Floats

    def by_class(self, weights: Floats) -> Floats:
        """AP (K,), exactly that of a data set in which image i is there weights[i] (I,) times."""
        return np.array([self._ap(item, weights) for item in self.classes])

    def _ap(self, item: ClassMatches, weights: Floats) -> float:
        total = weights @ item.objects
        if total == 0:
            return float("nan")
        # Copies of an image have the same scores and stand side by side. The envelope raises each to the
        # precision after the last of them, so that one step of their weight is as good. It is highest at
        # hits, and recall rises only there: nothing else needs to be looked at.
        each = weights[item.image]
        results = (each * item.counted).cumsum(1)
        read = np.zeros((len(item.hits), len(self.recalls)))
        for number, (places, row) in enumerate(zip(item.hits, item.row, strict=True)):
            found = each[places].cumsum()
            precision = found / (results[row, places] + np.spacing(1))
            envelope = np.maximum.accumulate(precision[::-1])[::-1]
            steps = np.searchsorted(found / total, self.recalls, side="left")
            reached = steps < len(places)
            read[number, reached] = envelope[steps[reached]]
        return float(read.mean())


def ap_scores(truth: CocoData, results: Iterable[Mapping[str, Any]], max_detections: int = 100) -> ApScores:
    """What `wssis.evaluation.coco_ap.results_ap` sums up, kept by image. Rows are the images by ascending id.

    Raises:
        InputError: an object of the truth has no mask.
    """
    evaluation = matched(truth, results, max_detections)
    settings = evaluation.params
    images, areas = len(settings.imgIds), len(settings.areaRng)
    found = evaluation.evalImgs  # classes x areas (the first is "all") x images, None where there is nothing
    classes = []
    for label in range(len(settings.catIds)):
        start = label * areas * images
        classes.append(_class_matches(found[start : start + images], len(settings.iouThrs), max_detections))
    return ApScores(images, tuple(classes), np.asarray(settings.recThrs, dtype=np.float64))


def _class_matches(found: Sequence[Any], thresholds: int, most: int) -> ClassMatches:
    objects = np.zeros(len(found))
    rows, scores = [np.zeros(0, np.int64)], [np.zeros(0)]
    matches = [np.zeros((thresholds, 0), bool)]
    ignored = [np.zeros((thresholds, 0), bool)]
    for row, item in enumerate(found):
        if item is None:
            continue
        objects[row] = np.count_nonzero(np.asarray(item["gtIgnore"]) == 0)
        scores.append(np.asarray(item["dtScores"][:most], dtype=np.float64))
        rows.append(np.full(len(scores[-1]), row))
        matches.append(np.asarray(item["dtMatches"])[:, :most] > 0)
        ignored.append(np.asarray(item["dtIgnore"])[:, :most].astype(bool))
    order = np.argsort(-np.concatenate(scores), kind="mergesort")  # stable, as COCOeval sorts
    match, ignore = np.concatenate(matches, 1)[:, order], np.concatenate(ignored, 1)[:, order]
    counted, inverse = np.unique(~ignore, axis=0, return_inverse=True)
    hits = tuple(np.flatnonzero(each) for each in match & ~ignore)
    return ClassMatches(
        np.concatenate(rows)[order], hits, counted, tuple(inverse.reshape(-1).tolist()), objects
    )


@dataclass(frozen=True)
class MeanScores:
    """A mean over objects.

    Attributes:
        sums: (I, K) sum of the objects' scores.
        counts: (I, K) objects.
    """

    sums: Floats
    counts: Floats

    @property
    def images(self) -> int:
        """I."""
        return len(self.counts)

    def by_class(self, weights: Floats) -> Floats:
        """Mean (K,) over the objects of each class."""
        counts = weights @ self.counts
        return np.divide(weights @ self.sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


@dataclass(frozen=True)
class Comparison:
    """A candidate against the model in production on the same images.

    Attributes:
        candidate, production: mean over classes; NaN where no image shows an object.
        by_class: (K,) gain of each class, NaN without an object.
        resampled: (R,) gain in each resample that shows an object.
    """

    candidate: float
    production: float
    by_class: Floats
    resampled: Floats

    @property
    def gain(self) -> float:
        """Candidate less production."""
        return self.candidate - self.production

    def interval(self, share: float = 0.95) -> tuple[float, float]:
        """Bounds of the middle `share` (0..1) of the resampled gains (percentile bootstrap)."""
        if not len(self.resampled):
            return float("nan"), float("nan")
        low, high = np.quantile(self.resampled, [(1 - share) / 2, (1 + share) / 2])
        return float(low), float(high)

    def sure(self, bar: float) -> float:
        """Share (0..1) of resamples whose gain is at least `bar`."""
        return float(np.mean(self.resampled >= bar)) if len(self.resampled) else 0.0


def compare(candidate: Scores, production: Scores, resamples: int, seed: int = 0) -> Comparison:
    """A paired bootstrap: each resample draws I of the I images, with replacement, for both.

    Args:
        candidate, production: measured on the same images in the same order.
        resamples: how many are drawn.
        seed: of the draws.

    Raises:
        ValueError: the two were not measured on as many images.
    """
    images = candidate.images
    if production.images != images:
        raise ValueError(f"compare: {images} images of one, {production.images} of the other")
    rng = np.random.default_rng(seed)
    gains = []
    for _ in range(resamples if images else 0):
        weights = np.bincount(rng.integers(images, size=images), minlength=images).astype(np.float64)
        one, other = (mean_of_classes(model.by_class(weights)) for model in (candidate, production))
        gains.append(one - other)
    resampled = np.array(gains, dtype=np.float64)
    own, its = (model.by_class(np.ones(images)) for model in (candidate, production))
    return Comparison(mean_of_classes(own), mean_of_classes(its), own - its, resampled[~np.isnan(resampled)])


def mean_of_classes(scores: Floats) -> float:
    """Mean of (K,) scores over the classes that have an object; NaN if none has."""
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if len(known) else float("nan")
