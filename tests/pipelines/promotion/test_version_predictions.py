"""Predictions of a version in a process of its own, and their format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from pipelines import paths
from pipelines.config.schema import Promote
from pipelines.decode_file import own_decode, write_decode
from pipelines.promotion import gate, version_predictions
from pipelines.promotion.version_predictions import Predictions
from pipelines.registry import register, versions
from pipelines.tracking.store import open_store
from wssis.data import rle as rle_api
from wssis.data.coco import save_coco
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.pseudo_labels.rules import PseudoRules
from wssis.settings import DecodeSettings

LOW = DecodeSettings(score_threshold=0.0, keep_threshold=0.0, max_detections=3)


@pytest.fixture
def project(tmp_path: Path, store: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> CocoData:
    """A project with a validation set of two images, a run to register from, and its validation set."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(store, tmp_path / "mlflow.db")
    shutil.copytree(images, paths.PREPARED_VAL_IMAGES)
    mask = torch.zeros((1, 64, 64), dtype=torch.bool)
    mask[0, 10:40, 10:40] = True
    wide = torch.nn.functional.pad(mask, (0, 16))
    records = (
        ImageRecord(4, "a.png", 64, 80, (Annotation(1, 1, rle_api.encode(wide)[0]),)),
        ImageRecord(9, "b.png", 64, 64, (Annotation(2, 0, rle_api.encode(mask)[0]),)),
    )
    categories = (Category(3, "cat"), Category(7, "dog"))
    data = CocoData(categories, records, str(paths.PREPARED_VAL_IMAGES))
    save_coco(data, paths.PREPARED_VAL)
    return data


def source() -> register.Source:
    client = open_store()
    experiment = client.create_experiment("test", (Path.cwd() / paths.MLRUNS / "test").as_uri())
    digest = gate.val_digest(paths.PREPARED_VAL)
    return register.Source(client.create_run(experiment).info.run_id, {"val.digest": digest})


@pytest.mark.slow
def test_a_student_predicts_with_its_own_code_and_passes(
    project: CocoData, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Code elsewhere on the path must not be taken for the version's own.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    # AP needs all instances, also those below the version's own score threshold.
    write_decode(shutil.copytree(models / "teacher", Path("student")), LOW, 1.0)
    register.register_student(Path("student"), LOW, source())
    version = versions.find("wssis-student", 1)
    assert own_decode(version.files)[1] == 1.0
    result = gate.examine(version, None, Promote())
    assert not result.failed
    assert result.predictions is not None
    assert len(result.predictions) == 2
    assert all(0 < len(found) <= 3 for found in result.predictions)
    assert version.signature["inputs"][0]["name"] == "image"
    # The code in this repository does not stand in for a version's own.
    shutil.rmtree(version.folder / "code" / "wssis")
    predictions = version_predictions.predict_val(version, project, points=False)
    assert predictions.results == ()
    assert "wssis" in predictions.problem


@pytest.mark.slow
def test_a_labeler_predicts_a_point_in_each_object(project: CocoData, models: Path) -> None:
    register.register_labeler(models / "teacher", models / "refiner", PseudoRules(), source())
    version = versions.find("wssis-labeler", 1)
    result = gate.examine(version, None, Promote())
    assert not result.failed
    assert result.predictions is not None
    assert [[item["category_id"] for item in found] for found in result.predictions] == [[7], [3]]
    assert -0.5 <= result.numbers["score"] <= 0.5
    assert not gate.examine(version, version, Promote()).failed


def test_format_problems_are_named(project: CocoData) -> None:
    rows = [version_predictions.input_row(record, project, points=True) for record in project.images]
    good = {"category_id": 7, "segmentation": {"size": [64, 80], "counts": "x"}, "score": 0.5}
    other = {**good, "segmentation": {"size": [64, 64], "counts": "x"}}
    assert version_predictions.format_problem(([good], [other]), project, rows) == ""
    assert "2 images, found 1" in version_predictions.format_problem(([good],), project, rows)
    assert "a.png: expected 1 masks, found 0" in version_predictions.format_problem(
        ([], [other]), project, rows
    )
    for change in ({"category_id": 5}, {"score": 1.5}, {"score": None}, {"segmentation": {}}):
        assert "a.png: expected COCO results" in version_predictions.format_problem(
            ([good | change], [other]), project, rows
        )
    assert "b.png" in version_predictions.format_problem(([good], [good]), project, rows)


def test_a_version_without_files_has_no_predictions(project: CocoData, models: Path) -> None:
    register.register_student(models / "teacher", LOW, source())
    version = versions.find("wssis-student", 1)
    shutil.rmtree(version.folder)
    predictions = version_predictions.predict_val(version, project, points=False)
    assert predictions.results == ()
    assert "models:/wssis-student/1" in predictions.problem


def test_predictions_are_cached_for_one_version(registered: Path) -> None:
    versions.tag("wssis-student", 1, {register.CONTENT_TAG: "a"})
    versions.tag("wssis-student", 2, {register.CONTENT_TAG: "b"})
    one, two = (versions.find("wssis-student", number) for number in (1, 2))
    assert version_predictions.cached(one) is None
    version_predictions.cache(one, ([{"score": 0.25}], []))
    assert version_predictions.cached(one) == Predictions(([{"score": 0.25}], []))
    assert version_predictions.cached(two) is None
    version_predictions.cache(two, ([],))
    assert version_predictions.cached(one) is None
    assert version_predictions.cached(two) == Predictions(([],))
    (file,) = (registered / paths.SCRATCH).glob("answers-*.json")
    file.write_text(json.dumps({"key": 1}))
    assert version_predictions.cached(two) is None
