"""The replay of pruners: steps run and best trials lost, in orders where they are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import pruners
from pipelines import paths
from pipelines.config.params import read_yaml, write_yaml

STEPS = [16, 32, 48, 64]
PRUNERS = list(pruners.pruners(STEPS))


def training(iou: float, late: float = 0.0) -> pruners.Training:
    """`late` is gained at the last step only."""
    return {"values": {}, "reports": {str(step): iou + (late if step == 64 else 0) for step in STEPS}}


def test_without_pruning_all_steps_run_and_nothing_is_lost() -> None:
    order = [training(0.1), training(0.5), training(0.3, late=0.9)]
    assert pruners.replay(order, "none", "a") == pruners.Outcome(1.0, False)


def test_worse_trials_are_pruned_and_one_that_improves_late_is_lost() -> None:
    best_first = [training(0.9), training(0.5), training(0.4), training(0.3)]
    halving = "successive halving from step 16"
    assert pruners.replay(best_first, halving, "a") == pruners.Outcome((4 + 1 + 1 + 1) / 16, False)
    late = [training(0.5), training(0.1, late=0.9)]
    assert pruners.replay(late, halving, "a") == pruners.Outcome((4 + 1) / 8, True)
    median = pruners.replay(best_first, "median, after 2 trials", "a")
    assert median == pruners.Outcome((4 + 4 + 1 + 1) / 16, False)  # from the third trial on


def test_trainings_are_kept_and_made_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = read_yaml(paths.PARAMS)
    params["tune_refiner"]["iterations"] = 4
    write_yaml(paths.PARAMS, params)
    words = ["--trainings", "2", "--trials", "2", "--orders", "3", "--kept", "kept.json"]
    assert pruners.main(words) == 0
    printed = capsys.readouterr().out
    assert all(pruner.split(" from ")[0] in printed for pruner in PRUNERS)
    known = json.loads(Path("kept.json").read_text())
    assert [list(one["reports"]) for one in known] == [["1", "2", "3", "4"]] * 2
    assert known[0]["values"] != known[1]["values"]
    before = Path("kept.json").stat().st_mtime_ns
    assert pruners.main(words) == 0
    assert Path("kept.json").stat().st_mtime_ns == before
    params["seed"] = 1
    write_yaml(paths.PARAMS, params)
    assert pruners.main(words) == 2
    assert "kept.json" in capsys.readouterr().err
