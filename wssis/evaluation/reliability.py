"""Whether a confidence tells how good a mask is: confidence against IoU with the truth, in bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bin:
    """Masks of like confidence.

    Attributes:
        low, high: confidences low ≤ c < high (the last bin has its upper end, too), 0..1.
        count: masks, at least 1.
        confidence, iou: their means, 0..1.
        half: share of them of an IoU over .5.
    """

    low: float
    high: float
    count: int
    confidence: float
    iou: float
    half: float


def reliability(confidence: Sequence[float], iou: Sequence[float], bins: int = 10) -> list[Bin]:
    """Bins of equal width over 0..1, those without a mask left out, in ascending order.

    Args:
        confidence, iou: of N masks, 0..1.
        bins: how many.

    Raises:
        ValueError: of different lengths.
    """
    given, found = np.asarray(confidence, dtype=np.float64), np.asarray(iou, dtype=np.float64)
    if given.shape != found.shape:
        raise ValueError(f"reliability: expected as many IoUs as confidences, got {len(found)}, {len(given)}")
    place = np.minimum((given * bins).astype(np.int64), bins - 1)
    result = []
    for number in np.unique(place).tolist():
        rows = place == number
        result.append(
            Bin(
                number / bins,
                (number + 1) / bins,
                int(rows.sum()),
                float(given[rows].mean()),
                float(found[rows].mean()),
                float((found[rows] > 0.5).mean()),
            )
        )
    return result


def calibration_gap(bins: Sequence[Bin]) -> float:
    """Mean distance of confidence and IoU over bins, each weighed by its masks; 0 is perfect.

    The expected calibration error (arXiv 1706.04599) with the IoU in the accuracy's place.
    """
    count = sum(item.count for item in bins)
    return sum(item.count * abs(item.confidence - item.iou) for item in bins) / max(count, 1)
