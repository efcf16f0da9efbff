"""Charts of the report as SVG data URIs: the same numbers give the same bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from wssis.evaluation.reliability import Bin

# After Okabe and Ito: distinguishable with color blindness.
COLORS = {
    "teacher": "#777777",
    "strong only": "#d55e00",
    "student": "#0072b2",
    "refiner": "#009e73",
    "trial": "#999999",
    "best so far": "#0072b2",
}
SIZE = (4.6, 3.0)  # inches; readable on a phone
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "wssis",  # otherwise ids change from run to run
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}

Curve = tuple[Sequence[float], Sequence[float]]  # x, y


def curves(lines: Mapping[str, Curve], labels: tuple[str, str], smooth: bool = False) -> str:
    """Lines over integers; with `smooth`, each as a faint line with its running mean."""
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Any) -> None:
        for name, (x, y) in lines.items():
            color = COLORS.get(name)
            window = max(1, len(y) // 20)
            if smooth and window > 1:
                axes.plot(x, y, color=color, alpha=0.2, linewidth=0.8)
                mean = np.convolve(y, np.ones(window) / window, mode="valid")
                axes.plot(list(x)[window - 1 :], mean, color=color, label=name)
            else:
                axes.plot(x, y, color=color, label=name)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    return _svg(draw)


def bars(groups: Sequence[str], series: Mapping[str, Sequence[float]], label: str) -> str:
    """Groups of bars, one bar per series; a negative value is unknown and left out."""

    def draw(axes: Any) -> None:
        width = 0.8 / max(len(series), 1)
        for number, (name, values) in enumerate(series.items()):
            known = [(n, value) for n, value in enumerate(values) if value >= 0]
            x = [n + (number - (len(series) - 1) / 2) * width for n, _ in known]
            axes.bar(x, [value for _, value in known], width, color=COLORS.get(name), label=name)
        axes.set(ylabel=label, xlim=(-0.5, len(groups) - 0.5), ylim=(0, None))
        axes.set_xticks(range(len(groups)), groups)
        axes.grid(axis="x", visible=False)

    return _svg(draw)


def reliability_chart(bins: Sequence[Bin]) -> str:
    """Mean IoU over mean confidence of bins; larger dots hold more masks."""

    def draw(axes: Any) -> None:
        most = max((item.count for item in bins), default=1)
        x, y = [item.confidence for item in bins], [item.iou for item in bins]
        axes.plot([0, 1], [0, 1], color="#999999", linestyle="--", linewidth=1, label="equal")
        axes.plot(x, y, color=COLORS["refiner"], linewidth=1, label="mean IoU")
        axes.scatter(x, y, s=[12 + 120 * item.count / most for item in bins], color=COLORS["refiner"])
        half = [item.half for item in bins]
        axes.plot(x, half, color=COLORS["student"], marker=".", linewidth=1, label="share over .5")
        axes.set(xlabel="confidence", ylabel="IoU with the truth", xlim=(0, 1), ylim=(0, 1.02))

    return _svg(draw)


def _svg(draw: Callable[[Any], None]) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    file = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.subplots()
        draw(axes)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper left", ncols=3, frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue().encode()).decode()}"
