"""The score threshold for showing instances: the one with the best F1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wssis.data.records import CocoData
from wssis.evaluation.coco_ap import matched


@dataclass(frozen=True)
class OperatingPoint:
    """Precision and recall at a score threshold, all in 0..1.

    Attributes:
        score: instances with a lower score are left out.
        precision: share of the remaining instances that match an object (same class, IoU >= .5).
        recall: share of the objects that one of them matches.
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
    """Instances matched with objects at IoU .5 by COCOeval; instances in a crowd are ignored.

    Attributes:
        scores: (N,) float64, descending, over all images and classes.
        hits: (N,) bool, whether the instance matches an object.
        objects: number of objects.
    """

    scores: NDArray[np.float64]
    hits: NDArray[np.bool_]
    objects: int

    @classmethod
    def of(cls, truth: CocoData, results: Iterable[Mapping[str, Any]], max_detections: int = 100) -> Matches:
        """Match the records of `to_coco_results`; arguments and errors as of
        `wssis.evaluation.coco_ap.matched`."""
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
        """Precision and recall of instances with scores >= `score`."""
        shown = int((self.scores >= score).sum())
        right = int(self.hits[:shown].sum())
        return OperatingPoint(score, right / max(shown, 1), right / max(self.objects, 1))

    def missed(self, score: float) -> float:
        """Share of objects that no instance with a score >= `score` matches; 0 without objects."""
        return 1 - self.at(score).recall if self.objects else 0.0

    def false(self, score: float) -> float:
        """Share of instances with a score >= `score` that match no object; 0 without instances."""
        return 1 - self.at(score).precision if (self.scores >= score).any() else 0.0

    def best(self) -> OperatingPoint | None:
        """The point with the best F1; None if no instance matches an object.

        The threshold lies about halfway between the last instance it keeps and the first it leaves out,
        rounded to two decimals or as many as that takes: the last digits of scores vary with the threads.
        """
        if not self.hits.any():
            return None
        shown = np.arange(1, len(self.scores) + 1)
        f1 = 2 * self.hits.cumsum() / (shown + self.objects)
        f1[:-1][self.scores[:-1] == self.scores[1:]] = -1  # one score: all of them or none
        last = int(f1.argmax())
        following = self.scores[last + 1 : last + 2].sum() or self.scores[last]
        middle = float((self.scores[last] + following) / 2)
        rounded = (round(middle, digits) for digits in range(2, 7))
        return self.at(next((x for x in rounded if following < x <= self.scores[last]), middle))
