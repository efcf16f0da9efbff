"""A project as `dvc repro` leaves it, with networks that have hardly learnt."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines import paths
from pipelines.config.params import load_params, read_yaml, write_yaml
from pipelines.runner.run_stage import StageContext
from pipelines.stages.prepare import prepare
from pipelines.stages.pseudo import pseudo
from pipelines.stages.refiner import refiner
from pipelines.stages.rough import rough
from pipelines.stages.split import split
from pipelines.stages.train import teacher
from wssis.evaluation.coco_ap import AP_KEYS
from wssis.files import write_json

ROOT = Path(__file__).resolve().parents[2]


def tiny_params() -> dict[str, Any]:
    """params.yaml of the project, made to end within seconds."""
    params = read_yaml(ROOT / paths.PARAMS)
    params["data"]["shapes"] |= {"train": 10, "val": 3, "size": 64}
    params["split"] |= {"strong": 0.5, "holdout": 0.4}
    params["model"] |= {"pretrained": False, "fpn_channels": 16, "head_channels": 16, "mask_channels": 8}
    params["augment"] |= {"crop": 64}
    params["refiner"]["model"] |= {"pretrained": False, "width": 8, "crop": 32}
    params["tune_refiner"] |= {"use_tuned": False}
    params["tune_pseudo"] |= {"use_tuned": False}
    for section in ("teacher", "refiner", "student"):
        params[section]["train"] |= {"iterations": 2, "batch_size": 2, "warmup": 0, "workers": 0}
    return params


@pytest.fixture(scope="session")
def repro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outs of the stages before the student, and made-up metrics of those after."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        write_yaml(paths.PARAMS, tiny_params())
        for stage in (prepare, split, teacher, rough, refiner, pseudo):
            stage(StageContext(stage.__name__, load_params()))
        for path in (paths.METRICS_STRONG_ONLY, paths.METRICS_STUDENT):
            write_json(path, dict.fromkeys(AP_KEYS, 0.5))
    return folder


@pytest.fixture
def project(repro: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the current folder."""
    folder = tmp_path / "project"
    shutil.copytree(repro, folder)
    monkeypatch.chdir(folder)
    return folder
