"""The score from which instances are shown: where precision and recall together are best (F1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wssis.data.coco import CocoData
from wssis.metrics import matched


@dataclass(frozen=True)
class OperatingPoint:
    """What is found of the objects where instances below a score are left out, all in 0..1.

    Attributes:
        score: least score of an instance that is shown.
        precision: share of the shown instances that match an object (same class, IoU of at least .5).
        recall: share of the objects that a shown instance matches.
    """

    score: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


@dataclass(frozen=True)
class Matches:
    """Instances matched with objects at IoU .5, as COCOeval does it; crowds neither count nor cost.

    Attributes:
        scores: (N,) float64, descending, of all images and classes.
        hits: (N,) bool, whether the instance has an object of its own.
        objects: number of objects.
    """

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    objects: int

    @classmethod
    def of(cls, truth: CocoData, results: Iterable[Mapping[str, Any]], max_detections: int = 100) -> Matches:
        """Match the records of `to_coco_results`; arguments and errors as of `wssis.metrics.matched`."""
        evaluation = matched(truth, results, max_detections)
        images, areas = len(evaluation.params.imgIds), len(evaluation.params.areaRngLbl)
        half = [round(float(value), 2) for value in evaluation.params.iouThrs].index(0.5)
        every = evaluation.params.areaRngLbl.index("all")
        scores, hits, objects = [np.empty(0)], [np.empty(0, bool)], 0
        for place, item in enumerate(evaluation.evalImgs):  # classes x areas x images
            if item is None or place // images % areas != every:
                continue
            counts = ~item["dtIgnore"][half]
            scores.append(item["dtScores"][counts])
            hits.append(item["dtMatches"][half][counts])
            objects += int((np.asarray(item["gtIgnore"]) == 0).sum())
        found, right = np.concatenate(scores), np.concatenate(hits)
        order = np.argsort(-found, kind="stable")
        return cls(found[order], right[order], objects)

    def at(self, score: float) -> OperatingPoint:
        """What instances of at least `score` find."""
        shown = int((self.scores >= score).sum())
        right = int(self.hits[:shown].sum())
        return OperatingPoint(score, right / max(shown, 1), right / max(self.objects, 1))

    def missed(self, score: float) -> float:
        """Share of the objects that no instance of at least `score` matches; 0 where there is no object."""
        return 1 - self.at(score).recall if self.objects else 0.0

    def false(self, score: float) -> float:
        """Share of the instances of at least `score` that match no object; 0 where there is no instance."""
        return 1 - self.at(score).precision if (self.scores >= score).any() else 0.0

    def best(self) -> OperatingPoint | None:
        """The point of the best F1; None if no instance matches an object.

        Its score lies half-way between the last instance shown and the first left out.
        """
        if not self.hits.any():
            return None
        shown = np.arange(1, len(self.scores) + 1)
        f1 = 2 * self.hits.cumsum() / (shown + self.objects)
        f1[:-1][self.scores[:-1] == self.scores[1:]] = -1  # one score: all of them or none
        last = int(f1.argmax())
        following = self.scores[last + 1 : last + 2].sum() or self.scores[last]
        return self.at(float((self.scores[last] + following) / 2))
