"""Curves for DVC, and progress in plain lines."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipelines.console import progress
from pipelines.console.progress import Meter
from pipelines.runner.training_log import MAX_ROWS, TrainingLog, write_csv
from pipelines.tracking.tracker import NullTracker
from wssis.training.trainer import Progress


class Noted(NullTracker):
    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        self.seen.append((step, dict(values)))


def test_a_curve_has_every_step_of_a_short_training(tmp_path: Path) -> None:
    tracker = Noted()
    with TrainingLog("teacher", 5, tracker) as log:
        for step in range(1, 6):
            log.on_step(Progress(step, 5, {"mask": 0.5, "loss": 1 / step}, 0.01, float(step)))
    log.write(tmp_path / "curve.csv")
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert list(rows[0]) == ["step", "mask", "loss", "learning_rate"]
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert rows[2]["loss"] == "0.333333"
    assert (3, {"train/mask": 0.5, "train/loss": 1 / 3, "train/learning_rate": 0.01}) in tracker.seen
    assert (0, {"time/steps_per_second": 1.0}) in tracker.seen


def test_a_curve_of_a_long_training_is_thinned(tmp_path: Path) -> None:
    total = 10 * MAX_ROWS + 7
    with TrainingLog("teacher", total, NullTracker()) as log:
        for step in range(1, total + 1):
            log.on_step(Progress(step, total, {"loss": 1.0}, 0.01, 1.0))
    assert MAX_ROWS <= len(log.rows) <= MAX_ROWS + 1
    assert log.rows[-1]["step"] == total


def test_no_row_is_a_file_all_the_same(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [])
    assert (tmp_path / "a.csv").read_text() == "step\n"


def test_progress_is_plain_lines_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with Meter("label", 10, "images") as meter:
        for _ in range(10):
            meter.step("note")
    lines = capsys.readouterr().out.splitlines()
    assert 2 <= len(lines) <= 10
    assert all(line.startswith("label: ") and "images/s" in line and "s left" in line for line in lines)
    assert lines[-1].startswith("label: 10/10")
    assert "\r" not in "".join(lines)
