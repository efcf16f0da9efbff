"""Which images to draw next: those whose masks would teach most of what is not known yet.

An image gains by each object whose pseudo-label is doubtful, more if few masks of its class are drawn, and by
looking unlike the images that are drawn. Images are chosen one after another, as if those before were drawn:
so the choice is spread over classes and appearances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_BINS = 4  # a color channel


@dataclass(frozen=True)
class Candidate:
    """An image that is not drawn.

    Attributes:
        id: of the image.
        labels: (N,) int64 classes of its clicked objects; None: nobody has looked at it.
        quality: (N,) expected IoU of their pseudo-labels, 0..1.
        appearance: (D,) see `appearance`.
    """

    id: int
    labels: NDArray[np.int64] | None
    quality: Floats
    appearance: Floats


@dataclass(frozen=True)
class Choice:
    """An image to draw.

    Attributes:
        id: of the image.
        gain: sum over its objects of doubt / sqrt(1 + drawn masks of the class), times `novelty`.
        novelty: 0.5..1, by its distance to the nearest drawn or chosen image.
    """

    id: int
    gain: float
    novelty: float


def appearance(image: NDArray[np.uint8]) -> Floats:
    """Root of an image's color histogram (64,), of length 1; distances are Hellinger's times sqrt(2).

    Args:
        image: uint8 (3, H, W).
    """
    bins = image.reshape(3, -1).astype(np.int64) * _BINS // 256  # (3, pixels)
    index = (bins[0] * _BINS + bins[1]) * _BINS + bins[2]
    return np.sqrt(np.bincount(index, minlength=_BINS**3) / index.size)


def rank_images(
    candidates: Sequence[Candidate], drawn_masks: NDArray[np.int64], drawn: Floats, count: int
) -> list[Choice]:
    """The images to draw, best first.

    Args:
        candidates: images that are not drawn. Unlabeled ones count as the mean of the clicked ones.
        drawn_masks: (K,) masks of each class that are drawn.
        drawn: (M, D) appearance of the drawn images.
        count: number of images to choose.

    Returns:
        at most `count` choices.

    Example:
        >>> sure, doubtful = (
        ...     Candidate(i, np.array([0]), np.array([q]), np.eye(3)[i]) for i, q in ((0, 0.9), (1, 0.4))
        ... )
        >>> [choice.id for choice in rank_images([sure, doubtful], np.array([5]), np.eye(3)[2:], 1)]
        [1]
    """
    masks = drawn_masks.astype(np.float64)  # (K,)
    looks = np.stack([one.appearance for one in candidates]) if candidates else np.zeros((0, 0))  # (C, D)
    distance = np.full(len(candidates), np.inf)
    for row in drawn:
        distance = np.minimum(distance, np.linalg.norm(looks - row, axis=1))
    clicked = [_doubt(one, masks, 0.0) for one in candidates if one.labels is not None]
    typical = float(np.mean(clicked)) if clicked else 1.0
    left, chosen = list(range(len(candidates))), list[Choice]()
    while left and len(chosen) < count:
        doubt = np.array([_doubt(candidates[i], masks, typical) for i in left])  # (len(left),)
        finite = np.where(np.isinf(distance[left]), np.sqrt(2), distance[left])
        novelty = 0.5 + 0.5 * finite / max(finite.max(), 1e-9)
        best = int((doubt * novelty).argmax())
        index = left.pop(best)
        one = candidates[index]
        chosen.append(Choice(one.id, float(doubt[best] * novelty[best]), float(novelty[best])))
        if one.labels is not None:
            masks += np.bincount(one.labels, minlength=len(masks))
        distance = np.minimum(distance, np.linalg.norm(looks - one.appearance, axis=1))
    return chosen


def _doubt(candidate: Candidate, masks: Floats, typical: float) -> float:
    """What the objects of an image would teach; `typical` if nobody has looked at it."""
    if candidate.labels is None:
        return typical
    return float(((1 - candidate.quality) / np.sqrt(1 + masks[candidate.labels])).sum())
