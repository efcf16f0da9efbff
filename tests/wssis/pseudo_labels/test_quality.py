"""Quality without truth: monotone, near the IoU, sane with few objects."""

import numpy as np
import pytest

from wssis.pseudo_labels.quality import Calibration, calibrate, rank_correlation

SIGNAL = np.linspace(0.05, 0.95, 200)


def test_without_held_out_objects_the_signal_itself_is_the_quality() -> None:
    nothing = np.zeros(0)
    assert calibrate(nothing, nothing) == Calibration()
    assert np.allclose(Calibration().quality(SIGNAL), SIGNAL)
    assert Calibration().quality(np.array([0.0, 1.0])) == pytest.approx([0.0, 1.0], abs=2e-4)


def test_a_curve_is_found_again() -> None:
    truth = Calibration(1.7, -0.8)
    found = calibrate(np.tile(SIGNAL, 20), np.tile(truth.quality(SIGNAL), 20))
    assert found.quality(SIGNAL) == pytest.approx(truth.quality(SIGNAL), abs=0.01)


def test_few_objects_move_the_default_only_a_little() -> None:
    """Three objects that say the opposite: the order of labels stays, no quality leaves 0..1."""
    found = calibrate(np.array([0.1, 0.5, 0.9]), np.array([1.0, 0.5, 0.0]))
    quality = found.quality(SIGNAL)
    assert (np.diff(quality) > 0).all()
    assert (quality > 0).all()
    assert (quality < 1).all()
    assert np.abs(quality - SIGNAL).max() < 0.15


def test_order_stays_however_many_objects_say_the_opposite() -> None:
    found = calibrate(np.tile(SIGNAL, 10), np.tile(1 - SIGNAL, 10))
    assert (np.diff(found.quality(SIGNAL)) > 0).all()


def test_the_rank_correlation_is_spearmans() -> None:
    first, second = np.array([0.1, 0.2, 0.2, 0.9]), np.array([0.0, 0.5, 0.4, 0.6])
    assert rank_correlation(first, second) == pytest.approx(0.9**0.5)  # ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4
    assert rank_correlation(SIGNAL, SIGNAL**3) == pytest.approx(1.0)
    assert rank_correlation(SIGNAL, np.ones(200)) == rank_correlation(SIGNAL[:1], SIGNAL[:1]) == 0.0
