"""Quality of pseudo-labels without their truth: a signal of each mask, brought to the scale of the IoU.

The signal (`wssis.pseudo_labels.rules`) needs no label. What IoU it stands for is learnt on held-out strong
images, whose
masks teacher and refiner have not seen. Nothing is decided by quality: it tells people where to look first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_PRIOR = 10.0  # how much the default curve weighs: about as sixty held-out objects
_EDGE = 1e-4  # signals and IoUs are kept this far from 0 and 1, where log odds end
_LEAST_SLOPE = 0.05  # a better signal never means a worse mask, whatever a few objects say
_STEPS = 50


@dataclass(frozen=True)
class Calibration:
    """Log odds of the IoU = `slope` x log odds of the signal + `offset`; by default the
    signal itself, which the curves of shapes and nuclei are near (docs/results.md).
    """

    slope: float = 1.0
    offset: float = 0.0

    def quality(self, signal: Array) -> Array:
        """Expected IoU (N,) of masks with these signals (N,), in 0..1; 0 where the signal is 0."""
        odds = np.exp(self.slope * log_odds(signal) + self.offset)
        return np.where(signal > 0, odds / (1 + odds), 0.0)


def calibrate(signal: Array, iou: Array) -> Calibration:
    """The curve of held-out masks; of none the default, of few one between.

    A logistic regression of IoUs on log odds of signals, drawn towards the default curve.

    Args:
        signal, iou: (N,) of masks that were found, in 0..1.
    """
    default = np.array([Calibration().slope, Calibration().offset])
    design = np.stack([log_odds(signal), np.ones(len(signal))], 1)
    found = default
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-design @ found))
        gradient = design.T @ (iou - p) - _PRIOR * (found - default)
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + _PRIOR * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        found = found + step.clip(-1, 1)
        if np.abs(step).max() < 1e-9:
            break
    return Calibration(max(float(found[0]), _LEAST_SLOPE), float(found[1]))


def log_odds(share: Array) -> Array:
    """Log odds of shares (N,) in 0..1, those near the ends moved inwards."""
    inside = np.asarray(share, dtype=np.float64).clip(_EDGE, 1 - _EDGE)
    return np.log(inside / (1 - inside))


def rank_correlation(first: Array, second: Array) -> float:
    """Spearman's rank correlation of two (N,), -1..1; 0 if one is constant."""
    from scipy.stats import spearmanr  # a second to import, and only the stage audit needs it

    if min(len(np.unique(first)), len(np.unique(second))) < 2:
        return 0.0
    return float(spearmanr(first, second).statistic)
