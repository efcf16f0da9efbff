"""Whether two implementations find the same instances: how far scores and masks are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from wssis.instances import Instances
from wssis.ops.nms import pairwise_iou

SCORES, IOU, PIXELS = 1e-4, 0.999, 2
MOVED, SHARE = 0.01, 0.002  # how far, and of how many instances, rounding moves scores in a crowd


@dataclass(frozen=True)
class Parity:
    """How far the instances of some images are apart.

    Attributes:
        images: compared. instances: pairs of the same class and place.
        unpaired: instances that only one of the two found, though no threshold was near.
        score: greatest difference of two scores. apart: pairs whose scores differ by more than 1e-4.
        iou: mean IoU of the pairs' masks, 1 without any. least_iou: the least.
        changed: pairs with an IoU below 0.999 that differ in more than 2 pixels: rounding moves a pixel
            whose probability is the threshold's, which is much of a mask of 100 pixels.
    """

    images: int
    instances: int
    unpaired: int
    score: float
    apart: int
    iou: float
    least_iou: float
    changed: int

    @property
    def holds(self) -> bool:
        """Scores within 1e-4, IoU 0.999 on average, no mask changed, nothing found by one alone."""
        return not self.unpaired and not self.changed and self.score <= SCORES and self.iou >= IOU

    @property
    def within_rounding(self) -> bool:
        """Holds, or would but for a few scores: of one instance, or 0.2 %, by at most 0.01.

        Float32 rounds otherwise in each program. Where that moves a pixel over the threshold, the IoU of
        two small masks changes by a hundredth, and with it how far Matrix NMS lowers the score of the next.
        """
        few = self.apart <= max(1, SHARE * self.instances) and self.score <= MOVED
        return not self.unpaired and not self.changed and few and self.iou >= IOU

    def __str__(self) -> str:
        return (
            f"{self.instances} instances in {self.images} images, {self.unpaired} without a partner; "
            f"scores within {self.score:.1e} ({self.apart} not within 1e-4), "
            f"mask IoU {self.iou:.5f} (least {self.least_iou:.4f}, {self.changed} changed)"
        )


def parity(ours: Sequence[Instances], theirs: Sequence[Instances], threshold: float, most: int) -> Parity:
    """Compare what was found on the same images.

    Args:
        threshold: least score of an instance, `most`: most of an image: one that is within 1e-4 of falling
            out by either may be missing from the other side.
    """
    unpaired, changed, scores, ious = 0, 0, [0.0], []
    for a, b in zip(ours, theirs, strict=True):
        iou = pairwise_iou(a.get_masks().flatten(1).float(), b.get_masks().flatten(1).float()) * (
            a.labels[:, None] == b.labels
        )
        pairs = paired(iou - (a.get_scores()[:, None] - b.get_scores()).abs())
        for row, column in pairs:
            scores.append(float((a.get_scores()[row] - b.get_scores()[column]).abs()))
            ious.append(float(iou[row, column]))
            differ = int((a.get_masks()[row] ^ b.get_masks()[column]).sum())
            changed += ious[-1] < IOU and differ > PIXELS
        for side, used in ((a, {row for row, _ in pairs}), (b, {column for _, column in pairs})):
            floor = float(side.get_scores()[-1]) if len(side) >= most else threshold
            alone = [float(score) for place, score in enumerate(side.get_scores()) if place not in used]
            unpaired += sum(score > floor + SCORES for score in alone)
    return Parity(
        len(ours),
        len(ious),
        unpaired,
        max(scores),
        sum(score > SCORES for score in scores),
        sum(ious) / len(ious) if ious else 1.0,
        min(ious, default=1.0),
        changed,
    )


def paired(likeness: torch.Tensor) -> list[tuple[int, int]]:
    """Rows and columns of (N, M) that are mutual nearest matches, with a similarity over 0.5."""
    if not likeness.numel():
        return []
    best, columns = likeness.max(1)
    back = likeness.argmax(0)
    return [
        (row, column)
        for row, column in enumerate(columns.tolist())
        if best[row] > 0.5 and int(back[column]) == row
    ]
