"""wssis.evaluation.reliability: bins hold every mask once, and the gap is what it says."""

from __future__ import annotations

import numpy as np
import pytest

from wssis.evaluation.reliability import Bin, calibration_gap, reliability


def test_bins_hold_their_masks_with_their_ends_where_they_belong():
    bins = reliability([0.0, 0.25, 0.49, 0.5, 1.0], [0.1, 0.6, 0.2, 0.5, 0.9], bins=4)
    assert [(b.low, b.high, b.count) for b in bins] == [
        (0, 0.25, 1),
        (0.25, 0.5, 2),
        (0.5, 0.75, 1),
        (0.75, 1, 1),
    ]
    assert bins[1] == Bin(0.25, 0.5, 2, pytest.approx(0.37), pytest.approx(0.4), 0.5)
    assert [b.half for b in bins] == [0, 0.5, 0, 1]


def test_empty_bins_are_left_out_and_nothing_is_no_bin():
    assert [b.low for b in reliability([0.05, 0.95], [0, 1])] == [0.0, 0.9]
    assert reliability([], []) == []
    assert calibration_gap([]) == 0


def test_the_gap_is_weighed_by_masks():
    confidence = [0.9] * 3 + [0.1]
    assert calibration_gap(reliability(confidence, confidence)) == pytest.approx(0)
    assert calibration_gap(reliability(confidence, [0.7] * 3 + [0.5])) == pytest.approx((3 * 0.2 + 0.4) / 4)


@pytest.mark.parametrize("seed", range(3))
def test_every_mask_is_in_one_bin(seed):
    rng = np.random.default_rng(seed)
    confidence, iou = rng.random(500).round(4), rng.random(500)
    bins = reliability(confidence, iou)
    assert sum(b.count for b in bins) == 500
    assert sum(b.count * b.iou for b in bins) == pytest.approx(iou.sum())
    assert all(b.low <= b.confidence <= b.high for b in bins)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="as many IoUs as confidences, got 1, 2"):
        reliability([0.1, 0.2], [0.3])
