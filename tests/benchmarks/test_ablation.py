"""The student on other labels: the same pictures in the same order, and a word where truth is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import ablation
from pipelines import paths
from pipelines.config.params import load_params
from pipelines.runner.run_stage import StageContext
from wssis.evaluation.coco_ap import AP_KEYS


def test_both_variants_are_measured_beside_the_pipeline(project: Path, capsys: pytest.CaptureFixture) -> None:
    assert ablation.main(["full", "rough", "--out", "metrics.json"]) == 0
    scores = json.loads((project / "metrics.json").read_text())
    assert list(scores) == ["strong_only", "rough", "student", "full"]
    assert all(set(score) == set(AP_KEYS) for score in scores.values())
    assert scores["student"]["AP"] == 0.5
    captured = capsys.readouterr()
    assert "| full" in captured.out
    assert "ATTENTION" in captured.err
    assert not (project / paths.STUDENT).exists()


def test_rough_labels_each_point_and_full_has_the_truth(project: Path) -> None:
    stage = StageContext("test", load_params())
    points, truth = stage.load(paths.POINTS), stage.load(paths.WEAK_TRUTH)
    rough, full = ablation.rough(stage), ablation.full(stage)
    ids = [[image.id for image in weak.images] for weak in (stage.load(paths.LABELS), rough, full)]
    assert ids[0] == ids[1] == ids[2]  # so that trainings show the student's pictures in its order
    for image in points.images:
        assert [item.id for item in rough.by_id[image.id].annotations] == [i.id for i in image.annotations]
        known = [item.rle for item in truth.by_id[image.id].objects]
        assert [item.rle for item in full.by_id[image.id].objects] == known


def test_without_a_pipeline_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ablation.main(["rough"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "dvc repro" in error
    with pytest.raises(SystemExit) as stopped:
        ablation.main(["refined"])
    assert stopped.value.code == 2
