"""The benchmarks of speed: each runs at a tiny size, and what is compared gives the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import evaluation, inference, loading, nms, prompting, refiner, suite, targets, train_step
from benchmarks.bench import Bench
from benchmarks.scenes import ellipses, paper_raw, paper_settings, random_points
from benchmarks.timing import Spread
from wssis.ops.nms import matrix_nms
from wssis.pseudo_labels.point_prompting import prompt

QUICK = {
    "prompting": (prompting, ["--points", "5"], {"wssis", "wssis, default rule", "loop"}),
    "targets": (targets, ["--objects", "5"], {"wssis", "wssis, default rule", "loop"}),
    "nms": (nms, [], {"wssis", "pairs"}),
    "refiner": (refiner, ["--crops", "2"], {"batched", "one by one", "crops"}),
    "train_step": (train_step, [], {"wssis", "Mask R-CNN"}),
    "inference": (inference, [], {"wssis", "Mask R-CNN"}),
    "loading": (
        loading,
        ["--objects", "3", "--workers", "0"],
        {"first pass, 0 workers", "later, 0 workers", "torchvision's transforms"},
    ),
}


@pytest.mark.parametrize("name", QUICK)
def test_each_runs_and_writes_what_it_found(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    module, options, implementations = QUICK[name]
    before, out = torch.get_num_threads(), tmp_path / "found.json"
    assert module.main(["--tiny", "--rounds", "1", "--threads", "1", *options, "--out", str(out)]) == 0
    assert torch.get_num_threads() == before
    found = json.loads(out.read_text())
    assert found["benchmark"] == name
    assert {row["implementation"] for row in found["rows"]} == implementations
    assert all(row["wall"]["median"] > 0 and row["device"] is None for row in found["rows"])
    assert found["bars"] == []  # tiny inputs say nothing about a limit
    assert all(f"| {row['implementation']}" in capsys.readouterr().out for row in found["rows"][:1])


def test_evaluation_runs_with_what_is_installed(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    assert evaluation.main(["--tiny", "--rounds", "1", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["rows"][0]["implementation"] == "pycocotools"


def test_a_device_that_is_not_there_is_told(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert nms.main(["--device", "cuda"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_calls_take_turns_and_ratios_are_of_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    bench = Bench("test", rounds=3, warm=2)
    rows = bench.compare(
        "case", {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, others=1, work=2
    )
    assert order == ["a", "b", "a", "b", "a", "b", "a", "a"]  # twice to warm up, b once
    assert [row.rounds for row in rows] == [3, 1]
    assert (rows[0].ratio.median, rows[0].ratio.high) == (1, 1)
    bench.bar("most", 2, 3)
    bench.bar("least", 2, 3, most=False)
    assert [bar.met for bar in bench.bars] == [False, True]
    assert "| most" in bench.table()


def test_a_spread_is_median_and_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_the_comparisons_notice_a_difference() -> None:
    raw = paper_raw(True, "cpu")
    points = random_points(5, raw.image_size[0], 3, "cpu")
    cells, masks = prompting.loop(raw, *points)
    with pytest.raises(RuntimeError, match="disagrees"):
        prompting.agreement(prompt(raw, 0, *points, own_point=False), cells, masks * 0.9)
    candidates = nms.candidates(20, 2, 40)
    with pytest.raises(RuntimeError, match="disagrees"):
        nms.check(matrix_nms(*candidates), candidates[2])
    settings, images = paper_settings(True), [ellipses(5, (128, 128), 80)]
    plain = targets.loop(images, settings, 128, 80)
    found = targets.ours(images, settings, 128, 80, paper=True)
    assert targets.check(found, plain) == len(plain[0]) > 0
    with pytest.raises(RuntimeError, match="other targets"):
        targets.check(found, (plain[0][1:], *plain[1:]))


def test_the_suite_keeps_what_is_done(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "bench.json"
    assert suite.main(["--tiny", "--rounds", "1", "--only", "nms", "--out", str(out)]) == 0
    assert list(json.loads(out.read_text())) == ["nms"]
    assert "| benchmark | bar" in capsys.readouterr().out
