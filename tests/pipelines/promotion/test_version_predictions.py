"""Asking a version in a process of its own, and what counts as an answer."""

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
from pipelines.promotion.version_predictions import Answers
from pipelines.registry import register, versions
from pipelines.tracking.store import open_store
from wssis.data import rle as rle_api
from wssis.data.coco import Annotation, Category, CocoData, ImageRecord, save_coco
from wssis.settings import DecodeSettings, PseudoRules

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
def test_a_student_answers_with_its_own_code_and_passes(
    project: CocoData, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Code elsewhere on the path must not be taken for the version's own.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    # AP wants all instances, whatever score a version shows them from.
    write_decode(shutil.copytree(models / "teacher", Path("student")), LOW, 1.0)
    register.register_student(Path("student"), LOW, source())
    version = versions.find("wssis-student", 1)
    assert own_decode(version.files)[1] == 1.0
    verdict = gate.examine(version, None, Promote())
    assert not verdict.failed
    assert verdict.answers is not None
    assert len(verdict.answers.results) == 2
    assert all(0 < len(found) <= 3 for found in verdict.answers.results)
    assert version.signature["inputs"][0]["name"] == "image"
    # A version without its code is not answered for by the code that lies here.
    shutil.rmtree(version.folder / "code" / "wssis")
    answers = version_predictions.ask(version, project, points=False)
    assert answers.results == ()
    assert "wssis" in answers.problem


@pytest.mark.slow
def test_a_labeler_answers_to_a_point_in_each_object(project: CocoData, models: Path) -> None:
    register.register_labeler(models / "teacher", models / "refiner", PseudoRules(), source())
    version = versions.find("wssis-labeler", 1)
    verdict = gate.examine(version, None, Promote())
    assert not verdict.failed
    assert verdict.answers is not None
    assert [[item["category_id"] for item in found] for found in verdict.answers.results] == [[7], [3]]
    assert -0.5 <= verdict.numbers["score"] <= 0.5
    assert not gate.examine(version, version, Promote()).failed


def test_faults_of_answers_are_named(project: CocoData) -> None:
    rows = [version_predictions.question(record, project, points=True) for record in project.images]
    good = {"category_id": 7, "segmentation": {"size": [64, 80], "counts": "x"}, "score": 0.5}
    other = {**good, "segmentation": {"size": [64, 64], "counts": "x"}}
    assert version_predictions.fault(([good], [other]), project, rows) == ""
    assert "2 answers, found 1" in version_predictions.fault(([good],), project, rows)
    assert "a.png: expected 1 masks, found 0" in version_predictions.fault(([], [other]), project, rows)
    for change in ({"category_id": 5}, {"score": 1.5}, {"score": None}, {"segmentation": {}}):
        assert "a.png: expected COCO results" in version_predictions.fault(
            ([good | change], [other]), project, rows
        )
    assert "b.png" in version_predictions.fault(([good], [good]), project, rows)


def test_a_version_whose_files_are_gone_has_no_answers(project: CocoData, models: Path) -> None:
    register.register_student(models / "teacher", LOW, source())
    version = versions.find("wssis-student", 1)
    shutil.rmtree(version.folder)
    answers = version_predictions.ask(version, project, points=False)
    assert answers.results == ()
    assert "models:/wssis-student/1" in answers.problem


def test_kept_answers_are_those_of_one_version(registered: Path) -> None:
    one, two = (versions.find("wssis-student", number) for number in (1, 2))
    versions.tag("wssis-student", 1, {register.CONTENT_TAG: "a"})
    versions.tag("wssis-student", 2, {register.CONTENT_TAG: "b"})
    one, two = (versions.find("wssis-student", number) for number in (1, 2))
    assert version_predictions.kept(one) is None
    version_predictions.keep(one, Answers(([{"score": 0.25}], [])))
    assert version_predictions.kept(one) == Answers(([{"score": 0.25}], []))
    assert version_predictions.kept(two) is None
    version_predictions.keep(two, Answers(([],)))
    assert version_predictions.kept(one) is None
    assert version_predictions.kept(two) == Answers(([],))
    (file,) = (registered / paths.SCRATCH).glob("answers-*.json")
    file.write_text(json.dumps({"key": 1}))
    assert version_predictions.kept(two) is None
