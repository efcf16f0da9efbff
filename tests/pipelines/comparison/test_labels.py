"""What each row learns from, the one training and evaluation of all rows, and the page."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import paths
from pipelines.comparison import cell, given_labels, point_labels, predicted, students, table
from pipelines.comparison.rows import LABELS_OF_OURS, ROWS, TITLES
from pipelines.config.params import load_params
from pipelines.runner.run_stage import StageContext
from wssis.data.coco import load_coco, save_coco
from wssis.errors import InputError


def labels(row: str) -> dict[int, list[int]]:
    """Annotation ids of each image of a row."""
    data = load_coco(paths.ROW_LABELS / f"{row}.json")
    return {image.id: [item.id for item in image.annotations] for image in data.images}


def test_rows_of_points_have_one_annotation_a_point_and_others_none(project: Path) -> None:
    cell.enter(0.5, 3)
    points = load_coco(paths.POINTS)
    wanted = {image.id: [item.id for item in image.annotations] for image in points.images}
    assert sum(map(len, wanted.values())) > 4
    for row in (
        "fixed_level",
        "adaptive_level",
        "refined",
        "ours",
        "oracle",
        "no_refiner",
        "no_color",
        *LABELS_OF_OURS,
    ):
        assert labels(row) == wanted, row
    assert labels("strong_only") == {}
    assert list(labels("predicted")) == list(labels("image_level")) == list(wanted)


def test_only_the_oracle_has_the_truth(project: Path) -> None:
    cell.enter(0.5, 3)
    truth = load_coco(paths.WEAK_TRUTH)
    masks = {item.id: item.rle for image in truth.images for item in image.annotations}
    for row in ROWS:
        data = load_coco(paths.ROW_LABELS / f"{row}.json")
        same = [item.rle == masks.get(item.id) for image in data.images for item in image.annotations]
        assert all(same) == (row == "oracle") or not same, row


def test_image_level_has_only_known_classes_of_an_image(project: Path) -> None:
    cell.enter(0.5, 3)
    points = load_coco(paths.POINTS)
    for image in load_coco(paths.ROW_LABELS / "image_level.json").images:
        known = {item.label for item in points.by_id[image.id].annotations}
        assert {item.label for item in image.annotations} <= known


def test_no_label_but_the_oracles_hangs_on_the_truth_or_val(
    labeled_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without those files every label and threshold is made all the same."""
    import shutil

    folder = tmp_path / "project"
    shutil.copytree(labeled_project, folder, symlinks=True)
    monkeypatch.chdir(folder)
    paths.PREPARED_VAL.unlink()
    paths.PREPARED_TRAIN.unlink()
    cell.enter(0.5, 3)
    paths.WEAK_TRUTH.unlink()
    before = {row: (paths.ROW_LABELS / f"{row}.json").read_bytes() for row in ROWS}
    here = StageContext("test", load_params())
    for work in (
        predicted.label_by_predictions,
        point_labels.prompted,
        point_labels.refined,
        point_labels.ours,
        point_labels.parts,
    ):
        work(here)
    assert {row: (paths.ROW_LABELS / f"{row}.json").read_bytes() for row in ROWS} == before
    with pytest.raises(InputError, match="weak"):
        given_labels.oracle(here)


def test_the_oracle_refuses_weak_images_that_nobody_drew(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell.enter(0.5, 3)
    truth = load_coco(paths.WEAK_TRUTH)
    save_coco(
        replace(truth, images=tuple(replace(i, annotations=()) for i in truth.images)), paths.WEAK_TRUTH
    )
    (paths.ROW_LABELS / "oracle.json").unlink()
    with pytest.raises(InputError, match=r"Remove oracle from compare\.rows"):
        given_labels.oracle(StageContext("oracle", load_params()))
    assert not (paths.ROW_LABELS / "oracle.json").exists()
    assert "ATTENTION" in capsys.readouterr().out


def test_students_are_trained_measured_and_shown(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell.enter(0.5, 3)
    here = StageContext("test", load_params())
    for row in ("strong_only", "ours"):  # an empty set of weak images, and one with ignore regions
        students.train(here, row)
        students.evaluate(here, row)
    predicted.sweep(here)
    monkeypatch.chdir(project)
    folder = paths.COMPARE_MEASURED / "0.5-3"
    strong, ours = (json.loads((folder / f"{row}.json").read_text()) for row in ("strong_only", "ours"))
    assert strong["masks"] == 0
    assert ours["label_hours"] > strong["label_hours"] > 0
    # The other rows' students would only take time: their figures are not what is tested.
    for n, row in enumerate(ROWS):
        if not (folder / f"{row}.json").exists():
            (folder / f"{row}.json").write_text(json.dumps({**ours, "AP": n / 10}))
    (folder / "stale.json").write_text("{}")  # a row of an earlier run
    table.table(StageContext("table", load_params()))
    results = json.loads(paths.COMPARE_RESULTS.read_text())
    assert [entry["row"] for entry in results["rows"]] == list(ROWS)
    assert results["settings"]["iterations"] == {"teacher": 2, "refiner": 2, "student": 2}
    text = paths.COMPARE_DOC.read_text()
    assert all(title in text for title in TITLES.values())
    assert "Shortened trainings" in text
    assert "0.700" in text
    for picture in (paths.COMPARE_BY_FRACTION, paths.COMPARE_BY_HOURS, paths.COMPARE_SWEEP):
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert f"]({picture.relative_to('docs')})" in text
    with paths.COMPARE_THRESHOLDS.open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row["chosen"] == "1" for row in rows) == 2
    assert {row["AP"] for row in rows if row["chosen"] == "0"} == {""}
    first = paths.COMPARE_BY_HOURS.read_bytes(), text
    table.table(StageContext("table", load_params()))
    assert (paths.COMPARE_BY_HOURS.read_bytes(), paths.COMPARE_DOC.read_text()) == first


def test_mean_and_deviation_over_seeds() -> None:
    keys = ("AP50", "AP75", "AP_small", "AP_medium", "AP_large", "masks", "label_hours")
    found = [{"AP": ap, **dict.fromkeys(keys, 1.0)} for ap in (0.2, 0.3)]
    entry = table.row_summary("ours", 0.1, found)
    assert entry["AP"] == pytest.approx(0.25)
    assert entry["AP_std"] == pytest.approx(0.0707, abs=1e-4)
    assert table.shown_ap(entry) == "0.250 ± 0.071"
    assert table.shown_ap(table.row_summary("ours", 0.1, found[:1])) == "0.200"


def test_a_part_changes_the_student_or_its_labels(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell.enter(0.5, 3)
    given: dict[str, StageContext] = {}
    monkeypatch.setattr(students, "student", lambda stage, labels, *_: given.update({labels.stem: stage}))
    params = load_params()
    ended = {"student": params.student.model_copy(update={"drawn_end": 0.25})}
    here = StageContext("test", params.model_copy(update=ended))
    for row in ROWS:
        students.train(here, row)
    assert {row for row, stage in given.items() if stage.params != here.params} == {*LABELS_OF_OURS, "oracle"}
    assert given["no_paste"].params.augment == replace(here.params.augment, paste=0.0)
    assert given["cold_start"].params.student.start == "backbone"
    ours = (paths.ROW_LABELS / "ours.json").read_bytes()
    assert all((paths.ROW_LABELS / f"{row}.json").read_bytes() == ours for row in LABELS_OF_OURS)
    assert (paths.ROW_LABELS / "no_refiner.json").read_bytes() != ours
