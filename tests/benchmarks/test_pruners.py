"""The replay of pruning rules: what is spent and lost in orders where one can say it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import pruners
from pipelines import paths
from pipelines.config.params import read_yaml, write_yaml

RULES = list(pruners.rules([16, 32, 48, 64]))
WILCOXON = RULES[-1]


def training(worth: float, late: float = 0.0) -> pruners.Training:
    """Ten objects that differ more than trainings do; `late` is gained at the last step only."""
    steps = {step: worth + (late if step == 64 else 0) for step in (16, 32, 48, 64)}
    return {
        "values": {"x": worth},
        "worth": {str(step): value for step, value in steps.items()},
        "pairs": {str(step): [value + n for n in range(10)] for step, value in steps.items()},
    }


def test_nothing_pruned_is_all_spent_and_nothing_lost() -> None:
    order = [training(0.1), training(0.5), training(0.3, late=0.9)]
    assert pruners.replayed(order, "none", "a") == pruners.Outcome(1.0, False)


def test_worse_trials_are_stopped_at_once_and_one_that_comes_late_is_lost() -> None:
    best_first = [training(0.9), training(0.5), training(0.4), training(0.3)]
    assert pruners.replayed(best_first, WILCOXON, "a") == pruners.Outcome((4 + 1 + 1 + 1) / 16, False)
    late = [training(0.5), training(0.1, late=0.9)]
    assert pruners.replayed(late, WILCOXON, "a") == pruners.Outcome((4 + 1) / 8, True)
    # The median of two is asked from the third trial on.
    median = pruners.replayed(best_first, "median, after 2 trials", "a")
    assert median == pruners.Outcome((4 + 4 + 1 + 1) / 16, False)


def test_trainings_are_kept_and_made_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = read_yaml(paths.PARAMS)
    params["tune_refiner"]["iterations"] = 4
    write_yaml(paths.PARAMS, params)
    words = ["--trainings", "2", "--trials", "2", "--orders", "3", "--kept", "kept.json"]
    assert pruners.main(words) == 0
    said = capsys.readouterr().out
    assert all(rule.split(" from ")[0] in said for rule in RULES)
    known = json.loads(Path("kept.json").read_text())
    assert [list(one["worth"]) for one in known] == [["1", "2", "3", "4"]] * 2
    assert known[0]["values"] != known[1]["values"]
    before = Path("kept.json").stat().st_mtime_ns
    assert pruners.main(words) == 0
    assert Path("kept.json").stat().st_mtime_ns == before
    params["seed"] = 1
    write_yaml(paths.PARAMS, params)
    assert pruners.main(words) == 2
    assert "kept.json" in capsys.readouterr().err
