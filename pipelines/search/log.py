"""What a search leaves: progress, an MLflow run for each trial, a table for DVC, Optuna's plots."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna import Study
from optuna.trial import FrozenTrial

from pipelines.console.progress import Meter
from pipelines.runner.run_stage import StageContext
from pipelines.runner.training_log import write_csv
from pipelines.search.storage import open_storage
from pipelines.search.study import PRUNED, Search, finished, is_pruned, run_trials
from pipelines.tracking.tracker import ChildRun, NullTracker
from wssis.files import atomic_path


class TrialLog:
    """Callback of `study.optimize`: logs each finished trial, also those of other workers, once."""

    def __init__(self, tracker: NullTracker, meter: Meter) -> None:
        self.tracker, self.meter = tracker, meter
        self._logged: set[int] = set()

    def __call__(self, study: Study, trial: FrozenTrial | None = None) -> None:
        """Log the trials that are new."""
        trials = finished(study)
        for finished_trial, row in zip(trials, rows(trials), strict=True):
            if finished_trial.number not in self._logged:
                self._logged.add(finished_trial.number)
                self.meter.step(f"best {row['best']:.4f}", len(self._logged))
                self.tracker.metrics({"tune/worth": row["value"], "tune/best": row["best"]}, row["trial"])
                self._log_run(finished_trial, row["value"])

    def _log_run(self, trial: FrozenTrial, value: float) -> None:
        """A run below the stage's; MLflow's state for a pruned one is KILLED."""
        assert trial.datetime_start is not None
        assert trial.datetime_complete is not None
        reason = trial.user_attrs.get(PRUNED, f"by {trial.last_step} steps")
        run = ChildRun(
            f"trial {trial.number}",
            params=trial.params,
            metrics=[
                ("worth", value, 0),
                *(("reported", v, n) for n, v in trial.intermediate_values.items()),
            ],
            tags={"wssis.trial": trial.number} | ({"wssis.pruned": reason} if is_pruned(trial) else {}),
            times=(trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()),
            status="KILLED" if is_pruned(trial) else "FINISHED",
        )
        self.tracker.child(run)


def run_search(stage: StageContext, search: Search, plot: Path) -> Study:
    """Run the trials that are left, log them, write the table `plot`.

    Raises:
        InputError: the storage cannot be opened.
    """
    storage = open_storage(stage.params.optuna.storage)
    with Meter(search.name, search.n_trials, "trials") as meter:
        log = TrialLog(stage.tracker, meter)
        study = run_trials(search, storage, [log])
        log(study)  # where nothing was left to run
    trials = finished(study)
    write_csv(plot, rows(trials))
    cost = search_costs(trials)
    stage.tracker.metrics({f"tune/{name}": value for name, value in cost.items()})
    stage.tracker.tags({"optuna.study": search.study_name})
    stage.say(
        f"{len(trials)} trials, {cost['pruned']:.0f} pruned, {cost['reports']:.0%} of their steps run, "
        f"{cost['trials_an_hour']:.0f} an hour"
    )
    if stage.tracker.run_id is not None:
        with tempfile.TemporaryDirectory() as folder:
            draw(study, Path(folder))
            stage.tracker.file(folder, "search")
    return study


def rows(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """Rows of the table: number, value, best so far, whether pruned, and the parameters."""
    table: list[dict[str, Any]] = []
    best = -float("inf")
    for trial in trials:
        value = trial.value or 0.0  # without one: a training that diverged before its first report
        best = max(best, value) if not is_pruned(trial) or not table else best
        table.append({"trial": trial.number, "value": value, "best": best, "pruned": int(is_pruned(trial))})
        table[-1] |= trial.params
    return table


def search_costs(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Number of pruned trials, share of all steps that were run, trials an hour of one worker."""
    steps = [len(trial.intermediate_values) for trial in trials]
    seconds = sum(trial.duration.total_seconds() for trial in trials if trial.duration)
    return {
        "pruned": float(sum(map(is_pruned, trials))),
        "reports": sum(steps) / max(1, max(steps) * len(steps)),
        "trials_an_hour": 3600 * len(trials) / max(seconds, 1e-3),
    }


def draw(study: Study, folder: Path) -> None:
    """Write Optuna's plots of a study as PNG files to `folder`; importance needs three trials."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    kinds: dict[str, Any] = {
        "history": plots.plot_optimization_history,
        "slice": plots.plot_slice,
        "parallel": plots.plot_parallel_coordinate,
        "reported": plots.plot_intermediate_values,
    }
    if len(finished(study)) > 2:
        kinds["importance"] = plots.plot_param_importances
    for name, plot in kinds.items():
        with warnings.catch_warnings(), atomic_path(folder / f"{name}.png") as path:
            warnings.simplefilter("ignore")
            axes = plot(study)  # one, or an array of them
            figure = getattr(axes, "flat", [axes])[0].figure
            figure.savefig(path, dpi=90, bbox_inches="tight", metadata={"Software": None})
            pyplot.close(figure)
