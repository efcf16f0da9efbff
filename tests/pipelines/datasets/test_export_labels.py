"""`wssis export-labels`: the worst first, nothing lost, nobody's corrections overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import paths
from pipelines.cli.main import main
from pipelines.datasets.export_labels import worst_first
from wssis.data import rle as rle_api
from wssis.data.coco import load_coco, save_coco
from wssis.data.records import Annotation, Category, CocoData, ImageRecord


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CocoData:
    """Three images: good, empty, and bad with an ignored point."""
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((1, 20, 30), dtype=bool)
    mask[0, 4:9, 4:9] = True
    rle = rle_api.encode(mask)[0]

    def label(number: int, quality: float, **extra: bool) -> Annotation:
        return Annotation(number, 0, rle, (6.0, 6.0), extra={"confidence": 0.9, "quality": quality, **extra})

    images = (
        ImageRecord(1, "good.png", 20, 30, (label(1, 0.95), label(2, 0.85))),
        ImageRecord(2, "empty.png", 20, 30),
        ImageRecord(3, "bad.png", 20, 30, (label(3, 0.9), label(4, 0.3), label(5, 0.6, ignore=True))),
    )
    for image in images:
        path = tmp_path / "images" / image.file_name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path)
    data = CocoData((Category(1, "cell"),), images, "images")
    save_coco(data, paths.LABELS)
    return data


def test_the_worst_image_and_in_it_the_worst_label_come_first(labels: CocoData) -> None:
    found = worst_first(labels)
    assert [image.file_name for image in found.images] == ["bad.png", "good.png", "empty.png"]
    bad = found.images[0].annotations
    assert [(i.id, i.rle is None, i.point, i.score) for i in bad] == [
        (5, True, (6.0, 6.0), 0.0),
        (4, False, (6.0, 6.0), 0.3),
        (3, False, (6.0, 6.0), 0.9),
    ]
    assert [image.id for image in worst_first(labels, 1).images] == [3]


@pytest.mark.parametrize("kind", ["coco", "cvat", "labelstudio", "labelme"])
def test_every_format_is_written_once(
    kind: str, labels: CocoData, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["export-labels", "--format", kind, "--out", "out/labels", "--worst", "2", "--images", "copies"]
    assert main(call) == 0
    said = capsys.readouterr().out
    assert "2 images, 4 masks, 1 point without" in said
    assert "bad.png 0.40" in said
    assert {path.name for path in Path("copies").iterdir()} == {"good.png", "bad.png"}
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert before
    assert main(call) == 2
    assert "corrections" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_labels_of_an_older_run_go_by_their_confidence(labels: CocoData) -> None:
    document = json.loads(paths.LABELS.read_text())
    for item in document["annotations"]:
        del item["quality"]
    paths.LABELS.write_text(json.dumps(document))
    assert {i.score for image in worst_first(load_coco(paths.LABELS)).images for i in image.annotations} == {
        0.0,
        0.9,
    }


def test_a_wrong_call_writes_nothing(
    labels: CocoData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("images/bad.png").unlink()
    assert main(["export-labels", "--format", "coco", "--out", "a.json", "--images", "copies"]) == 2
    assert "bad.png" in capsys.readouterr().err
    assert main(["export-labels", "--format", "coco", "--out", "a.json", "--worst", "0"]) == 2
    paths.LABELS.unlink()
    assert main(["export-labels", "--format", "coco", "--out", "a.json"]) == 2
    assert "dvc repro pseudo" in capsys.readouterr().err
    assert not Path("a.json").exists()
