"""Pictures of a study, by Optuna itself."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.search.study import Search, TrialResult
from pipelines.search.trial_claims import distributions
from wssis.files import atomic_path


def draw(search: Search, tried: Sequence[TrialResult], folder: Path) -> list[Path]:
    """Importance, history, slices, parallel coordinates and reported values as PNG files in `folder`.

    Trials are numbered by their slots; pruned ones are drawn with what they would have come to.

    Returns:
        The files; without `importance.png` where there are fewer than three trials.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import optuna
    from optuna.visualization import matplotlib as plots

    study, space = optuna.create_study(direction="maximize"), distributions(search)
    for one in tried:
        given: dict[str, Any] = {"value": one.worth, "params": one.values, "intermediate_values": one.steps}
        study.add_trial(optuna.trial.create_trial(distributions=space, **given))
    kinds: dict[str, Any] = {
        "history": plots.plot_optimization_history,
        "slice": plots.plot_slice,
        "parallel": plots.plot_parallel_coordinate,
        "reported": plots.plot_intermediate_values,
    }
    if len(tried) > 2:
        kinds["importance"] = plots.plot_param_importances
    drawn = []
    for name, plot in kinds.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = folder / f"{name}.png"
            _save(plot(study), path)
        drawn.append(path)
    return drawn


def _save(axes: Any, path: Path) -> None:
    """Write the figure of Optuna's axes (one, or an array of them)."""
    from matplotlib import pyplot

    figure = getattr(axes, "flat", [axes])[0].figure
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=90, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)
