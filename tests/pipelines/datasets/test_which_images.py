"""`wssis budget --which`: from the project's pseudo-labels, and one line without them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import paths
from pipelines.cli.main import main
from wssis.data.coco import load_coco, save_coco
from wssis.data.synthetic import generate
from wssis.files import write_json

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two drawn images; of the others one has doubtful labels, one good ones, one is drawn by a person."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    data, _ = generate("data/scenes", seed=0, n_train=7, n_val=1, size=48)
    images = [image for image in data.images if image.annotations]
    save_coco(replace(data, images=tuple(images[:1])), paths.STRONG)
    save_coco(replace(data, images=tuple(images[1:2])), paths.HOLDOUT)
    extras = ({"quality": 0.2}, {"quality": 0.9}, {"drawn": True})
    weak = [
        replace(image, annotations=(replace(image.annotations[0], extra=extra),))
        for image, extra in zip(images[2:], extras, strict=False)
    ]
    save_coco(replace(data, images=tuple(weak)), paths.LABELS)
    return tmp_path


def test_doubtful_images_first_and_drawn_ones_never(project: Path, capsys) -> None:
    assert main(["budget", "--which", "5", "--json", "which.json"]) == 0
    rows = json.loads(Path("which.json").read_text())["which"]
    doubtful, good, _ = load_coco(paths.LABELS).images
    assert [row["image_id"] for row in rows] == [doubtful.id, good.id]
    assert rows[0]["objects"] == 1
    assert rows[0]["quality"] == 0.2
    assert rows[0]["hours"] == pytest.approx(79.2 / 3600, abs=1e-4)
    text = capsys.readouterr().out
    assert "Draw these first (2 images, 0.0 h):" in text
    assert doubtful.file_name in text


def test_images_without_labels_are_candidates(project: Path, capsys) -> None:
    scenes = load_coco("data/scenes/train.json")
    unlabeled = replace(scenes.images[-1], annotations=())
    save_coco(replace(scenes, images=(*scenes.images[:-1], unlabeled)), paths.PREPARED_TRAIN)
    write_json(paths.LEDGER, {"unlabelled": [unlabeled.id]})
    assert main(["budget", "--which", "5", "--json", "which.json"]) == 0
    rows = {row["image_id"]: row for row in json.loads(Path("which.json").read_text())["which"]}
    assert len(rows) == 3
    assert rows[unlabeled.id]["objects"] is None
    assert f"{unlabeled.file_name}: not labeled yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "expected --hours or --which"),
        (["--which", "3"], "labels.json: does not exist. Run `dvc repro pseudo`"),
    ],
)
def test_what_is_missing_is_one_line(tmp_path, monkeypatch, capsys, words: list[str], line: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert main(["budget", *words]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
