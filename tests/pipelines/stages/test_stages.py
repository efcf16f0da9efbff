"""Stages by themselves, without DVC and tracking: what they write, and what they refuse."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import paths
from pipelines.config.params import load_params, parse, read_yaml
from pipelines.config.schema import Params
from pipelines.decode_file import own_decode, write_decode
from pipelines.runner.run_stage import StageContext
from pipelines.stages.audit import audit
from pipelines.stages.evaluate import evaluate
from pipelines.stages.prepare import prepare
from pipelines.stages.pseudo import pseudo
from pipelines.stages.register import register
from pipelines.stages.split import split
from wssis.data import rle
from wssis.data.coco import load_coco, save_coco
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.settings import DecodeSettings, MixSettings

ROOT = Path(__file__).parents[3]


def stage(name: str, **sections: dict[str, Any]) -> StageContext:
    """A stage with the shipped params but for some values, and without tracking."""
    values = read_yaml(ROOT / "params.yaml")
    for section, changes in sections.items():
        values[section] |= changes
    return StageContext(name, parse(values, Params, "params.yaml"))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


SHAPES = {"shapes": {"train": 12, "val": 3, "size": 48, "seed": 1}}


def write_folder(folder: Path, **changes: Any) -> dict[str, str]:
    """A COCO folder of two images, with some records changed."""
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / f"{name}.png")
    document = {
        "images": [
            {"id": n, "file_name": f"{name}.png", "height": 20, "width": 30}
            for n, name in ((1, "a"), (2, "b"))
        ],
        "categories": [{"id": 5, "name": "thing"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 5, "segmentation": [[2, 2, 9, 2, 9, 9]]} for n in (1, 2)
        ],
    }
    (folder / "a.json").write_text(json.dumps(document | changes))
    return {"annotations": f"{folder.name}/a.json", "images": folder.name}


def test_prepare_and_split_of_shapes(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(stage("prepare", data=SHAPES))
    assert len(load_coco(paths.PREPARED_TRAIN).images) == 12
    assert len(load_coco(paths.PREPARED_VAL).images) == 3
    split(stage("split", split={"strong": 0.5, "holdout": 0.3}))
    strong, holdout, points = (load_coco(path) for path in (paths.STRONG, paths.HOLDOUT, paths.POINTS))
    assert [len(data.images) for data in (strong, holdout, points)] == [4, 2, 6]
    raw = json.loads(paths.POINTS.read_text())
    assert raw["annotations"]
    assert not {"segmentation", "bbox", "area"} & {key for item in raw["annotations"] for key in item}
    truth = load_coco(paths.WEAK_TRUTH)
    assert {i.id for im in points.images for i in im.annotations} <= {
        i.id for im in truth.images for i in im.annotations
    }
    assert load_coco(paths.DRAWN).images == ()
    ledger = json.loads(paths.LEDGER.read_text())
    val = [entry for entry in ledger["labels"] if entry["set"] == "val"]
    assert sum(entry["count"] for entry in val) == load_coco(paths.PREPARED_VAL).num_objects
    assert {entry["use"] for entry in val} == {"evaluation"}
    assert ledger["totals"]["label_hours"] < ledger["totals"]["full_label_hours"]
    assert "4 strong, 2 held out, 6 weak" in capsys.readouterr().out


def test_prepare_of_a_folder_leaves_the_images_where_they_are(workspace: Path) -> None:
    train, val = write_folder(workspace / "mine"), write_folder(workspace / "yours")
    prepare(stage("prepare", data={"source": "coco", "train": train, "val": val}))
    assert json.loads(paths.PREPARED_TRAIN.read_text())["info"]["image_dir"] == "mine"
    assert load_coco(paths.PREPARED_VAL).image_dir == "yours"
    assert [path.name for path in paths.PREPARED_TRAIN_IMAGES.iterdir()] == ["where.txt"]
    assert "mine" in (paths.PREPARED_TRAIN_IMAGES / "where.txt").read_text()


def test_a_folder_in_the_project_is_named_alike_in_a_queued_experiment(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(workspace / "mine")
    settings = {"source": "coco", "train": folder, "val": folder}
    prepare(stage("prepare", data=settings))
    queued = workspace / ".dvc/tmp/exps/tmp1"
    queued.mkdir(parents=True)
    monkeypatch.chdir(queued)
    prepare(stage("prepare", data=settings))
    assert paths.PREPARED_TRAIN.read_bytes() == (workspace / paths.PREPARED_TRAIN).read_bytes()
    assert stage("split").load(paths.PREPARED_TRAIN).image_dir == str(workspace / "mine")


def test_prepare_refuses_images_that_are_not_as_the_annotations_say(workspace: Path) -> None:
    good = write_folder(workspace / "good")

    def refused(train: dict[str, str], *words: str) -> None:
        with pytest.raises(InputError) as caught:
            prepare(stage("prepare", data={"source": "coco", "train": train, "val": good}))
        assert all(word in str(caught.value) for word in words)
        assert not paths.PREPARED_TRAIN.exists()

    other = [{"id": 1, "file_name": "a.png", "height": 21, "width": 30}]
    note = [{"id": 1, "image_id": 1, "category_id": 5, "segmentation": [[2, 2, 9, 2, 9, 9]]}]
    refused(write_folder(workspace / "size", images=other, annotations=note), "a.png", "30 x 21")
    outside = [{"id": 1, "file_name": "../a.png", "height": 20, "width": 30}]
    refused(write_folder(workspace / "outside", images=outside, annotations=note), "../a.png")
    missing = [{"id": 1, "file_name": "c.png", "height": 20, "width": 30}]
    refused(write_folder(workspace / "missing", images=missing, annotations=note), "c.png")
    refused({"annotations": "nowhere.json", "images": "good"}, "nowhere.json")
    refused(write_folder(workspace / "classes", categories=[{"id": 5, "name": "cat"}]), "categories")


def test_split_refuses_fractions_that_leave_nothing(workspace: Path) -> None:
    prepare(stage("prepare", data=SHAPES))
    for fraction in (0.01, 0.99):
        with pytest.raises(InputError, match=r"split\.strong"):
            split(stage("split", split={"strong": fraction}))
    assert not paths.STRONG.exists()
    assert not paths.LEDGER.exists()


def test_split_takes_a_persons_points(workspace: Path) -> None:
    prepare(stage("prepare", data=SHAPES))
    data = load_coco(paths.PREPARED_TRAIN)
    lines = [f"{image.file_name},3.5,4.5,star" for image in data.images]
    Path("clicks.csv").write_text("\n".join(["file,x,y,class", *lines]))
    split(stage("split", split={"strong": 0.5, "clicked": "clicks.csv"}))
    points = load_coco(paths.POINTS)
    assert all([item.point for item in image.annotations] == [(3.5, 4.5)] for image in points.images)
    Path("clicks.csv").write_text("file,x,y,class\n00000.png,99,4,star")
    with pytest.raises(InputError, match=r"clicks\.csv, line 2"):
        split(stage("split", split={"strong": 0.5, "clicked": "clicks.csv"}))


def audited(workspace: Path) -> dict[str, float]:
    audit(stage("audit"))
    assert paths.PICTURE_WORST_LABELS.stat().st_size > 1000
    assert paths.PLOT_PSEUDO.read_text().startswith(
        "image_id,id,label,ignored,confidence,quality,rough_iou,refined_iou\n"
    )
    return json.loads(paths.METRICS_PSEUDO.read_text())


def test_audit_counts_and_measures_where_the_truth_is(workspace: Path) -> None:
    from dataclasses import replace

    prepare(stage("prepare", data=SHAPES))
    split(stage("split", split={"strong": 0.5}))
    truth = load_coco(paths.WEAK_TRUTH)
    first = next(image for image in truth.images if len(image.annotations) > 1)

    def with_first_ignored(image: Any) -> Any:
        if image is not first:
            return image
        ignored = replace(image.annotations[0], extra={"ignore": True, "confidence": 0.1})
        return replace(image, annotations=(ignored, *image.annotations[1:]))

    save_coco(truth, paths.PROPOSED)
    save_coco(truth, paths.PROPOSED_ROUGH)
    save_coco(replace(truth, images=tuple(with_first_ignored(i) for i in truth.images)), paths.LABELS)
    metrics = audited(workspace)
    gallery = json.loads(paths.GALLERY.read_text())
    assert gallery["total"] == truth.num_objects
    assert sum(label["ignored"] for label in gallery["labels"]) == 1
    assert {tuple(label["panels"]) for label in gallery["labels"]} == {("rough", "refined", "truth")}
    assert metrics["points"] == truth.num_objects == metrics["masks"] + metrics["ignored"]
    assert metrics["ignored"] == 1
    assert metrics["rough_iou"] == metrics["refined_iou"] == metrics["refined_iou50"] == 1.0
    assert metrics["quality_rank_correlation"] == 0.0  # all masks are alike
    # Without the truth of weak images there is nothing to measure against.
    save_coco(
        replace(truth, images=tuple(replace(i, annotations=()) for i in truth.images)), paths.WEAK_TRUTH
    )
    metrics = audited(workspace)
    assert set(metrics) == {"points", "masks", "ignored"}
    labels = json.loads(paths.GALLERY.read_text())["labels"]
    assert {(*label["panels"], label["refined_iou"]) for label in labels} == {("rough", "refined", None)}


def test_drawn_masks_of_mixed_images_are_labels_and_not_judged(
    workspace: Path, models: Path, images: Path
) -> None:
    from dataclasses import replace

    shutil.copytree(models, workspace / "models")
    square = torch.zeros(1, 64, 80, dtype=torch.bool)
    square[0, 10:20, 30:45] = True
    mask = rle.encode(square)[0]
    a = ImageRecord(1, "a.png", 64, 80, (Annotation(1, 0, point=(9, 9)), Annotation(2, 1, point=(36, 15))))
    b = ImageRecord(2, "b.png", 64, 64, (Annotation(3, 1, point=(30, 30)),))
    points = CocoData((Category(3, "cat"), Category(7, "dog")), (a, b), str(images))
    drawn = replace(points, images=(replace(a, annotations=(Annotation(2, 1, mask),)),))
    truth = replace(
        points,
        images=(
            replace(a, annotations=(Annotation(1, 0, mask), Annotation(2, 1, mask))),
            replace(b, annotations=()),
        ),
    )
    holdout = replace(points, images=(replace(a, annotations=(Annotation(2, 1, mask, (36, 15)),)),))
    for data, path in (
        *((points, paths.POINTS), (drawn, paths.DRAWN), (truth, paths.WEAK_TRUTH)),
        (holdout, paths.HOLDOUT),
    ):
        save_coco(data, path)
    pseudo(stage("pseudo", tune_pseudo={"use_tuned": False}))
    items = {item.id: item for image in load_coco(paths.LABELS).images for item in image.annotations}
    assert items.keys() == {1, 2, 3}
    assert items[2].rle == mask
    assert items[2].extra == {"confidence": 1.0, "drawn": True}
    assert "drawn" not in items[1].extra
    assert 0 <= items[1].extra["quality"] <= 1
    metrics = audited(workspace)
    assert metrics["drawn"] == 1
    assert metrics["points"] == 3 == metrics["masks"] + metrics["ignored"]
    assert metrics["refined_iou"] < 1  # of annotation 1 alone
    assert json.loads(paths.GALLERY.read_text())["total"] == 2
    assert paths.PLOT_PSEUDO.read_text().count("\n") == 2


def test_nothing_is_registered_from_a_queued_experiment(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queued = workspace / ".dvc/tmp/exps/tmp1"
    queued.mkdir(parents=True)
    monkeypatch.chdir(queued)
    here = stage("register")
    here.tracker.run_id = "a run"
    register(here)
    assert json.loads(paths.REGISTERED.read_text()) == {}
    assert "nothing is registered" in capsys.readouterr().out
    assert not (workspace / "mlflow.db").exists()


def test_a_stage_with_wrong_params_ends_with_two_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(
        (ROOT / "params.yaml").read_text().replace("seed: 0", "seed: -1", 1)
    )
    words = [sys.executable, "-m", "pipelines.stages.split"]
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("wssis: params.yaml, seed: ")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_the_shipped_params_are_those_of_this_test() -> None:
    assert stage("split").params == load_params(ROOT / "params.yaml")


def planned(data: CocoData, scores: dict[bool, float], false: float) -> list[dict[str, Any]]:
    """COCO results: every object's mask, with one score for the first object of an image and one for the
    others, and a mask of nothing."""
    results = []
    for image in data.images:
        nothing = rle.encode(torch.ones((1, *image.size), dtype=torch.bool))[0]
        found = [(item.rle, scores[place == 0], item.label) for place, item in enumerate(image.objects)]
        for mask, score, label in [*found, (nothing, false, 0)]:
            assert mask is not None
            results.append(
                {
                    "image_id": image.id,
                    "category_id": data.categories[label].id,
                    "segmentation": mask,
                    "bbox": rle.bounding_box(mask),
                    "area": rle.area(mask),
                    "score": score,
                }
            )
    return results


def test_evaluate_chooses_the_shown_score_on_held_out_images(
    workspace: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On `val` another score would be better: half of its objects score lower than what is false."""
    prepare(stage("prepare", data=SHAPES))
    split(stage("split", split={"strong": 0.5, "holdout": 0.4}))
    for folder in (paths.TEACHER, paths.TEACHER_EARLY, paths.TEACHER_LATE, paths.STRONG_ONLY, paths.STUDENT):
        shutil.copytree(models / "teacher", folder)
    held = {image.id for image in load_coco(paths.HOLDOUT).images}

    def predict(predictor: Any, data: CocoData, name: str, journal: Any) -> None:
        on_val = not name.endswith("held-out images")
        assert on_val or {image.id for image in data.images} == held
        if name.startswith("strong_only"):
            journal.add(0, planned(data, {True: 0.0, False: 0.0}, 0.5) if on_val else [])
        elif on_val:
            journal.add(0, planned(data, {True: 0.5, False: 0.2}, 0.3))
        else:
            journal.add(0, planned(data, {True: 0.6, False: 0.6}, 0.3))

    monkeypatch.setattr("pipelines.stages.evaluate.predict_groups", predict)
    evaluate(stage("evaluate"))
    decode, score = own_decode(paths.STUDENT)
    assert decode == load_params(ROOT / "params.yaml").evaluate.decode
    assert score == pytest.approx(0.45)
    val = load_coco(paths.PREPARED_VAL)
    shown = json.loads(paths.METRICS_DETECTIONS.read_text())
    assert shown == pytest.approx(
        {
            "student_score": 0.45,
            "student_precision": 1.0,
            "student_recall": len(val.images) / val.num_objects,
            "student_F1": 2 * len(val.images) / (len(val.images) + val.num_objects),
        }
    )
    # Nothing of strong-only matches a held-out object: all of it is shown.
    assert own_decode(paths.STRONG_ONLY) == (decode, None)
    scores = json.loads(paths.METRICS_STUDENT.read_text())
    assert scores["AP50"] > shown["student_recall"]  # AP is over all scores


def test_a_new_training_takes_the_score_of_earlier_weights_away(workspace: Path, models: Path) -> None:
    from pipelines.stages.train import save
    from wssis.checkpoint import load_model

    write_decode(paths.STUDENT, DecodeSettings(), 0.5)
    save(stage("student"), load_model(models / "teacher")[0], strong_data(), paths.STUDENT, 1)
    assert own_decode(paths.STUDENT) == (None, None)


def strong_data() -> CocoData:
    return CocoData((Category(3, "cat"), Category(7, "dog")), (), ".")


@pytest.mark.parametrize("start", ["teacher", "backbone"])
def test_student_and_strong_only_start_alike_and_mix_by_the_share(
    workspace: Path, models: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    from pipelines.stages import train
    from wssis.checkpoint import load_model
    from wssis.training.trainer import TrainResult

    for path in (paths.STRONG, paths.HOLDOUT, paths.LABELS):
        save_coco(strong_data(), path)
    shutil.copytree(models / "teacher", paths.TEACHER)
    teacher = load_model(models / "teacher")[0]
    calls: list[dict[str, Any]] = []

    def training(sources: Any, *given: Any, **options: Any) -> TrainResult:
        calls.append({"drawn": len(sources), **options})
        return TrainResult(teacher)

    monkeypatch.setattr(train, "train_solov2", training)
    for name in ("student", "strong_only"):
        train.WORK[name][0](
            stage(name, student={"start": start, "drawn_share": 0.3, "drawn_end": 0.25, "quality_power": 2.0})
        )
    for call, guessed in zip(calls, (1, 0), strict=True):
        assert (call["drawn"], len(call["guessed"])) == (2, guessed)
        assert call["mix"] == MixSettings(drawn_share=0.3, drawn_end=0.25, quality_power=2.0)
        if start == "backbone":
            assert call["initial"] is None
            continue
        weights, wanted = call["initial"].state_dict(), teacher.state_dict()
        assert all(torch.equal(weights[key], wanted[key]) for key in wanted)
