"""Careless clicks: what each variant does to the points, and that the project's own files stay."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import clicks
from pipelines import paths
from pipelines.config.params import load_params
from pipelines.runner.run_stage import StageContext
from wssis.evaluation.coco_ap import AP_KEYS


def points_of(data) -> dict[int, tuple[float, float]]:
    return {item.id: item.point for image in data.images for item in image.annotations}


def test_variants_change_what_they_say_and_nothing_else(project: Path) -> None:
    data = StageContext("test", load_params()).load(paths.POINTS)
    before = points_of(data)
    made = {name: points_of(change(data, 0)) for name, change in clicks.VARIANTS.items()}
    assert made["exact"] == before
    for name, radius in (("jitter2", 2), ("jitter4", 4)):
        assert made[name].keys() == before.keys()
        far = [np.hypot(*np.subtract(made[name][key], before[key])) for key in before]
        assert 0 < min(far) <= max(far) <= radius + 1e-6
        assert np.mean(far) > radius / 3
    tenth = round(len(before) / 10)
    assert tenth > 0
    assert made["missing"].items() < before.items()
    assert len(before) - len(made["missing"]) == tenth
    assert before.items() < made["doubled"].items()
    assert len(made["doubled"]) - len(before) == tenth
    for image in clicks.doubled(data, 0).images:
        assert all(
            0 <= i.point[0] < image.width and 0 <= i.point[1] < image.height for i in image.annotations
        )


def test_variants_are_labelled_trained_and_measured_in_folders_of_their_own(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in (paths.POINTS, paths.LABELS)}
    assert clicks.main(["--variants", "doubled", "missing", "--iterations", "1", "--out", "clicks.json"]) == 0
    found = json.loads(Path("clicks.json").read_text())
    assert found.pop("student_iterations") == 1
    assert list(found) == ["missing", "doubled"]
    for row in found.values():
        assert row["points"] == row["masks"] + row["ignored"]
        assert set(AP_KEYS) <= set(row)
    assert found["missing"]["points"] < found["doubled"]["points"]
    assert "| doubled" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before
    assert not paths.STUDENT.exists()


def test_without_a_pipeline_it_says_what_to_do(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths.POINTS.unlink()
    assert clicks.main(["--variants", "exact"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "dvc repro" in error
