"""The rows of `wssis compare`: what each calls its labels, and what these cost a person."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pipelines.config.platform_schema import Row
from pipelines.runner.run_stage import StageContext, run

ROWS: tuple[Row, ...] = get_args(Row)
TITLES: Mapping[Row, str] = {
    "strong_only": "strong only",
    "predicted": "semi-supervised, no points",
    "image_level": "+ classes of each image",
    "fixed_level": "points, fixed level",
    "adaptive_level": "points, adaptive level",
    "refined": "+ refiner",
    "ours": "ours (the default)",
    "oracle": "oracle: every mask drawn",
}


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


def run_row(
    name: str, body: Callable[[StageContext, str], None], sections: tuple[str, ...], together: bool = False
) -> int:
    """Run a stage of one row, which the command line names; returns the exit code."""
    if len(sys.argv) != 2 or sys.argv[1] not in ROWS:
        print(f"usage: {name} {'|'.join(ROWS)}", file=sys.stderr)
        return 2
    row = sys.argv[1]
    return run(f"{name} {row}", lambda stage: body(stage, row), sections, together=together)
