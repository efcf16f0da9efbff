"""What a search leaves: a run for each trial, also for those of others, a table and plots."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from optuna import Trial, TrialPruned
from optuna.pruners import ThresholdPruner
from PIL import Image

from pipelines.config.params import load_params
from pipelines.runner.run_stage import StageContext
from pipelines.search.log import run_search, search_costs
from pipelines.search.storage import open_storage
from pipelines.search.study import finished, is_pruned, run_trials, should_prune
from pipelines.tracking.tracker import ChildRun, NullTracker
from tests.pipelines.search.toy_worker import toy_search, value

ROOT = Path(__file__).parents[3]


def in_steps(trial: Trial) -> float:
    """Reports twice, and is pruned after the first report if that is low."""
    result = value(trial)
    trial.report(result - 0.1, 1)
    if should_prune(trial):
        raise TrialPruned
    trial.report(result, 2)
    return result


class Listener(NullTracker):
    run_id = "a run"

    def __init__(self) -> None:
        self.children: list[ChildRun] = []
        self.series: list[tuple[int, dict[str, float]]] = []
        self.pictures: dict[str, tuple[int, int]] = {}

    def child(self, run: ChildRun) -> None:
        self.children.append(run)

    def metrics(self, values: Any, step: int = 0) -> None:
        self.series.append((step, dict(values)))

    def file(self, path: str | Path, folder: str = "") -> None:
        self.pictures |= {p.name: Image.open(p).size for p in Path(path).iterdir()}


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StageContext:
    monkeypatch.chdir(tmp_path)
    return StageContext("tune_pseudo", load_params(ROOT / "params.yaml"), Listener())


def listener(stage: StageContext) -> Listener:
    assert isinstance(stage.tracker, Listener)
    return stage.tracker


def test_each_trial_is_a_run_and_a_row_and_plots_are_drawn(stage: StageContext, tmp_path: Path) -> None:
    search = toy_search(8, in_steps, pruner=ThresholdPruner(lower=-0.4))
    study = run_search(stage, search, tmp_path / "t.csv")
    trials, logged = finished(study), listener(stage)
    assert [child.name for child in logged.children] == [f"trial {n}" for n in range(8)]
    for child, trial in zip(logged.children, trials, strict=True):
        assert child.params == trial.params
        assert child.status == ("KILLED" if is_pruned(trial) else "FINISHED")
        assert ("wssis.pruned" in child.tags) == is_pruned(trial)
        assert ("worth", trial.value, 0) in child.metrics
        assert len([m for m in child.metrics if m[0] == "reported"]) == len(trial.intermediate_values)
        assert child.times[0] <= child.times[1]
    cost, pruned = search_costs(trials), sum(map(is_pruned, trials))
    assert 0 < pruned == cost["pruned"]
    assert cost["reports"] == (16 - pruned) / 16
    assert cost["trials_an_hour"] > 0
    with open(tmp_path / "t.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["pruned"]) for row in rows] == list(map(is_pruned, trials))
    assert float(rows[1]["x"]) == pytest.approx(trials[1].params["x"], rel=1e-5)
    bests = [values["tune/best"] for _, values in logged.series if "tune/best" in values]
    assert bests == sorted(bests)
    kinds = ("history", "slice", "parallel", "reported", "importance")
    assert set(logged.pictures) == {f"{kind}.png" for kind in kinds}
    assert all(min(size) > 100 for size in logged.pictures.values())


def test_the_stage_logs_trials_of_other_workers_and_draws_few(stage: StageContext, tmp_path: Path) -> None:
    run_trials(toy_search(2), open_storage(None))
    run_search(stage, toy_search(2), tmp_path / "t.csv")
    assert len(listener(stage).children) == 2
    assert "history.png" in listener(stage).pictures
