"""wssis.data.label_cost: what counts as which label, and the sums."""

from __future__ import annotations

import pytest
import torch

from wssis.data import rle
from wssis.data.label_cost import PRICES, labels_used, make_ledger
from wssis.data.records import Annotation, Category, CocoData, ImageRecord

MASK = rle.encode(torch.ones(1, 4, 4))[0]
DATA = CocoData(
    (Category(1, "a"),),
    (
        ImageRecord(1, "x.png", 4, 4, (Annotation(1, 0, MASK), Annotation(2, 0, MASK, crowd=True))),
        ImageRecord(2, "y.png", 4, 4, (Annotation(3, 0, MASK, point=(1, 1)), Annotation(4, 0, point=(1, 1)))),
        ImageRecord(3, "z.png", 4, 4),
    ),
    "images",
)


def test_a_mask_costs_a_mask_also_with_a_point_and_a_crowd_too():
    entries = labels_used(DATA, "training")
    assert [(e["image_id"], e["kind"], e["count"], e["seconds"]) for e in entries] == [
        (1, "mask", 2, 158.4),
        (2, "mask", 1, 79.2),
        (2, "point", 1, 1.9),
    ]
    assert {e["use"] for e in entries} == {"training"}


def test_evaluation_is_listed_but_is_no_label_hour():
    entries = [*labels_used(DATA, "training"), *labels_used(DATA, "evaluation")]
    ledger = make_ledger(entries, objects=3)
    assert len(ledger["labels"]) == 6
    assert ledger["prices"] == dict(PRICES)
    assert ledger["totals"]["evaluation"] == ledger["totals"]["training"]
    assert ledger["totals"]["label_hours"] == pytest.approx((3 * 79.2 + 1.9) / 3600, abs=1e-6)
    assert ledger["totals"]["full_label_hours"] == pytest.approx(3 * 79.2 / 3600, abs=1e-6)


def test_no_label_no_entry():
    ledger = make_ledger(labels_used(DATA.subset([3]), "training"), objects=0)
    assert ledger["labels"] == []
    assert ledger["totals"] == {"label_hours": 0, "full_label_hours": 0}


def test_every_click_costs_a_point():
    clicks = ((1.0, 2.0, True), (3.0, 3.0, False))
    images = (ImageRecord(1, "x.png", 4, 4, (Annotation(1, 0, point=(1, 1), clicks=clicks),)),)
    [entry] = labels_used(CocoData(DATA.categories, images, "images"), "training")
    assert (entry["kind"], entry["count"], entry["seconds"]) == ("point", 3, 5.7)
