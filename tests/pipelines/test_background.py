"""Tracking in the background: in order, complete, and not silent when the store cannot be opened."""

import threading
import time

import pytest

from pipelines.background import BackgroundTracker
from pipelines.tracking import NullTracker
from wssis.errors import InputError


class Recorder(NullTracker):
    """Notes what it is told, slowly, and in which thread."""

    run_id = "abc"

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.threads: set[str] = set()

    def _note(self, *call) -> None:
        time.sleep(0.002)
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)

    def metrics(self, values, step=0) -> None:
        self._note("metrics", dict(values), step)

    def params(self, values) -> None:
        self._note("params", dict(values))

    def file(self, path, folder="") -> None:
        self._note("file", path, folder)

    def close(self, error="") -> None:
        self._note("close", error)


def test_calls_arrive_in_order_from_one_other_thread() -> None:
    recorder = Recorder()
    tracker = BackgroundTracker(lambda: recorder)
    values = {"loss": 0.0}
    tracker.params({"seed": 1})
    for step in range(20):
        values["loss"] = float(step)  # the caller's own to change
        tracker.metrics(values, step)
    tracker.file("a.png", "pictures")
    assert recorder.calls[-1] == ("file", "a.png", "pictures")  # files are waited for
    tracker.close()
    expected = [("params", {"seed": 1}), *(("metrics", {"loss": float(n)}, n) for n in range(20))]
    assert recorder.calls == [*expected, ("file", "a.png", "pictures"), ("close", "")]
    assert len(recorder.threads) == 1
    assert threading.current_thread().name not in recorder.threads


def test_the_run_id_waits_until_the_run_is_open() -> None:
    def slow() -> Recorder:
        time.sleep(0.05)
        return Recorder()

    tracker = BackgroundTracker(slow)
    assert tracker.run_id == "abc"
    tracker.close()


def broken() -> NullTracker:
    raise InputError("expected MLflow's store, found a picture")


def test_a_store_that_cannot_be_opened_stops_the_work() -> None:
    tracker = BackgroundTracker(broken)
    while not tracker._opened.done():
        time.sleep(0.001)
    with pytest.raises(InputError, match="found a picture"):
        tracker.metrics({"loss": 1.0})
    tracker.close(error="InputError")  # the work's own error is on its way: no second one


def test_a_store_that_cannot_be_opened_is_told_at_the_end_at_the_latest() -> None:
    tracker = BackgroundTracker(broken)
    with pytest.raises(InputError, match="found a picture"):
        tracker.close()
