"""The profile: times that add up, and every part of the real step in it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from benchmarks import profile_step
from benchmarks.profile_step import Clock
from wssis.models.solov2 import SOLOv2

STEP = ["data", "preprocess", "backbone", "fpn", "head", "mask branch", "raw maps", "targets", "loss"]
STEP += ["backward", "optimiser and EMA"]
LABELS = ["read", "network", "prompting", "refiner", "decide", "encode", "rest"]


def test_all_parts_of_the_pipeline_are_seen(project: Path, capsys: pytest.CaptureFixture) -> None:
    before = torch.get_num_threads(), SOLOv2.forward, torch.Tensor.backward
    assert profile_step.main(["--steps", "2", "--threads", "1", "--out", "profile.json"]) == 0
    torch.set_num_threads(before[0])
    found = json.loads((project / "profile.json").read_text())["milliseconds"]
    assert sorted(found["training step"]) == sorted(STEP)
    assert sorted(found["pseudo-labels of an image"]) == sorted(LABELS)
    for parts in found.values():
        assert all(ms > 0 for ms in parts.values())
    assert "| backward" in capsys.readouterr().out
    assert (SOLOv2.forward, torch.Tensor.backward) == before[1:]  # nothing stays wrapped


def test_a_part_is_without_the_parts_in_it() -> None:
    clock = Clock("rest")
    for _ in range(8):
        with clock.part("outer"):
            time.sleep(0.004)
            with clock.part("inner"):
                time.sleep(0.012)
        clock.lap()
    times = clock.medians()
    assert list(times) == ["outer", "inner", "rest"]
    assert 4 <= times["outer"] < 12 <= times["inner"]
    assert times["rest"] < times["outer"]


def test_items_are_timed_and_passed_on() -> None:
    clock = Clock("rest")
    assert list(clock.each("data", [1, None, 3])) == [1, None, 3]
    clock.lap()
    assert clock.laps[0]["data"] > 0


def test_a_part_that_fails_is_closed() -> None:
    clock = Clock("rest")
    with pytest.raises(ValueError, match="broken"), clock.part("one"):
        raise ValueError("broken")
    clock.lap()
    assert set(clock.laps[0]) == {"rest", "one"}


def test_without_a_pipeline_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert profile_step.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1
