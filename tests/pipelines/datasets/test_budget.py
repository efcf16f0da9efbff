"""`wssis budget`: which curve it goes by, what it counts, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from pipelines import paths
from pipelines.cli.main import main
from pipelines.config.params import flatten, load_params, write_yaml
from pipelines.tracking.store import open_store
from wssis.files import write_json
from wssis.label_budget import Curve

ROOT = Path(__file__).parents[3]
TRUE = Curve(top=0.6, drop=1.2, power=0.5, half=60)
OBJECTS = 1000


def manifest(drawn: int, clicked: int, empty: int, mixed: int = 0) -> dict:
    """instances.json of images with two objects each, and of some that show none."""
    mask, point = {"segmentation": [[0, 0, 9, 0, 9, 9]]}, {"point": [1, 1]}
    kinds = [(mask, mask)] * drawn + [(point, point)] * clicked + [(mask, point)] * mixed
    items = [
        {"id": 2 * n + k, "image_id": n, "category_id": 1, **kind}
        for n, pair in enumerate(kinds)
        for k, kind in enumerate(pair)
    ]
    items.append({"id": 9999, "image_id": 0, "category_id": 1, **mask, "iscrowd": 1})
    images = [{"id": n, "file_name": f"{n}.png"} for n in range(len(kinds) + empty)]
    return {
        "info": {"image_dir": "images"},
        "images": images,
        "annotations": items,
        "categories": [{"id": 1, "name": "a"}],
    }


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write_json(paths.IMPORTED / "instances.json", manifest(5, 20, 0, mixed=3))
    Path("images").mkdir()
    for number in range(68):  # 40 more than are listed: nobody has looked at these
        Path(f"images/{number}.png").touch()
    paths.PREPARED_VAL.parent.mkdir(parents=True)
    paths.PREPARED_VAL.write_text("{}")
    return tmp_path


def advised(*words: str) -> dict:
    assert main(["budget", *words, "--json", "advice.json"]) == 0
    return json.loads(Path("advice.json").read_text())


def add_run(masks: int, val: str = "", **changes: str) -> None:
    """A `dvc repro` as tracking leaves it, with `masks` of OBJECTS drawn."""
    client = open_store()
    found = client.get_experiment_by_name("shapes")
    experiment = found.experiment_id if found else client.create_experiment("shapes")
    parent = client.create_run(experiment).info.run_id
    for name, value in (flatten(load_params()) | changes).items():
        if name.split(".")[0] in ("student", "prices"):
            client.log_param(parent, name, str(value))
    measured = {
        "label_hours": (masks * 79.2 + (OBJECTS - masks) * 1.9) / 3600,
        "full_label_hours": OBJECTS * 79.2 / 3600,
        "strong_only_AP": float(TRUE.ap(masks, 0)),
        "student_AP": float(TRUE.ap(masks, OBJECTS - masks)),
    }
    for name, value in measured.items():
        client.log_metric(parent, name, value)
    val = val or hashlib.md5(paths.PREPARED_VAL.read_bytes()).hexdigest()
    tags = {"mlflow.parentRunId": parent, "wssis.stage": "evaluate", "dvc/data/prepared/val.json": val}
    client.create_run(experiment, tags=tags)


def test_without_runs_the_papers_table_is_used_and_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = advised("--hours", "2")
    said = capsys.readouterr().out
    assert "the paper's table" in said
    assert "With 2 h: " in said
    assert found["curve"]["from"] == "paper"
    assert found["stock"] == {
        "unlabelled": 40,
        "clicked": 23,
        "drawn": 5,
        "points": 43,
        "masks": 13,
        "objects_per_image": 2.0,
    }
    assert not (project / paths.STORE).exists()  # asking makes nothing
    assert advised("--hours", "0")["advice"]["ap"] == found["advice"]["ap_now"]
    assert "not enough to label one image" in capsys.readouterr().out


def test_an_image_listed_without_a_label_shows_no_object(project: Path) -> None:
    """As `wssis import`, `wssis check` and `split` take it; unlabeled is what is not listed."""
    write_json(paths.IMPORTED / "instances.json", manifest(5, 20, 7, mixed=3))
    stock = advised("--hours", "2")["stock"]
    assert (stock["drawn"], stock["clicked"], stock["unlabelled"]) == (12, 23, 33)
    assert stock["objects_per_image"] == pytest.approx(56 / 35)


def test_own_runs_make_the_curve_once_there_are_enough(
    project: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(store, project / paths.STORE)
    for masks in (30, 100):
        add_run(masks)
    add_run(300, val="other")
    add_run(500, **{"student.train.iterations": "1"})
    found = advised("--hours", "2")
    assert found["curve"]["from"] == "paper"
    assert found["label_sets"] == 2
    assert set(found["left_out"].values()) == {1}
    assert "Left out: 1 run, other validation images" in capsys.readouterr().out
    add_run(300)
    found = advised("--hours", "2")
    assert found["curve"]["from"] == "runs"
    assert "the project's own runs, 6 measurements" in capsys.readouterr().out
    assert {round(one["masks"]) for one in found["measured"]} == {30, 100, 300}
    assert {round(one["points"]) for one in found["measured"]} == {0, 970, 900, 700}
    curve = Curve(**{key: value for key, value in found["curve"].items() if key != "from"})
    assert curve.ap(150, 850) == pytest.approx(float(TRUE.ap(150, 850)), abs=0.01)


def test_rows_of_compare_count_unless_shortened_or_of_another_val(project: Path) -> None:
    def row(name: str, masks: int) -> dict:
        points = 0 if name == "strong_only" else OBJECTS - masks
        hours = (masks * 79.2 + points * 1.9) / 3600
        ap = float(TRUE.ap(masks, points))
        return {"row": name, "fraction": masks / OBJECTS, "AP": ap, "label_hours": hours}

    params = load_params()
    steps = {name: getattr(params, name).train.iterations for name in ("teacher", "refiner", "student")}
    rows = [row(name, masks) for name in ("strong_only", "ours", "refined") for masks in (50, 100, 500)]
    settings = {"data": "shapes", "iterations": steps}
    val = hashlib.md5(paths.PREPARED_VAL.read_bytes()).hexdigest()
    deps = [{"path": "../data/prepared/val.json", "md5": val}]
    write_yaml(paths.COMPARE_YAML.with_name("dvc.lock"), {"stages": {"evaluate@0.1-0-ours": {"deps": deps}}})
    write_json(paths.COMPARE_RESULTS, {"settings": settings, "rows": rows})
    found = advised("--hours", "1")
    assert found["curve"]["from"] == "runs"
    assert sorted(round(one["points"]) for one in found["measured"]) == [0, 0, 0, 500, 900, 950]
    write_json(paths.COMPARE_RESULTS, {"settings": settings | {"iterations": {}}, "rows": rows})
    assert advised("--hours", "1")["curve"]["from"] == "paper"
    write_json(paths.COMPARE_RESULTS, {"settings": settings, "rows": rows})
    paths.PREPARED_VAL.write_text("{ }")
    assert advised("--hours", "1")["curve"]["from"] == "paper"


def test_the_projects_splits_come_before_imported_data(project: Path) -> None:
    for path, document in (
        (paths.STRONG, manifest(4, 0, 1)),
        (paths.HOLDOUT, manifest(2, 0, 0)),
        (paths.POINTS, manifest(1, 10, 3)),
        (paths.DRAWN, manifest(1, 0, 0)),
    ):
        if path == paths.POINTS:
            document["annotations"] = [
                {**item, "segmentation": None} for item in document["annotations"][2:-1]
            ]
        write_json(path, document)
    write_json(paths.LEDGER, {"unlabelled": [100, 101]})
    stock = advised("--hours", "1")["stock"]
    assert [stock[key] for key in ("unlabelled", "clicked", "drawn", "points", "masks")] == [2, 14, 7, 18, 14]
    assert advised("--hours", "1", "--data", "data/mine")["stock"]["drawn"] == 5


def test_what_it_cannot_use_ends_with_two_and_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*words: str) -> str:
        assert main(["budget", *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "nowhere" in refused("--hours", "1", "--data", "nowhere")
    write_json(paths.IMPORTED / "instances.json", manifest(0, 0, 4) | {"annotations": []})
    assert "Label a few images first" in refused("--hours", "1")
    (paths.IMPORTED / "instances.json").write_text('{"images": 3}')
    assert "instances.json" in refused("--hours", "1")
    for wrong in ("-1", "inf", "many"):
        assert "--hours" in refused("--hours", wrong)
    empty = project / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    assert "params.yaml" in refused("--hours", "1")
