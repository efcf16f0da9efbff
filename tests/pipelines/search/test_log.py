"""What a search leaves: a run for each trial, also for those of others, a table and pictures."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from pipelines.config.params import load_params
from pipelines.runner.run_stage import StageContext
from pipelines.search.log import conduct, costs_of
from pipelines.search.storage import open_storage
from pipelines.search.study import work
from pipelines.tracking.tracker import NullTracker
from tests.pipelines.search.test_pruning import over_images
from tests.pipelines.search.toy_worker import toy_search

ROOT = Path(__file__).parents[3]


class Listener(NullTracker):
    run_id = "a run"

    def __init__(self) -> None:
        self.children: list[dict[str, Any]] = []
        self.series: list[tuple[int, dict[str, float]]] = []
        self.pictures: dict[str, tuple[int, int]] = {}

    def child(self, name: str, **given: Any) -> None:
        self.children.append({"name": name, **given})

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


def test_each_trial_is_a_run_and_a_row_and_pictures_are_drawn(stage: StageContext, tmp_path: Path) -> None:
    found = conduct(stage, toy_search(8, over_images), tmp_path / "t.csv")
    told = listener(stage)
    assert [child["name"] for child in told.children] == [f"trial {n}" for n in range(8)]
    for child, one in zip(told.children, found.tried, strict=True):
        assert child["params"] == one.values
        assert child["status"] == ("KILLED" if one.pruned else "FINISHED")
        assert child["tags"].get("wssis.pruned", "") == one.pruned
        assert ("worth", one.worth, 0) in child["metrics"]
        assert len([m for m in child["metrics"] if m[0] == "reported"]) == len(one.steps)
        assert child["times"][0] <= child["times"][1]
    assert any(one.pruned for one in found.tried)
    costs = costs_of(found.tried)
    assert costs["pruned"] == sum(bool(one.pruned) for one in found.tried)
    assert costs["reports"] == sum(len(one.steps) for one in found.tried) / 80
    assert costs["trials_an_hour"] > 0
    with open(tmp_path / "t.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["pruned"]) for row in rows] == [bool(one.pruned) for one in found.tried]
    bests = [values["tune/best"] for _, values in told.series if "tune/best" in values]
    assert bests == sorted(bests)
    assert set(told.pictures) == {
        f"{n}.png" for n in ("history", "slice", "parallel", "reported", "importance")
    }
    assert all(min(size) > 100 for size in told.pictures.values())


def test_trials_of_before_are_noted_by_the_stage_that_takes_them_over(
    stage: StageContext, tmp_path: Path
) -> None:
    work(toy_search(2), open_storage(None))
    conduct(stage, toy_search(3), tmp_path / "t.csv")
    assert len(listener(stage).children) == 3


def test_one_trial_can_be_drawn(stage: StageContext, tmp_path: Path) -> None:
    conduct(stage, toy_search(1), tmp_path / "t.csv")
    assert "history.png" in listener(stage).pictures


def test_the_best_is_judged_once(stage: StageContext, tmp_path: Path) -> None:
    stage = replace(stage, tracker=NullTracker())  # which has no pictures to be drawn for
    found = conduct(stage, toy_search(3), tmp_path / "t.csv")
    asked = []

    def judge() -> tuple[bool, float]:
        asked.append(1)
        return True, 0.25

    best = SimpleNamespace(slot=2)
    assert found.judged(best, judge) == (True, 0.25)  # type: ignore[arg-type]
    again = conduct(stage, toy_search(3), tmp_path / "t.csv")
    assert again.judged(best, judge) == (True, 0.25)  # type: ignore[arg-type]
    assert len(asked) == 1
    assert found.judged(SimpleNamespace(slot=0), judge) == (False, 0.0)  # type: ignore[arg-type]
