"""Studies: defaults come first and win ties, a kill loses no trial, other inputs are another study."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna import Trial
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.pruners import HyperbandPruner
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from pipelines.provenance import process_id
from pipelines.search.space import suggest
from pipelines.search.storage import open_storage
from pipelines.search.study import (
    PRUNED,
    best_trial,
    default_value,
    finished,
    is_pruned,
    judge_once,
    open_study,
    run_trials,
    should_prune,
)
from tests.pipelines.search.toy_worker import DEFAULTS, SPACE, toy_search, value

ROOT = Path(__file__).parents[3]
IMAGES = 10


def flat(trial: Trial) -> float:
    suggest(trial, SPACE)
    return 1.0


def over_images(trial: Trial) -> float:
    """Reports images, which differ much more than values do; returns the mean of those reported."""
    shares: list[float] = []
    for n in range(IMAGES):
        shares.append(50.0 * (n % 3) + value(trial))
        trial.report(shares[-1], n)
        if n < IMAGES - 1 and should_prune(trial):
            trial.set_user_attr(PRUNED, "worse")
            break
    return sum(shares) / len(shares)


def values_of(study: Any) -> list[dict[str, Any]]:
    return [trial.params for trial in finished(study)]


def test_the_defaults_are_trial_0_and_win_a_tie() -> None:
    study = run_trials(toy_search(4, flat), InMemoryStorage())
    assert [trial.number for trial in finished(study)] == [0, 1, 2, 3]
    assert finished(study)[0].params == best_trial(study).params == DEFAULTS
    assert default_value(study) == 1.0


def test_one_seed_searches_one_way_and_a_resumed_search_proposes_nothing_twice() -> None:
    first, again = (run_trials(toy_search(6), InMemoryStorage()) for _ in range(2))
    assert values_of(first) == values_of(again)
    assert values_of(run_trials(toy_search(6, seed=4), InMemoryStorage())) != values_of(first)
    storage = InMemoryStorage()
    run_trials(toy_search(3), storage)
    resumed = run_trials(toy_search(6), storage)
    assert values_of(resumed)[:3] == values_of(first)[:3]
    assert len({values["x"] for values in values_of(resumed)}) == 6
    assert len(finished(run_trials(toy_search(2), storage))) == 6  # fewer than there are: nothing to do


@pytest.mark.parametrize(
    "change",
    [
        {"space": SPACE | {"x": FloatDistribution(0.0, 2.0)}},
        {"space": SPACE | {"flag": CategoricalDistribution((False,))}},
        {"defaults": {"x": 0.8, "flag": False}},
        {"seed": 1},
        {"identity": {"data": "abd"}},
        {"pruner": HyperbandPruner()},
        {"name": "other"},
    ],
)
def test_other_bounds_data_or_seed_are_another_study(change: dict[str, Any]) -> None:
    search = toy_search(1)
    other = replace(search, **change)
    assert other.study_name != search.study_name
    assert replace(search, n_trials=9).study_name == search.study_name
    storage = InMemoryStorage()
    assert open_study(search, storage).user_attrs == {"data": "abc"}
    assert open_study(other, storage).study_name == other.study_name
    assert len(open_study(search, storage).trials) == 1  # the defaults are queued once


def test_a_pruned_trial_is_complete_for_the_sampler_but_never_the_best() -> None:
    study = run_trials(toy_search(10, over_images), InMemoryStorage())
    pruned = [trial for trial in finished(study) if is_pruned(trial)]
    assert pruned
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert all(len(t.intermediate_values) == IMAGES for t in finished(study) if t not in pruned)
    assert best_trial(study).value == max(trial.value or 0.0 for trial in study.trials)


def test_the_defaults_are_never_pruned_even_when_they_come_last() -> None:
    storage = InMemoryStorage()
    open_study(toy_search(1), storage).ask()  # the defaults, which another worker takes and never finishes
    study = run_trials(toy_search(9, over_images), storage)
    last = finished(study)[-1]
    assert last.params == DEFAULTS
    assert len(last.intermediate_values) == IMAGES


def test_interrupted_and_failed_trials_run_again_with_their_values() -> None:
    storage, tried = InMemoryStorage(), []

    def broken(trial: Trial) -> float:
        result = value(trial)
        tried.append(trial.params)
        if len(tried) in (1, 3):
            raise KeyboardInterrupt if len(tried) == 1 else RuntimeError("out of memory")
        return result

    with pytest.raises(KeyboardInterrupt):
        run_trials(toy_search(3, broken), storage)
    with pytest.raises(RuntimeError, match="out of memory"):
        run_trials(toy_search(3, broken), storage)
    study = run_trials(toy_search(3, broken), storage)
    assert tried[0] == tried[1] == DEFAULTS
    assert tried[2] == tried[3]
    assert [trial.number for trial in finished(study)] == [1, 3, 4]
    assert best_trial(study).value == max(trial.value or -1.0 for trial in finished(study))


def test_trials_of_dead_processes_are_retried_and_those_of_others_are_left() -> None:
    storage = InMemoryStorage()
    study = open_study(toy_search(2), storage)
    gone = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    owners = (
        process_id(psutil.Process(gone.pid)),
        {"wssis.process": "elsewhere:17", "wssis.process_started": "5.00"},
    )
    for owner in owners:
        trial = study.ask()
        suggest(trial, SPACE)
        for name, word in owner.items():
            trial.set_user_attr(name, word)
    assert TrialState.WAITING not in [trial.state for trial in open_study(toy_search(2), storage).trials]
    gone.kill()
    gone.wait()
    states = [trial.state for trial in open_study(toy_search(2), storage).trials]
    assert states == [TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]
    study = run_trials(toy_search(2), storage)
    assert values_of(study)[0] == DEFAULTS
    assert [trial.number for trial in finished(study)] == [2, 3]


def test_defaults_that_another_machine_never_finishes_are_run_again() -> None:
    storage = InMemoryStorage()
    study = open_study(toy_search(2), storage)
    study.ask().set_user_attr("wssis.process", "elsewhere:17")
    study = run_trials(toy_search(2), storage)
    assert len(finished(study)) == 3
    assert default_value(study) == pytest.approx(-0.6)


def test_the_best_is_judged_once() -> None:
    study, asked = run_trials(toy_search(3), InMemoryStorage()), []

    def judge() -> tuple[bool, float]:
        asked.append(1)
        return True, 0.25

    assert judge_once(study, finished(study)[2], judge) == (True, 0.25)
    assert judge_once(study, finished(study)[2], judge) == (True, 0.25)
    assert judge_once(study, finished(study)[0], judge) == (False, 0.0)
    assert len(asked) == 1


def start(storage: Path | str, log: Path, *words: object) -> subprocess.Popen[bytes]:
    """A worker in a process of its own, see toy_worker.py."""
    script = Path(__file__).with_name("toy_worker.py")
    command = [sys.executable, script, storage, log, *words]
    return subprocess.Popen([str(word) for word in command], env=os.environ | {"PYTHONPATH": str(ROOT)})


def lines(log: Path, word: str) -> list[str]:
    """Values of the trials that have started or ended."""
    text = log.read_text() if log.exists() else ""
    return [line.split(" ", 2)[2] for line in text.splitlines() if line.startswith(word)]


def wait_for_trials(log: Path, count: int) -> None:
    until = time.monotonic() + 60
    while len(lines(log, "start")) < count:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_after_kill_9_no_finished_trial_is_lost_or_run_twice(tmp_path: Path) -> None:
    journal, log = tmp_path / "journal", tmp_path / "log"
    first = start(journal, log, 6, 0.3)
    wait_for_trials(log, 3)
    os.kill(first.pid, signal.SIGKILL)  # not waited for: a zombie, as under a busy parent
    time.sleep(0.1)
    second = start(journal, log, 6, 0)
    assert second.wait(60) == 0
    first.wait()
    started, ended = lines(log, "start"), lines(log, "end")
    assert len(ended) == len(set(ended)) == 6
    assert len(started) == 7
    assert started[2] == started[3]  # the one that was killed, with the same values
    states = [trial.state for trial in open_study(toy_search(6), open_storage(str(journal))).trials]
    assert sorted(states) == [TrialState.COMPLETE] * 6 + [TrialState.FAIL]


def test_two_workers_share_a_search(tmp_path: Path) -> None:
    journal, log = tmp_path / "journal", tmp_path / "log"
    open_study(toy_search(6), open_storage(str(journal)))
    workers = [start(journal, log, 6, 0.05, 2) for _ in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    ended = lines(log, "end")
    assert 6 <= len(ended) == len(set(ended)) <= 7
    assert {int(line.split()[1]) for line in log.read_text().splitlines()} == {w.pid for w in workers}
    study = run_trials(toy_search(6), open_storage(str(journal)))
    assert sorted(f"{v['x']} {v['flag']}" for v in values_of(study)) == sorted(ended)


def test_a_journal_file_is_shared_by_processes_of_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_trials(toy_search(2), open_storage(None))
    assert (tmp_path / ".scratch/optuna.journal").exists()
    queued = tmp_path / ".dvc/tmp/exps/tmp1"
    queued.mkdir(parents=True)
    monkeypatch.chdir(queued)
    assert len(open_study(toy_search(2), open_storage(None)).trials) == 2
