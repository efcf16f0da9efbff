"""No trial is lost or run twice: after kill -9, with several workers, and when a machine falls silent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from pipelines.provenance import PROCESS_TAG, STARTED_TAG, process_id
from pipelines.search import trial_claims
from pipelines.search.storage import open_storage
from pipelines.search.study import open_study, work
from pipelines.search.trial_claims import BEAT, SLOT, Claims, distributions
from tests.pipelines.search.toy_worker import DEFAULTS, toy_search, worth

ROOT = Path(__file__).parents[3]


def start(storage: Path | str, log: Path, *words: object) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("toy_worker.py")
    command = [sys.executable, script, storage, log, *words]
    return subprocess.Popen([str(word) for word in command], env=os.environ | {"PYTHONPATH": str(ROOT)})


def lines(log: Path, word: str) -> list[str]:
    """Values of the trials that have started or ended."""
    text = log.read_text() if log.exists() else ""
    return [line.split(" ", 2)[2] for line in text.splitlines() if line.startswith(word)]


def wait_for_trial(log: Path, count: int) -> None:
    until = time.monotonic() + 60
    while len(lines(log, "start")) < count:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_after_kill_9_no_trial_is_lost_or_run_twice(tmp_path: Path) -> None:
    journal, log = tmp_path / "journal", tmp_path / "log"
    first = start(journal, log, 6, 0.3)
    wait_for_trial(log, 3)
    os.kill(first.pid, signal.SIGKILL)  # not waited for: it stays as a zombie, as under a busy parent
    time.sleep(0.1)
    second = start(journal, log, 6, 0)
    assert second.wait(60) == 0
    first.wait()
    started, ended = lines(log, "start"), lines(log, "end")
    assert len(ended) == len(set(ended)) == 6
    assert len(started) == 7
    assert started[2] == started[3]  # the one that was killed, with the same values

    search = toy_search(6)
    study = open_study(search, open_storage(str(journal)))
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.FAIL) == 1
    assert states.count(TrialState.COMPLETE) == 6
    whole = work(toy_search(6), InMemoryStorage())
    assert [(t.slot, t.values, t.worth) for t in work(search, open_storage(str(journal)))] == [
        (t.slot, t.values, t.worth) for t in whole
    ]  # as if it had not been killed


def test_two_workers_share_a_search(tmp_path: Path) -> None:
    journal, log = tmp_path / "journal", tmp_path / "log"
    workers = [start(journal, log, 6, 0.05, 2) for _ in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    ended = lines(log, "end")
    assert len(ended) == len(set(ended)) == 6
    assert {int(line.split()[1]) for line in log.read_text().splitlines()} == {w.pid for w in workers}
    tried = work(toy_search(6), open_storage(str(journal)))
    assert [one.slot for one in tried] == list(range(6))
    assert sorted(f"{one.values['x']} {one.values['flag']}" for one in tried) == sorted(ended)


def a_claim(study, slot: int, owner: dict[str, str], **attributes: object) -> None:
    """A running trial of some other process."""
    search = toy_search(4)
    study.add_trial(
        create_trial(
            state=TrialState.RUNNING,
            params=DEFAULTS,
            distributions=distributions(search),
            user_attrs={SLOT: slot, **owner, **attributes},
        )
    )


def test_two_that_claim_one_slot_at_once_get_different_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    storage, search = InMemoryStorage(), toy_search(4)
    study = open_study(search, storage)
    claims = Claims(search, study, storage)
    other = process_id(psutil.Process(os.getppid()))
    values, raced = claims._values, []

    def slow(slot, trials):
        if not raced:
            raced.append(slot)
            a_claim(study, slot, other)  # while this one still chooses its values
        return values(slot, trials)

    monkeypatch.setattr(claims, "_values", slow)
    mine = claims.take()
    assert mine is not None
    assert mine.user_attrs[SLOT] == 1
    assert [t.state for t in study.trials] == [TrialState.RUNNING, TrialState.FAIL, TrialState.RUNNING]


def test_a_trial_of_a_process_that_is_gone_is_taken_over_at_once() -> None:
    storage, search = InMemoryStorage(), toy_search(2)
    study = open_study(search, storage)
    gone = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    a_claim(study, 0, process_id(psutil.Process(gone.pid)))
    claims = Claims(search, study, storage)
    claimed = claims.take()
    assert claimed is not None
    assert claimed.user_attrs[SLOT] == 1  # the other one is alive
    gone.kill()
    gone.wait()
    claims.run(claimed)
    taken = claims.take()
    assert taken is not None
    assert (taken.user_attrs[SLOT], taken.params) == (0, DEFAULTS)
    assert study.trials[0].state == TrialState.FAIL


def test_a_silent_machine_is_waited_for_and_then_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(trial_claims.time, "monotonic", lambda: now)
    storage, search = InMemoryStorage(), toy_search(1)
    study = open_study(search, storage)
    a_claim(study, 0, {PROCESS_TAG: "elsewhere:17", STARTED_TAG: "5.00"}, **{BEAT: 1})
    claims = Claims(search, study, storage)
    assert claims.take() is None
    now += trial_claims.SILENT_S - 1
    assert claims.take() is None
    storage.set_trial_user_attr(study.trials[0]._trial_id, BEAT, 2)  # it lives
    now += 2
    assert claims.take() is None
    now += trial_claims.SILENT_S + 1
    taken = claims.take()
    assert taken is not None
    assert taken.params == DEFAULTS
    with pytest.raises(Exception, match="already finished"):  # should the silent one come back
        storage.set_trial_state_values(study.trials[0]._trial_id, TrialState.COMPLETE, [1.0])


def test_one_that_was_taken_for_dead_leaves_its_result() -> None:
    storage, search = InMemoryStorage(), toy_search(1)
    study = open_study(search, storage)

    def replaced(values, report) -> float:
        storage.set_trial_state_values(study.trials[0]._trial_id, TrialState.FAIL)
        return 9.0

    claims = Claims(toy_search(1, replaced), study, storage)
    trial = claims.take()
    assert trial is not None
    claims.run(trial)
    assert [t.state for t in study.trials] == [TrialState.FAIL]
    assert [one.worth for one in work(search, storage)] == [worth(DEFAULTS)]


def test_a_running_trial_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_claims, "BEAT_S", 0.01)
    storage = InMemoryStorage()

    def slow(values, report) -> float:
        until = time.monotonic() + 30
        while storage.get_trial(0).user_attrs.get(BEAT, 0) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
        return 1.0

    assert len(work(toy_search(1, slow), storage)) == 1
