"""wssis.label_budget: what a curve may never do, and what advice may never recommend."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wssis.label_budget import PAPER, Curve, Measured, Stock, advise, after, curve_spread, fit_curve

PRICES = {"mask": 79.2, "point": 1.9}
STOCKS = st.builds(
    Stock,
    unlabelled=st.integers(0, 300),
    clicked=st.integers(0, 100),
    drawn=st.integers(1, 50),
    points=st.integers(0, 900),
    masks=st.integers(1, 400),
).map(lambda stock: stock if stock.clicked else replace(stock, points=0))


def test_the_papers_curve_rises_and_stays_near_its_table() -> None:
    curve = fit_curve(PAPER)
    assert curve.miss < 0.025  # between 2 and 5 % the table itself jumps by .08
    assert 0.38 < curve.ap(1, 0) < 0.42
    assert (np.diff(curve.ap(np.linspace(0.001, 1, 200), 0.5)) >= 0).all()
    assert (np.diff(curve.ap(0.05, np.linspace(0, 0.95, 200))) > 0).all()
    assert curve.ap(0, 1) == 0  # nothing guesses masks where nobody drew one
    scaled = fit_curve(PAPER, unit=500)
    assert scaled.ap(50, 450) == pytest.approx(float(curve.ap(0.1, 0.9)))


def test_a_curve_is_found_again() -> None:
    true = Curve(top=0.5, drop=0.9, power=0.5, half=40)
    labels = [(m, p) for m in (10, 30, 90, 270) for p in (0, 500)]
    found = fit_curve([Measured(m, p, float(true.ap(m, p))) for m, p in labels])
    assert found.miss < 0.005
    assert found.ap(150, 400) == pytest.approx(float(true.ap(150, 400)), abs=0.01)


@pytest.mark.parametrize("ap", [[0.3, 0.2, 0.1], [0.2, 0.2, 0.2], [0.1, 0.5, 1.0]])
def test_whatever_was_measured_a_curve_neither_falls_nor_leaves_the_range(ap: list[float]) -> None:
    curve = fit_curve([Measured(m, 0, a) for m, a in zip((10, 100, 1000), ap, strict=True)])
    expected = curve.ap(np.geomspace(1, 1e6, 100), 0)
    assert (np.diff(expected) >= 0).all()
    assert ((expected >= 0) & (expected <= 1)).all()


def test_too_little_is_refused() -> None:
    for measured in ([], [Measured(1, 0, 0.1)], [Measured(0, 9, 0.1), Measured(1, 0, 0.2)]):
        with pytest.raises(ValueError, match="at least two"):
            fit_curve(measured)


@settings(max_examples=60, deadline=None)
@given(stock=STOCKS, hours=st.lists(st.floats(0, 500), min_size=2, max_size=2))
def test_advice_keeps_to_hours_and_images_and_more_hours_never_cost_ap(
    stock: Stock, hours: list[float]
) -> None:
    curve = fit_curve(PAPER, stock.objects)
    less, more = (advise(stock, h, PRICES, curve) for h in sorted(hours))
    for advice, given_hours in zip((less, more), sorted(hours), strict=True):
        assert advice.draw_hours + advice.click_hours <= given_hours + 1e-6
        assert 0 <= advice.draw_unlabelled + advice.click <= stock.unlabelled
        assert 0 <= advice.draw_clicked <= stock.clicked
        assert advice.ap >= advice.ap_now
        masks, points = after(stock, advice)
        assert masks + points <= stock.objects + 1e-6
        assert advice.ap == pytest.approx(float(curve.ap(masks, points)))
    assert more.ap >= less.ap


def test_no_hours_nothing_to_do_and_endless_hours_everything() -> None:
    stock = Stock(unlabelled=20, clicked=10, drawn=5, points=30, masks=15)
    curve = fit_curve(PAPER, stock.objects)
    nothing = advise(stock, 0, PRICES, curve)
    assert (nothing.draw_unlabelled, nothing.draw_clicked, nothing.click) == (0, 0, 0)
    assert nothing.ap == nothing.ap_now
    everything = advise(stock, 1e6, PRICES, curve)
    assert (everything.draw_unlabelled, everything.draw_clicked, everything.click) == (20, 10, 0)
    assert after(stock, everything) == (pytest.approx(stock.objects), pytest.approx(0))


def test_a_mix_can_be_best_and_prices_move_it() -> None:
    stock = Stock(unlabelled=400, clicked=50, drawn=11, points=2600, masks=580)
    curve = fit_curve(PAPER, stock.objects)
    mixed = advise(stock, 20, PRICES, curve)
    assert mixed.draw_unlabelled > 0
    assert mixed.click > 0
    dear = advise(stock, 20, {"mask": 79.2, "point": 79.2}, curve)
    assert dear.click == 0


def test_spread_holds_the_fit_of_all() -> None:
    low, high = curve_spread(PAPER, 0.3, 0.7)
    assert low <= fit_curve(PAPER).ap(0.3, 0.7) <= high
    assert high - low < 0.02
