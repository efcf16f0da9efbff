"""Hours of each row by the ledger."""

from __future__ import annotations

import pytest

from pipelines.comparison.rows import ROWS, TITLES, label_hours

LEDGER = {
    "totals": {
        "training": {"mask": {"count": 50, "seconds": 3600.0}, "point": {"count": 100, "seconds": 360.0}},
        "selection": {"mask": {"count": 25, "seconds": 1800.0}},
        "evaluation": {"mask": {"count": 900, "seconds": 9e9}},
        "label_hours": 1.6,
        "full_label_hours": 12.0,
    }
}


def test_each_row_pays_for_what_it_uses() -> None:
    hours = {row: label_hours(row, LEDGER, 180, 3, 2.0) for row in ROWS}
    assert hours["strong_only"] == hours["predicted"] == 1.5
    assert hours["image_level"] == pytest.approx(1.5 + 180 * 3 * 2 / 3600)
    assert {hours[row] for row in ("fixed_level", "adaptive_level", "refined", "ours")} == {1.6}
    assert hours["oracle"] == 12.0
    assert set(TITLES) == set(ROWS)


def test_a_split_without_points_costs_masks_only() -> None:
    totals = {"training": {"mask": {"count": 1, "seconds": 7.2}}, "full_label_hours": 1.0}
    assert label_hours("ours", {"totals": totals}, 0, 1, 1.0) == pytest.approx(0.002)
