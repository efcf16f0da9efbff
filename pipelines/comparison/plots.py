"""The plots of `wssis compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.comparison.rows import ROWS, TITLES
from wssis.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Rows keep their color and marker whichever of them are shown. Colors: Okabe and Ito, told apart by all.
LOOKS: dict[str, tuple[str, str]] = dict(
    zip(
        ROWS,
        [
            ("#000000", "o"),
            ("#E69F00", "v"),
            ("#b8860b", "^"),
            ("#56B4E9", "s"),
            ("#0072B2", "D"),
            ("#CC79A7", "P"),
            ("#D55E00", "*"),
            ("#009E73", "X"),
            *((color, marker) for marker in "<>" for color in ("#999999", "#F0E442", "#6A3D9A")),
        ],
        strict=True,
    )
)
AXES = {"fraction": "share of strong images", "label_hours": "hours of labeling"}


def draw_ap(entries: Sequence[Mapping[str, Any]], x: str, path: Path) -> None:
    """AP of every row against `x` ("fraction" or "label_hours"), with bars of one standard deviation.

    Args:
        entries: with row, AP, AP_std (or None) and `x`.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in dict.fromkeys(entry["row"] for entry in entries):
        own = sorted((entry for entry in entries if entry["row"] == row), key=lambda entry: entry[x])
        color, marker = LOOKS[row]
        axes.errorbar(
            [entry[x] for entry in own],
            [entry["AP"] for entry in own],
            [entry["AP_std"] or 0.0 for entry in own],
            label=TITLES[row],
            color=color,
            marker=marker,
            capsize=3,
            linestyle="--" if row == "oracle" else "-",
        )
    axes.set(xlabel=AXES[x], ylabel="mask AP on val")
    if x == "fraction":
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xticks(sorted({entry[x] for entry in entries}))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    _save(figure, path)


def draw_sweep(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Misses against false masks over the thresholds, a panel a fraction; dots where a student was trained.

    Args:
        rows: with fraction, seed, row, threshold, missed, false, chosen and AP ("" where none was trained).
    """
    from matplotlib.figure import Figure

    fractions = list(dict.fromkeys(row["fraction"] for row in rows))
    figure = Figure(figsize=(1.5 + 3.2 * max(len(fractions), 1), 3.9), layout="constrained")
    panels = figure.subplots(1, max(len(fractions), 1), sharey=True, squeeze=False)[0]
    for axes, fraction in zip(panels, fractions, strict=False):
        shown = [row for row in rows if row["fraction"] == fraction]
        for kind, seed in dict.fromkeys((row["row"], row["seed"]) for row in shown):
            curve = [row for row in shown if (row["row"], row["seed"]) == (kind, seed)]
            first = seed == shown[0]["seed"]
            axes.plot(
                [row["false"] for row in curve],
                [row["missed"] for row in curve],
                color=LOOKS[kind][0],
                label=TITLES[kind] if first else None,
            )
            for row in [row for row in curve if row["chosen"]]:
                axes.plot(row["false"], row["missed"], LOOKS[kind][1], color=LOOKS[kind][0], markersize=8)
                note = f"over {row['threshold']:g}" + (f"\nAP {row['AP']:.3f}" if row["AP"] != "" else "")
                right = kind == "predicted"  # the upper curve: free space is above it, and below the other
                axes.annotate(
                    note,
                    (row["false"], row["missed"]),
                    xytext=(6, 4) if right else (-6, -4),
                    textcoords="offset points",
                    ha="left" if right else "right",
                    va="bottom" if right else "top",
                    size=8,
                )
        axes.set(
            xlim=(0, 1), ylim=(0, 1), xlabel="share of masks that are false", title=f"{fraction:.0%} strong"
        )
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("share of objects missed")
    if rows:
        panels[0].legend(loc="lower left", fontsize=8, frameon=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically and without what changes from run to run."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
