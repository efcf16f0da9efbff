"""The `wssis` command: what it writes, and how it says no."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from pipelines import paths
from pipelines.cli.main import main
from pipelines.config.params import load_params
from pipelines.config.presets import load_preset
from pipelines.decode_file import write_decode
from wssis import __version__
from wssis.data.coco import load_coco
from wssis.settings import DecodeSettings

LOW = DecodeSettings(score_threshold=0.0, keep_threshold=0.0, max_detections=3)
ROOT = Path(__file__).parents[3]


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The line of a call that must end with 2 and say so in one line."""
    code = main(words)
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.startswith("wssis: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_is_quick_and_lists_the_commands() -> None:
    start = time.perf_counter()
    words = [sys.executable, "-X", "importtime", "-m", "pipelines.cli.main", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True)
    seconds = time.perf_counter() - start
    names = ("preset", "predict", "evaluate", "tune", "models", "promote", "rollback", "trace", "serve", "ui")
    for name in names:
        assert name in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "mlflow", "dvc", "optuna"}
    assert seconds < 5  # 0.1 on an idle machine; torch or mlflow would take more


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_wrong_calls_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "COMMAND" in fails(capsys)
    assert "train" in fails(capsys, "train")
    assert "budget" in fails(capsys, "budgte", "--hours", "1")
    assert "--model" in fails(capsys, "predict", "a.png", "--out", "r.json")
    assert "IMAGE" in fails(capsys, "predict", "--model", "m", "--out", "r.json")
    assert "--port" in fails(capsys, "ui", "--port", "x")
    assert "VERSION" in fails(capsys, "promote", "best")
    assert "--to" in fails(capsys, "promote", "--to", "staging")
    assert "--model" in fails(capsys, "rollback", "--model", "other")
    assert "MODEL" in fails(capsys, "trace")
    assert "--model" in fails(capsys, "serve")
    for value in ("0", "-1", "nan", "inf", "x"):
        assert "--max-seconds" in fails(capsys, "serve", "--model", "m", "--max-seconds", value)
    assert "--max-images" in fails(capsys, "serve", "--model", "m", "--max-images", "1.5")
    assert "refiner or pseudo" in fails(capsys, "tune")
    assert "at least 1 worker" in fails(capsys, "tune", "pseudo", "--workers", "0")
    assert "student" in fails(capsys, "tune", "student")


def test_preset_replaces_params_and_shows_what_changes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preset", "shapes"]) == 0
    assert (project / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
    capsys.readouterr()
    assert main(["preset", "nuclei"]) == 0
    out = capsys.readouterr().out
    assert "data.source: shapes -> coco" in out
    assert "split.strong" not in out
    assert load_params() == load_preset(ROOT / "presets/nuclei.yaml")


def test_preset_mends_params_that_are_wrong(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "params.yaml").write_text("seed: x\n")
    assert main(["preset", "shapes"]) == 0
    assert "replaces an invalid file" in capsys.readouterr().out


def test_preset_refuses_what_it_does_not_know(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "params.yaml").write_text("kept")
    line = fails(capsys, "preset", "coco")
    assert "coco-05p" in line
    assert "nuclei" in line
    assert (project / "params.yaml").read_text() == "kept"
    shutil.rmtree(project / "presets")
    assert "presets" in fails(capsys, "preset", "shapes")


def test_predict_writes_coco_json(project: Path, models: Path, images: Path) -> None:
    # An untrained network scores all cells alike and low.
    shutil.copytree(models / "teacher", project / "student")
    decode = {"score_threshold": 0.0, "keep_threshold": 0.0, "max_detections": 3, "area_strides": []}
    (project / "student/decode.json").write_text(json.dumps(decode))
    words = ["predict", str(images), "--model", "student", "--out", "out/r.json", "--draw", "drawn"]
    assert main(words) == 0
    found = load_coco("out/r.json")
    assert [image.file_name for image in found.images] == ["a.png", "b.png"]
    assert [(image.height, image.width) for image in found.images] == [(64, 80), (64, 64)]
    assert [category.id for category in found.categories] == [3, 7]
    assert found.class_names == ("cat", "dog")
    assert 0 < found.num_objects <= 6
    assert all(item.score is not None for image in found.images for item in image.annotations)
    assert sorted(path.name for path in Path("drawn").iterdir()) == ["a.png", "b.png"]


def scores_of(path: str) -> list[float]:
    return [a["score"] for a in json.loads(Path(path).read_text())["annotations"]]


def test_predict_shows_instances_from_the_models_score_on(
    project: Path, models: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(models / "teacher", project / "student")
    low = DecodeSettings(score_threshold=0.0, keep_threshold=0.0, max_detections=1000)
    image = str(images / "a.png")

    def predict(*words: str) -> list[float]:
        assert main(["predict", image, "--model", "student", "--out", "r.json", "--draw", "d", *words]) == 0
        return scores_of("r.json")

    write_decode(folder, low, None)
    everything = predict()
    assert "with any score" in capsys.readouterr().out
    middle = everything[len(everything) // 2]
    write_decode(folder, low, middle)
    shown = predict()
    assert shown == [score for score in everything if score >= middle]
    assert 0 < len(shown) < len(everything)
    assert f"with a score >= {middle:.2g} (--score 0 keeps all)" in capsys.readouterr().out
    assert predict("--score", "0") == everything
    assert predict("--score", str(everything[0])) == [s for s in everything if s >= everything[0]]
    assert "--score" in fails(capsys, "predict", image, "--model", "student", "--out", "r", "--score", "1.5")
    assert "--points" in fails(
        capsys, "predict", image, "--model", str(models), "--out", "r", "--points", "p.csv", "--score", "0.5"
    )
    assert "--score" in fails(capsys, "serve", "--model", "student", "--score", "nan")


def test_predict_says_what_max_detections_left_out(
    project: Path, models: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cap is the model's own outside of a project, and counts what would have been shown."""
    folder = shutil.copytree(models / "teacher", project / "student")
    words = ["predict", str(images / "b.png"), "--model", "student", "--out", "r.json"]
    write_decode(folder, DecodeSettings(score_threshold=0.0, keep_threshold=0.0, max_detections=1000), 0.0)
    assert main(words) == 0
    everything = scores_of("r.json")
    assert "max_detections" not in capsys.readouterr().out
    write_decode(folder, DecodeSettings(score_threshold=0.0, keep_threshold=0.0, max_detections=3), 0.0)
    assert main(words) == 0
    assert len(scores_of("r.json")) == 3
    line = f"3 of {len(everything):,} kept (evaluate.decode.max_detections)"
    assert line in capsys.readouterr().out
    assert main([*words, "--score", str(max(everything))]) == 0  # what is not shown is not cut
    assert "max_detections" not in capsys.readouterr().out


def test_thresholds_are_those_of_params_for_the_projects_own_models(
    project: Path, models: Path, images: Path
) -> None:
    assert main(["preset", "shapes"]) == 0
    write_decode(shutil.copytree(models / "teacher", project / "elsewhere"), LOW, 0.0)
    write_decode(shutil.copytree(models / "teacher", paths.STUDENT), LOW, 0.0)
    shutil.copytree(models / "teacher", project / "bare")
    found = {}
    for model in ("elsewhere", str(paths.STUDENT), "bare"):
        assert main(["predict", str(images), "--model", model, "--out", "r.json"]) == 0
        found[model] = len(scores_of("r.json"))
    # By params.yaml an untrained network, whose scores are low, finds nothing.
    assert found == {"elsewhere": 6, str(paths.STUDENT): 0, "bare": 0}


def test_a_damaged_decode_file_is_named(
    project: Path, models: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(models / "teacher", project / "student")
    scores = ('"x"', "[]", "NaN", "1.5")
    others = ('{"nms": "soft"}', '{"max_detections": 2.5}', '{"area_strides": [1, 2]}')
    for damaged in ("{", "[]", *others, *(f'{{"area_strides": [], "score": {s}}}' for s in scores)):
        (folder / "decode.json").write_text(damaged)
        line = fails(capsys, "predict", str(images), "--model", "student", "--out", "r.json")
        assert "decode.json" in line


def test_an_image_that_padding_makes_huge_is_refused_before_it_is_decoded(
    project: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("1", (3_999_999, 1)).save("line.png")
    words = ["predict", "line.png", "--model", str(models / "teacher"), "--out", "r.json"]
    assert "padded to 128" in fails(capsys, *words)
    assert not Path("r.json").exists()


def test_predict_with_points_gives_each_point_a_mask_or_an_ignore_region(
    project: Path, models: Path, images: Path
) -> None:
    points = str(images.parent / "points.csv")
    assert main(["predict", str(images), "--model", str(models), "--points", points, "--out", "r.json"]) == 0
    raw = json.loads(Path("r.json").read_text())
    assert [a["point"] for a in raw["annotations"]] == [[70.5, 20.0], [10.0, 10.0], [30.0, 30.0]]
    assert [a["category_id"] for a in raw["annotations"]] == [7, 3, 7]
    assert all("confidence" in a and "segmentation" in a for a in raw["annotations"])


def test_predict_names_what_it_cannot_use(
    project: Path, models: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = ["--model", str(models / "teacher"), "--out", "r.json"]
    assert "nowhere.png" in fails(capsys, "predict", "nowhere.png", *good)
    (project / "empty").mkdir()
    assert "empty" in fails(capsys, "predict", "empty", *good)
    (project / "text.png").write_text("no image")
    assert "text.png" in fails(capsys, "predict", "text.png", *good)
    assert "none here" in fails(capsys, "predict", str(images), "--model", "none here", "--out", "r.json")
    assert "refiner" in fails(
        capsys, "predict", str(images), "--model", str(models / "refiner"), "--out", "r"
    )
    points = images.parent / "points.csv"
    assert "labeler" in fails(capsys, "predict", str(images), *good, "--points", str(points))
    outside = project / "points.csv"
    outside.write_text("file,x,y,class\na.png,80.5,20,dog\n")
    words = ["predict", str(images), "--model", str(models), "--out", "r.json", "--points", str(outside)]
    assert "line 2" in fails(capsys, *words)
    outside.write_text("file,x,y,class\na.png,8,20,bird\n")
    assert "bird" in fails(capsys, *words)
    odd = shutil.copytree(models / "teacher", project / "odd") / "model.json"
    odd.write_text(odd.read_text().replace('"resize"', '"size"'))
    assert "resize" in fails(capsys, "predict", str(images), "--model", "odd", "--out", "r.json")
    cut = shutil.copytree(models / "teacher", project / "cut") / "weights.safetensors"
    cut.write_bytes(cut.read_bytes()[:1000])
    assert "truncated" in fails(capsys, "predict", str(images), "--model", "cut", "--out", "r.json")
    assert not Path("r.json").exists()


def test_predict_knows_no_such_registered_model(
    project: Path, images: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(store, project / "mlflow.db")
    for uri in ("models:/wssis-student@candidate", "models:/wssis-student/3", "models:/x"):
        assert uri in fails(capsys, "predict", str(images), "--model", uri, "--out", "r.json")


def test_promote_and_trace_name_what_they_lack(
    project: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "params.yaml" in fails(capsys, "promote")
    shutil.copy(store, project / "mlflow.db")
    assert main(["preset", "shapes"]) == 0
    capsys.readouterr()
    assert "dvc repro" in fails(capsys, "promote")
    assert "--why" in fails(capsys, "promote", "3", "--force")
    assert "dvc repro" in fails(capsys, "models")
    assert "production" in fails(capsys, "rollback")
    assert "wssis-student" in fails(capsys, "trace", "models:/wssis-student@production")
    assert "models:/" in fails(capsys, "trace", "models/student")


def annotated(images: Path, names: tuple[str, ...]) -> dict[str, object]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 64, "width": 80}],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, 1)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[5, 5, 30, 5, 30, 30]]}
        ],
    }


def test_evaluate_writes_ap(project: Path, models: Path, images: Path) -> None:
    Path("truth.json").write_text(json.dumps(annotated(images, ("cat", "dog"))))
    words = ["--model", str(models / "teacher"), "--images", str(images), "--annotations", "truth.json"]
    assert main(["evaluate", *words, "--out", "m.json"]) == 0
    metrics = json.loads(Path("m.json").read_text())
    assert set(metrics) == {"AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"}
    assert 0 <= metrics["AP"] <= 1


def test_evaluate_refuses_other_classes(
    project: Path, models: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("truth.json").write_text(json.dumps(annotated(images, ("cat", "bird"))))
    words = ["--model", str(models / "teacher"), "--images", str(images), "--annotations", "truth.json"]
    line = fails(capsys, "evaluate", *words, "--out", "m.json")
    assert "truth.json" in line
    assert "bird" in line
    assert not Path("m.json").exists()
    assert "nothing.json" in fails(capsys, "evaluate", *words[:-1], "nothing.json", "--out", "m.json")


def test_the_dashboard_shows_the_storage_that_params_name(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.search import storage

    shown = []
    monkeypatch.setattr(storage, "serve_dashboard", lambda *given: shown.append(given))
    text = (ROOT / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("storage: null", "storage: deep/journal"))
    assert main(["tune", "--dashboard", "--port", "8099"]) == 0
    assert shown == [("deep/journal", 8099)]


def test_serve_names_what_it_cannot_use(
    project: Path, models: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(store, project / "mlflow.db")
    free = ["--port", "0"]
    assert "models/student" in fails(capsys, "serve", "--model", "models/student", *free)
    assert "models:/x@production" in fails(capsys, "serve", "--model", "models:/x@production", *free)
    assert "refiner" in fails(capsys, "serve", "--model", str(models / "refiner"), *free)
    assert "99999" in fails(capsys, "serve", "--model", str(models / "teacher"), "--port", "99999")


@pytest.mark.parametrize("command", [("ui",), ("tune", "--dashboard"), ("serve", "--model", "m")])
@pytest.mark.parametrize("number", ["65536", "-1", "x"])
def test_a_port_that_is_none_is_one_line(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...], number: str
) -> None:
    assert "--port" in fails(capsys, *command, "--port", number)
