"""What a search leaves for people: progress, a run in MLflow for each trial, a table and pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pipelines.console.progress import Meter
from pipelines.runner.run_stage import StageContext
from pipelines.runner.training_log import write_csv
from pipelines.search.charts import draw
from pipelines.search.storage import open_storage
from pipelines.search.study import Search, TrialResult, open_study, rows_of, work

if TYPE_CHECKING:
    from optuna import Study


@dataclass(frozen=True)
class Found:
    """Outcome of a search: its trials in the order of their slots, and where they are kept."""

    tried: list[TrialResult]
    study: Study

    def judged(self, best: TrialResult, judge: Callable[[], tuple[bool, float]]) -> tuple[bool, float]:
        """What `judge` says of the best trial: whether it is kept, and its gain; it is asked once a study."""
        if best.slot == 0:
            return False, 0.0
        name = f"judged {best.slot}"
        known = self.study.user_attrs.get(name)
        if known is None:
            kept, gain = judge()
            known = [int(kept), gain]
            self.study.set_user_attr(name, known)
        return bool(known[0]), float(known[1])


def conduct(stage: StageContext, search: Search, plot: Path) -> Found:
    """Run what is left of a search, and note all of it.

    Raises:
        InputError: the storage cannot be used.
    """
    storage = open_storage(stage.params.optuna.storage)
    with Notes(stage, search) as notes:
        tried = work(search, storage, notes.take_in)
    write_csv(plot, rows_of(tried))
    costs = costs_of(tried)
    stage.tracker.metrics({f"tune/{name}": value for name, value in costs.items()})
    stage.say(
        f"{len(tried)} trials, {costs['pruned']:.0f} pruned, {costs['reports']:.0%} of their steps run, "
        f"{costs['trials_an_hour']:.0f} an hour"
    )
    study = open_study(search, storage)
    stage.tracker.tags({"optuna.study": search.study_name})
    if stage.tracker.run_id is not None:
        with tempfile.TemporaryDirectory() as folder:
            draw(search, tried, Path(folder))
            stage.tracker.file(folder, "search")
    return Found(tried, study)


def costs_of(tried: Sequence[TrialResult]) -> dict[str, float]:
    """Pruned trials, the share of all reports that was made, and trials an hour of one worker."""
    most = max(len(one.steps) for one in tried)
    seconds = sum((one.ended - one.started).total_seconds() for one in tried)
    return {
        "pruned": float(sum(bool(one.pruned) for one in tried)),
        "reports": sum(len(one.steps) for one in tried) / max(1, most * len(tried)),
        "trials_an_hour": 3600 * len(tried) / max(seconds, 1e-3),
    }


def write_nothing_tried(plot: Path) -> None:
    """The table of a search without trials, for DVC."""
    write_csv(plot, [{"trial": 0, "value": 0.0, "best": 0.0, "pruned": 0}])


class Notes:
    """Follows a search; use it in a `with` block and give `take_in` to the search."""

    def __init__(self, stage: StageContext, search: Search) -> None:
        self.tracker = stage.tracker
        self.noted: set[int] = set()
        self.meter = Meter(search.name, search.n_trials, "trials")

    def __enter__(self) -> Notes:
        self.meter.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.meter.__exit__(kind, error, trace)

    def take_in(self, tried: Sequence[TrialResult]) -> None:
        """Note the trials that are new, also those of other workers and of before a kill."""
        for one, row in zip(tried, rows_of(tried), strict=True):
            if one.slot not in self.noted:
                self.noted.add(one.slot)
                self.meter.step(f"best {row['best']:.4f}", len(self.noted))
                self.tracker.metrics({"tune/worth": row["value"], "tune/best": row["best"]}, one.slot)
                self._note(one)

    def _note(self, one: TrialResult) -> None:
        """A trial as a run below the stage's; a pruned one counts as killed there."""
        tags = {"wssis.trial": one.slot, "optuna.trial_number": one.number}
        self.tracker.child(
            f"trial {one.slot}",
            params=one.values,
            metrics=[("worth", one.worth, 0), *(("reported", value, n) for n, value in one.steps.items())],
            tags={**tags, "wssis.pruned": one.pruned} if one.pruned else tags,
            times=(one.started.timestamp(), one.ended.timestamp()),
            status="KILLED" if one.pruned else "FINISHED",
        )
