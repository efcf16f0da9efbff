"""`wssis import` and `wssis preset --data`: from annotation files to params that the pipeline runs with."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.cli.main import main
from pipelines.config.params import load_params
from pipelines.runner.run_stage import StageContext
from pipelines.stages.prepare import prepare
from pipelines.stages.split import split
from tests.wssis.formats.seeds import BITMASK, SEEDS, lay_out, picture
from wssis.data.coco import load_coco
from wssis.errors import InputError
from wssis.formats.readers import READERS

ROOT = Path(__file__).parents[3]
SHARED_TINY = ROOT.parent / "shared/data/coco-tiny"


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The line of a call that must end with 2 and say so in one line."""
    try:
        code = main(words)
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    captured = capsys.readouterr()
    assert code == 2
    assert captured.err.startswith("wssis: ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    return captured.err


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """12 images, 6 of them drawn in drawn.json, 5 clicked in clicks.csv, one both."""
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for number in range(12):
        Image.new("RGB", (60, 40)).save(tmp_path / "pictures" / f"{number}.png")
    square = [10, 10, 20, 10, 20, 20, 10, 20]
    document = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 60} for n in range(7)],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "segmentation": [square]} for n in range(7)
        ],
    }
    (tmp_path / "drawn.json").write_text(json.dumps(document))
    (tmp_path / "clicks.csv").write_text(
        "file,x,y,class\n" + "".join(f"{n}.png,{n},30,cell\n" for n in range(6, 12)) + "6.png,11,11,cell\n"
    )
    return tmp_path


def imported(*words: str) -> None:
    assert main(["import", *words, "--images", "pictures"]) == 0


def test_masks_and_clicks_make_one_data_set_that_the_pipeline_reads(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported("csv", "clicks.csv", "--out", "data/clicks")
    assert "0 strong, 6 weak, 0 mixed, 0 empty" in capsys.readouterr().out
    imported("coco", "drawn.json", "data/clicks/instances.json", "--out", "data/mine")
    out = capsys.readouterr().out
    assert "data/mine/instances.json: 12 images, 6 strong, 5 weak, 1 mixed, 0 empty" in out
    assert "labels: 7 masks, 6 points, 0 boxes, 0 regions" in out
    assert "1 class: cell 13" in out
    assert "became its point: 1 (6.png)" in out
    note = json.loads((project / "data/mine/source.json").read_text())
    assert [len(source["sha256"]) for source in note["sources"]] == [64, 64]
    assert note["counts"]["images"]["mixed"] == 1
    assert (note["format"], note["images"]) == ("coco", "pictures")
    assert (project / "data/mine/classes.txt").read_text() == "cell\n"
    data = load_coco(project / "data/mine/instances.json")
    assert data.by_id[7].annotations[0].point == (11, 11)

    assert main(["preset", "mine", "--data", "data/mine"]) == 0
    text = (project / "params.yaml").read_text()
    assert "# share of those on which choices are made" in text
    params = load_params("params.yaml")
    assert (params.split.strong, params.tracking.experiment) == (1.0, "mine")
    val = load_coco(project / "data/mine/val.json")
    assert all(image.strong and image.objects for image in val.images)
    for stage in (prepare, split):
        stage(StageContext(stage.__name__, params))
    parts = [load_coco(f"data/splits/{name}.json") for name in ("strong", "holdout", "points")]
    assert [len(part.images) for part in parts] == [4, 1, 6]
    names = [image.file_name for part in (*parts, val) for image in part.images]
    assert sorted(names) == sorted(f"{n}.png" for n in range(12))
    assert sum(len(image.annotations) for image in parts[2].images) == 7


def test_an_import_that_params_cannot_follow_writes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported("coco", "drawn.json", "--out", "data/mine")
    assert main(["preset", "mine", "--data", "data/mine"]) == 0
    capsys.readouterr()
    again = ("import", "csv", "clicks.csv", "--images", "pictures", "--out", "data/mine", "--force")

    def everything() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in project.rglob("*") if path.is_file()}

    before = everything()
    # Nothing would be left to report on.
    assert "data/mine/instances.json: expected at least 3 images with masks" in fails(capsys, *again)
    assert everything() == before
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("source: coco", "source: cocos"))
    before = everything()
    assert "params.yaml, data.source" in fails(capsys, *again)
    corrected = ("import", "coco", "drawn.json", "--images", "pictures", "--into", "data/mine")
    assert "params.yaml, data.source" in fails(capsys, *corrected)
    assert everything() == before


def test_what_stages_write_is_no_place_for_ones_own(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "dvc.yaml", project)
    (project / "data/prepared").mkdir(parents=True)
    shutil.copytree(project / "pictures", project / "data/prepared/train")
    (project / "link").symlink_to("data/prepared/train")
    for images, out, words in (
        (
            "data/prepared/train",
            "data/mine",
            "--images data/prepared/train: data/prepared is managed by the pipeline",
        ),
        ("link", "data/mine", "--images link"),
        ("pictures", "data/prepared", "--out data/prepared"),
        ("pictures", "data/splits/mine", "--out data/splits/mine"),
        ("pictures", str(project / "models/mine"), "--out .*/models/mine"),
        ("pictures", "report", "--out report"),
    ):
        line = fails(capsys, "import", "coco", "drawn.json", "--images", images, "--out", out)
        assert re.search(words, line), line
    assert not (project / "data/mine").exists()
    imported("coco", "drawn.json", "--out", "data/mine")
    into = ("import", "coco", "drawn.json", "--images", "link", "--into", "data/mine")
    capsys.readouterr()
    assert "--images link" in fails(capsys, *into)
    assert "--fix data/splits" in fails(capsys, "check", "data/mine", "--fix", "data/splits")
    assert "--out plots/x.xml" in fails(capsys, "export-labels", "--format", "cvat", "--out", "plots/x.xml")


def test_corrected_labels_make_images_strong_and_leave_the_rest(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported("csv", "clicks.csv", "--out", "data/clicks")
    imported("coco", "drawn.json", "data/clicks/instances.json", "--out", "data/mine")
    assert main(["preset", "mine", "--data", "data/mine"]) == 0
    params = load_params("params.yaml")
    for stage in (prepare, split):
        stage(StageContext(stage.__name__, params))
    before = {name: load_coco(f"data/splits/{name}.json") for name in ("strong", "holdout", "points")}
    val = (project / "data/mine/val.json").read_bytes()
    document = json.loads((project / "drawn.json").read_text())
    document["images"] = [{"id": n, "file_name": f"{n}.png", "height": 40, "width": 60} for n in (8, 9)]
    square = [5, 25, 15, 25, 15, 35, 5, 35]
    document["annotations"] = [
        {"id": n, "image_id": n, "category_id": 1, "segmentation": [square]} for n in (8, 9)
    ]
    (project / "corrected.json").write_text(json.dumps(document))
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("holdout: 0.2 ", "holdout: 0.25"))
    capsys.readouterr()

    assert main(["import", "coco", "corrected.json", "--into", "data/mine"]) == 0
    out = capsys.readouterr().out
    assert "12 images, 8 strong, 3 weak, 1 mixed, 0 empty" in out
    assert "2 images corrected now; 2 corrected ones are fully drawn, and strong" in out
    now = load_params("params.yaml")
    assert now.data.train != params.data.train  # so that DVC runs prepare again
    assert (now.data.val, now.split.holdout) == (params.data.val, 0.25)
    assert (project / "data/mine/val.json").read_bytes() == val
    note = json.loads((project / "data/mine/source.json").read_text())
    assert [item["sources"][0]["path"] for item in note["corrections"]] == ["corrected.json"]
    with pytest.raises(InputError, match=r"data\.train\.sha256"):
        prepare(StageContext("prepare", params))
    for stage in (prepare, split):
        stage(StageContext(stage.__name__, params.model_copy(update={"data": now.data})))
    after = {name: load_coco(f"data/splits/{name}.json") for name in before}
    assert after["holdout"].images == before["holdout"].images
    assert {image.file_name for image in after["strong"].images} == {
        *(image.file_name for image in before["strong"].images),
        *("8.png", "9.png"),
    }
    left = [image for image in before["points"].images if image.file_name not in ("8.png", "9.png")]
    assert list(after["points"].images) == left

    capsys.readouterr()
    assert "--out first" in fails(capsys, "import", "coco", "drawn.json", "--into", "data/none")
    shutil.copy(project / "pictures/0.png", project / "pictures/new.png")
    document["images"][0]["file_name"] = "new.png"
    (project / "corrected.json").write_text(json.dumps(document))
    before_bytes = (project / "data/mine/instances.json").read_bytes()
    assert "new.png" in fails(capsys, "import", "coco", "corrected.json", "--into", "data/mine")
    assert (project / "data/mine/instances.json").read_bytes() == before_bytes


def test_other_images_may_be_the_validation_set(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imported("coco", "drawn.json", "--out", "data/mine")
    (project / "classes.txt").write_text("other\ncell\n")
    imported("coco", "drawn.json", "--out", "data/wrong", "--classes", "classes.txt")
    imported("coco", "drawn.json", "--out", "data/val", "--classes", "data/mine/classes.txt")
    capsys.readouterr()
    line = fails(capsys, "preset", "mine", "--data", "data/mine", "--val", "data/wrong")
    assert "--classes data/mine/classes.txt" in line
    assert main(["preset", "nuclei", "--data", "data/mine", "--val", "data/val"]) == 0
    assert "every image is drawn" in capsys.readouterr().out
    data, strong = load_params("params.yaml").data, load_params("params.yaml").split.strong
    assert data.train is not None
    assert data.val is not None
    assert (data.train.annotations, data.val.annotations, strong) == (
        "data/mine/instances.json",
        "data/val/instances.json",
        0.5,
    )

    document = json.loads((project / "drawn.json").read_text())
    document["annotations"].pop()
    (project / "fewer.json").write_text(json.dumps(document))
    again = ("coco", "fewer.json", "--out", "data/val", "--force")
    imported(*again, "--classes", "data/mine/classes.txt")
    now = load_params("params.yaml").data
    assert now.val is not None
    assert now.train == data.train
    assert (now.val.annotations, now.val.sha256 != data.val.sha256) == (data.val.annotations, True)
    kept = (project / "data/val/instances.json").read_bytes()
    capsys.readouterr()
    line = fails(capsys, "import", *again, "--images", "pictures", "--classes", "classes.txt")
    assert "--classes data/mine/classes.txt" in line
    assert (project / "data/val/instances.json").read_bytes() == kept


def test_nothing_is_overwritten_or_half_written(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ("import", "csv", "clicks.csv", "--images", "pictures", "--out", "data/mine")
    (project / "pictures/11.png").rename(project / "pictures/other.png")
    line = fails(capsys, *call)
    assert "clicks.csv, line 7: expected the image '11.png', found none in pictures" in line
    assert not (project / "data").exists()
    (project / "pictures/other.png").rename(project / "pictures/11.png")
    assert main(call) == 0
    before = (project / "data/mine/instances.json").read_bytes()
    capsys.readouterr()
    assert "--force" in fails(capsys, *call)
    (project / "clicks.csv").write_text("file,x,y,class\n1.png,1,1,cell\n")
    assert (project / "data/mine/instances.json").read_bytes() == before
    assert main([*call, "--force"]) == 0
    assert len(load_coco("data/mine/instances.json").images) == 1
    assert not list(project.glob("**/.wssis-import-*"))


def test_wrong_calls_are_one_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = ("clicks.csv", "--out", "data/mine", "--images", "pictures")
    assert "coco, " in fails(capsys, "import", "yolo", *rest)
    assert "SOURCE" in fails(capsys, "import", "csv", "--out", "x")
    assert "--out" in fails(capsys, "import", "csv", "clicks.csv")
    assert "none.csv" in fails(capsys, "import", "csv", "none.csv", *rest)
    assert "once" in fails(capsys, "import", "csv", "./clicks.csv", *rest)
    assert "clicks.csv: expected JSON" in fails(capsys, "import", "coco", *rest)
    assert "--images" in fails(capsys, "import", "csv", *rest[:3])
    assert "none.txt" in fails(capsys, "import", "csv", *rest, "--classes", "none.txt")
    assert "--points" in fails(capsys, "import", "csv", *rest, "--points", "few")
    assert "nowhere" in fails(capsys, "import", "csv", *rest[:3], "--images", "nowhere")
    assert "wssis import" in fails(capsys, "preset", "mine", "--data", "data/mine")
    assert "--val" in fails(capsys, "preset", "mine", "--val", "data/mine")
    imported("csv", "clicks.csv", "--out", "data/mine")
    capsys.readouterr()
    assert "at least 3 images" in fails(capsys, "preset", "mine", "--data", "data/mine")
    assert not (project / "params.yaml").exists()


# a seed, what of it becomes what (all of it where that is None), and what is said of it
MALFORMED: dict[str, tuple[bytes | None, bytes, str]] = {
    "bdd100k": (None, picture(BITMASK + np.uint8(11)), "a.png, instance 2827: expected a category (red)"),
    "bdd100k scalabel": (b'"x2": 2', b'"x2": -2', "a.json, frame 0, label 1: expected a box2d"),
    "coco": (b"[0, 0, 2, 0, 2, 2.5", b'["0", 0, 2, 0, 2, 2.5', "a.json, annotation 82445: expected polygons"),
    "coco-keypoints": (
        b"[1, 1, 2, 2, 2, 1",
        b"[1, 1, 3, 2, 2, 1",
        "a.json, annotation 50: expected v of",
    ),
    "csv": (b"3,4,dog", b"3,,dog", "a.csv, line 4: expected 'y' as a number"),
    "cvat": (b"1.5,2.00;", b"1.5;", "a.xml, line 6, points of image 'a/b.png': expected"),
    "datumaro": (
        b"[0, 0, 2, 0, 2, 2, 0, 2]",
        b"[0, 0, 2, 0, 2]",
        "a.json, item 'sub/a', annotation 0: expected",
    ),
    "dsb2018": (None, picture(np.ones((2, 5), np.uint8)), "a/masks, 0.png: expected the size of"),
    "imagej": (b"3;3;4;0", b"3;x;4;0", "a.csv, line 3: expected 'x' as a number, found 'x'"),
    "labelimage": (None, picture(BITMASK), "a_masks.png: expected a label image of one channel, found 4"),
    "labelme": (b"[[0, 0], [4, 0], [4, 3]]", b"[[0, 0], [4, 0]]", "a.json, shape 0: expected"),
    "labelstudio": (
        b'"x": 50, "y": 25',
        b'"x": "50", "y": 25',
        "a.json, task 7, annotation 1, result 0: expected",
    ),
    "napari": (b"1.5", b"here", "a.csv, line 2: expected 'axis-1' as a number, found 'here'"),
    "pointsup": (b"[1, 0, 1]", b"[1, 0, 2]", "a.json, annotation 50: expected point_labels of 0 or 1"),
    "qupath": (b"[1, 2]", b'[1, "2"]', "a.geojson, feature 1: expected 'coordinates' as a number"),
}


def test_a_malformed_file_of_every_format_is_at_hand() -> None:
    assert {SEEDS[name].kind for name in MALFORMED} == set(READERS)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_one_line_with_file_and_record(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    good = SEEDS[name]
    path, source, _ = lay_out(good, Path("."))
    call = ("import", good.kind, str(source), "--images", "images", "--out")
    assert main([*call, "good"]) == 0
    old, new, words = MALFORMED[name]
    path.write_bytes(new if old is None else good.data.replace(old, new))
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert f"wssis: source/{words}" in fails(capsys, *call, "data/mine")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(not SHARED_TINY.is_dir(), reason="needs ../shared/data/coco-tiny")
def test_real_coco_comes_through_as_it_is(tmp_path: Path) -> None:
    file = SHARED_TINY / "annotations/instances_train2017.json"
    pictures = SHARED_TINY / "train2017"
    assert main(["import", "coco", str(file), "--images", str(pictures), "--out", str(tmp_path / "x")]) == 0
    ours, theirs = load_coco(tmp_path / "x/instances.json"), load_coco(file, pictures)
    for mine, original in zip(ours.images, theirs.images, strict=True):
        assert (mine.file_name, mine.size) == (original.file_name, original.size)
        for one, other in zip(mine.annotations, original.annotations, strict=True):
            assert one.rle == other.rle
            assert one.crowd == other.crowd
            assert ours.class_names[one.label] == theirs.class_names[other.label]
    assert np.isclose(ours.num_objects, theirs.num_objects)
