"""`wssis check`: its screen, JSON, cleaned copy and exit codes."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli.main import main
from wssis.data.coco import load_coco

ROOT = Path(__file__).parents[3]


@pytest.fixture
def data(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `mine` with two images and faults, beside its images; the current folder is its parent."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(images, tmp_path / "mine/images")
    sizes = (("a.png", 80), ("b.png", 64))
    document = {
        "info": {"image_dir": "mine/images", "by": "me"},
        "images": [
            {"id": n, "file_name": name, "height": 64, "width": width}
            for n, (name, width) in enumerate(sizes, 1)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[9, 9, 30, 9, 30, 30, 9, 30]]},
            {"id": 2, "image_id": 1, "category_id": 7, "segmentation": [[40, 40, 60, 60, 60, 40, 40, 60]]},
            {"id": 3, "image_id": 2, "category_id": 3, "point": [65, 20]},
            {"id": 4, "image_id": 2, "category_id": 3, "point": [90, 20]},
            {"id": 5, "image_id": 2, "category_id": 7, "point": [20, 20]},
        ],
    }
    (tmp_path / "mine/instances.json").write_text(json.dumps(document))
    return tmp_path / "mine"


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    try:
        code = main(["check", *words])
    except SystemExit as leaving:
        code = leaving.code
    err = capsys.readouterr().err
    assert code == 2
    assert err.startswith("wssis: ")
    assert err.count("\n") == 1
    return err


def test_one_screen_and_everything_as_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    assert main(["check", "mine", "--json", "found.json"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 100
    assert "strong 1 · weak 1 · mixed 0 · empty 0" in out
    assert "2  points outside the image" in out
    assert "annotation 3 (b.png): expected a point in the image of 64 x 64 px, found (65, 20)" in out
    assert "polygons that cross themselves" in out
    assert "model.ranges hold  0-20: 0% · 14-40: 100% · 28-4096: 0% · none: 0 objects" in out
    found = json.loads(Path("found.json").read_text())
    assert found["counts"]["points_only"] == 1
    assert [item["name"] for item in found["classes"]] == ["cat", "dog"]
    assert found["sizes"]["levels"][1] == {"from": 14, "to": 40, "objects": 2}
    outside = next(item for item in found["problems"] if item["kind"] == "point-outside")
    assert (outside["severity"], outside["count"]) == ("error", 2)
    assert [item["record"] for item in outside["records"]] == ["annotation 3", "annotation 4"]


def test_the_cleaned_copy(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = digests(data)
    assert main(["check", "mine", "--fix", "clean", "--json", "found.json"]) == 0
    out = capsys.readouterr().out
    assert digests(data) == before
    assert "1  points outside the image: moved into the image" in out
    assert "1  points outside the image: removed" in out
    assert "Look at images that lost a label" in out
    copy = load_coco("clean/instances.json")
    assert [item.id for image in copy.images for item in image.annotations] == [1, 2, 3, 5]
    assert json.loads(Path("clean/instances.json").read_text())["info"] == {
        "image_dir": "mine/images",
        "by": "me",
    }
    listed = json.loads(Path("clean/changes.json").read_text())
    assert [item["record"] for item in listed["changes"]] == ["annotation 3", "annotation 4", "annotation 2"]
    assert json.loads(Path("found.json").read_text())["fixed"] == listed["changes"]
    capsys.readouterr()
    assert main(["check", "clean", "--strict"]) == 0
    assert "No problem was found." in capsys.readouterr().out
    # The copy is where it is, and never replaced.
    assert "expected a new folder" in refused(capsys, "mine", "--fix", "clean")


def test_exit_codes_and_one_line(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = digests(data)
    assert "2 errors" not in refused(capsys, "mine", "--fix", "mine")
    assert "expected no errors, found 2" in refused(capsys, "mine", "--strict")
    assert "instances.json" in refused(capsys, "mine/images")
    assert "none.json" in refused(capsys, "none.json")
    assert "DATA" in refused(capsys)
    assert "--near" in refused(capsys, "mine", "--near", "0")
    Path("cut.json").write_text('{"images": [')
    assert "line 1" in refused(capsys, "cut.json")
    Path("list.json").write_text("[]")
    assert "'images'" in refused(capsys, "list.json")
    Path("homeless.json").write_text('{"images": []}')
    assert "--images" in refused(capsys, "homeless.json")
    assert main(["check", "homeless.json", "--images", "mine/images"]) == 0
    assert digests(data) == before


def test_the_image_folder_is_found_beside_the_file(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    document = json.loads((data / "instances.json").read_text())
    document["info"]["image_dir"] = "images"
    (data / "instances.json").write_text(json.dumps(document))
    assert main(["check", "mine"]) == 0
    assert "is missing" not in capsys.readouterr().out


def test_a_teacher_is_asked_about_the_points(
    data: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = str(models / "teacher")
    assert main(["check", "mine", "--model", teacher, "--least-score", "1"]) == 0
    out = capsys.readouterr().out
    assert "1  points where the teacher sees no object" in out
    assert "annotation 5 (b.png): (20, 20): score" in out
    assert main(["check", "mine", "--model", teacher, "--least-score", "0.000000001"]) == 0
    assert "teacher sees no object" not in capsys.readouterr().out
    document = json.loads((data / "instances.json").read_text())
    document["categories"][1]["name"] = "emu"
    (data / "instances.json").write_text(json.dumps(document))
    assert "cat, emu" in refused(capsys, "mine", "--model", teacher)
    shutil.copytree(models, "models")  # the project's own is asked unless it cannot be
    assert main(["check", "mine"]) == 0
    assert "models/teacher was not asked" in capsys.readouterr().out


def test_of_many_kinds_each_has_its_line(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything is wrong at once, and still fits a screen."""
    document: dict[str, Any] = json.loads((data / "instances.json").read_text())
    labels = document["annotations"]
    more: list[dict[str, Any]] = [
        {"score": 7, "point": [30, 30]},
        {"segmentation": [[1, 1]]},
        {"segmentation": [[1, 1, 2, 2]], "point": [1e9, 1]},
        {"bbox": [1, 1, 5, 5]},
        {"segmentation": [[1, 1, 9, 1, 5, 1]]},
        {"point": [20, 21]},
        {"point": [5, 5], "segmentation": [[9, 9, 30, 9, 30, 30, 9, 30]], "id": 1},
        {"category_id": 99},
    ]
    labels += [{"id": 20 + n, "image_id": 2, "category_id": 7, **item} for n, item in enumerate(more)]
    document["categories"] += [{"id": 8, "name": "x" * 300}, {"id": 8, "name": "y"}]
    document["images"] += [{"id": 9, "file_name": "a.png", "height": 3, "width": 3}, {"id": 9}, {"id": 10}]
    document["images"] += [{"id": 11, "file_name": "é" * 300, "height": 3, "width": 3}]
    (data / "instances.json").write_text(json.dumps(document))
    assert main(["check", "mine", "--fix", "clean"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines[: lines.index(next(line for line in lines if "cleaned copy" in line))]) <= 45
    assert max(map(len, lines)) <= 100
    load_coco("clean/instances.json")
    assert main(["check", "clean", "--strict"]) == 0
