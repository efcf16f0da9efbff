"""Predictions over a score threshold as labels: what is missed and what is false at each threshold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wssis.data import rle as rle_api
from wssis.data.coco import Annotation, ImageRecord
from wssis.instances import Instances

THRESHOLDS = tuple(round(0.05 * n, 2) for n in range(1, 20))
IOU = 0.5  # from here on a mask is one of an object


@dataclass(frozen=True)
class Judged:
    """Predictions beside the truth.

    Attributes:
        scores: (N,) float32 of the predictions of all images.
        hits: (N,) bool, whether a prediction is the best scored one of an object.
        objects: number of objects.
    """

    scores: Tensor
    hits: Tensor
    objects: int

    def at(self, threshold: float) -> tuple[int, int, int]:
        """Numbers of hits, false masks and missed objects with scores >= `threshold`."""
        given = self.scores >= threshold
        hits = int((self.hits & given).sum())
        return hits, int(given.sum()) - hits, self.objects - hits

    def shares(self, threshold: float) -> tuple[float, float]:
        """Share of objects that are missed, and share of the masks that are false (0 without a mask)."""
        hits, false, missed = self.at(threshold)
        return missed / max(self.objects, 1), false / max(hits + false, 1)

    def f1(self, threshold: float) -> float:
        """2 hits / (2 hits + false + missed)."""
        hits, false, missed = self.at(threshold)
        return 2 * hits / max(2 * hits + false + missed, 1)


def judge(pairs: Iterable[tuple[Instances, ImageRecord]]) -> Judged:
    """Match the predictions of each image with its objects, the best scored first.

    Whether a prediction hits does not depend on those scored lower, so that one matching serves all
    thresholds. Predictions that lie mostly in a crowd or an ignore region are neither right nor wrong.
    """
    scores, hits, objects = [torch.zeros(0)], [torch.zeros(0, dtype=torch.bool)], 0
    for found, record in pairs:
        assert found.masks is not None
        assert found.scores is not None
        truth = record.instances()
        objects += len(truth)
        order = found.scores.argsort(descending=True, stable=True)
        found = found[order].to("cpu")
        assert found.masks is not None
        assert found.scores is not None
        hit = matched(found, truth)
        known = torch.ones(len(found), dtype=torch.bool)
        if truth.ignore is not None:
            area = found.masks.flatten(1).sum(1)
            known = hit | (2 * (found.masks & truth.ignore).flatten(1).sum(1) <= area)
        scores.append(found.scores[known])
        hits.append(hit[known])
    return Judged(torch.cat(scores), torch.cat(hits), objects)


def matched(found: Instances, truth: Instances) -> Tensor:
    """Which predictions (N,), best first, are the first of a yet free object of their class."""
    hit = torch.zeros(len(found), dtype=torch.bool)
    if truth.masks is None or not len(truth) or not len(found):
        return hit
    assert found.masks is not None
    a, b = found.masks.flatten(1).float(), truth.masks.flatten(1).float()
    both = a @ b.T
    iou = both / (a.sum(1)[:, None] + b.sum(1)[None] - both).clamp(min=1)
    iou *= found.labels[:, None] == truth.labels[None]
    for row in range(len(found)):
        best = int(iou[row].argmax())
        if iou[row, best] >= IOU:
            hit[row] = True
            iou[:, best] = 0
    return hit


def chosen(judged: Judged, thresholds: Sequence[float] = THRESHOLDS) -> float:
    """The threshold with the best F1; the middle one of several, which few objects often leave."""
    scores = [judged.f1(threshold) for threshold in thresholds]
    best = [t for t, score in zip(thresholds, scores, strict=True) if score == max(scores)]
    return best[len(best) // 2]


def of_classes(found: Instances, record: ImageRecord) -> Instances:
    """The predictions of classes that the image is known to show: those of its objects or points."""
    shown = torch.tensor(sorted({item.label for item in record.objects}), dtype=torch.int64)
    return found[torch.isin(found.labels, shown.to(found.labels.device))]


def as_labels(record: ImageRecord, found: Instances, threshold: float, first: int) -> ImageRecord:
    """The image with the predictions over `threshold` as its objects, with ids from `first` on."""
    assert found.scores is not None
    found = found[found.scores >= threshold]
    assert found.masks is not None
    assert found.scores is not None
    columns = found.labels.tolist(), rle_api.encode(found.masks), found.scores.tolist()
    items = [
        Annotation(first + n, label, rle, score=score)
        for n, (label, rle, score) in enumerate(zip(*columns, strict=True))
    ]
    return ImageRecord(record.id, record.file_name, record.height, record.width, tuple(items))
