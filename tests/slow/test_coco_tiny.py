"""Real COCO images from their annotation file to a trained teacher, by the commands that a person uses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from pipelines import paths
from pipelines.cli.main import main
from pipelines.config.params import load_params, read_yaml, write_yaml
from pipelines.runner.run_stage import StageContext
from pipelines.stages.prepare import prepare
from pipelines.stages.split import split
from pipelines.stages.train import teacher
from wssis.data.coco import load_coco

ROOT = Path(__file__).resolve().parents[2]
TINY = Path(os.environ.get("WSSIS_SHARED", ROOT.parent / "shared")).resolve() / "data/coco-tiny"


@pytest.mark.slow
@pytest.mark.skipif(not TINY.is_dir(), reason=f"no {TINY}")
def test_coco_tiny_is_imported_checked_split_and_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / paths.PRESETS, paths.PRESETS)

    def source(part: str) -> list[str]:
        folder = str(TINY / f"{part}2017")
        return [str(TINY / f"annotations/instances_{part}2017.json"), "--images", folder]

    # Not every class is seen in 50 images.
    names = json.loads((TINY / "annotations/instances_train2017.json").read_text())["categories"]
    Path("classes.txt").write_text("".join(f"{item['name']}\n" for item in names))
    for part, folder in (("train", "data/mine"), ("val", "data/yours")):
        assert main(["import", "coco", *source(part), "--classes", "classes.txt", "--out", folder]) == 0
    assert main(["preset", "mine", "--data", "data/mine", "--val", "data/yours"]) == 0
    assert main(["check", "data/mine", "--json", "check.json"]) == 0
    assert "50" in capsys.readouterr().out
    values = read_yaml(paths.PARAMS)
    values["split"]["strong"] = 0.4
    values["model"] |= {"pretrained": False, "frozen_stages": 4}
    values["model"] |= {"fpn_channels": 16, "head_channels": 16, "head_depth": 1, "mask_channels": 8}
    values["resize"]["scale"] = 0.5
    values["augment"]["crop"] = 96
    values["teacher"]["train"] |= {"iterations": 4, "batch_size": 2, "warmup": 0, "workers": 0}
    write_yaml(paths.PARAMS, values)
    for stage in (prepare, split, teacher):
        stage(StageContext(stage.__name__, load_params()))
    given = load_coco(paths.PREPARED_TRAIN)
    assert (len(given.images), given.num_classes) == (50, 80)
    parts = [load_coco(path) for path in (paths.STRONG, paths.HOLDOUT, paths.POINTS)]
    assert [len(part.images) for part in parts] == [16, 4, 30]
    without = len(json.loads(paths.LEDGER.read_text())["without_point"])
    assert sum(part.num_objects for part in parts) + without == given.num_objects
    assert all(item.point for part in parts for image in part.images for item in image.objects)
    assert (paths.TEACHER / "weights.safetensors").stat().st_size > 1e5
    assert main(["budget", "--hours", "1"]) == 0
    assert "With 1 h: " in capsys.readouterr().out
