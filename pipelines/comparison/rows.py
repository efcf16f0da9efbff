"""The rows of `wssis compare`: what each calls its labels, and what these cost a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pipelines.config.platform_schema import Part, Row

ROWS: tuple[str, ...] = (*get_args(Row), *get_args(Part))
TITLES: Mapping[str, str] = {
    "strong_only": "strong only",
    "predicted": "semi-supervised, no points",
    "image_level": "+ classes of each image",
    "fixed_level": "points, fixed level",
    "adaptive_level": "points, adaptive level",
    "refined": "+ refiner",
    "ours": "ours (the default)",
    "oracle": "oracle: every mask drawn",
    "no_refiner": "ours without refiner and color",
    "no_color": "ours without color guidance",
    "cold_start": "ours from the backbone's weights",
    "equal_images": "ours, every image equally often",
    "equal_weight": "ours, all outlines count alike",
    "no_paste": "ours, no objects pasted",
}
# Settings in which the student of a row differs from that of "ours", by section.
STUDENT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "cold_start": ("student", {"start": "backbone"}),
    "equal_images": ("student", {"drawn_share": None, "drawn_end": 0.0}),
    "equal_weight": ("student", {"quality_power": 0.0}),
    "no_paste": ("augment", {"paste": 0.0}),
    "oracle": ("student", {"drawn_end": 0.0}),  # all its masks are drawn
}
LABELS_OF_OURS = tuple(row for row in STUDENT if row in get_args(Part))


def label_hours(
    row: str, ledger: Mapping[str, Any], weak_images: int, classes: int, class_seconds: float
) -> float:
    """Hours of a person's work that a row needs, held-out masks included.

    Args:
        row: one of `ROWS`.
        ledger: as `split` writes it.
        weak_images, classes: of each weak image, every class is said to be there or not (`image_level`).
        class_seconds: for one class of one image.
    """
    totals = ledger["totals"]
    if row == "oracle":
        return float(totals["full_label_hours"])
    seconds = {
        kind: sum(totals.get(use, {}).get(kind, {}).get("seconds", 0.0) for use in ("training", "selection"))
        for kind in ("mask", "point")
    }
    hours = seconds["mask"] / 3600
    if row in ("strong_only", "predicted"):
        return hours
    if row == "image_level":
        return hours + weak_images * classes * class_seconds / 3600
    return hours + seconds["point"] / 3600
