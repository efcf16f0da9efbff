"""A cell of tiny scenes, with networks that have hardly learnt, labeled in every way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines import paths
from pipelines.comparison import cell, given_labels, point_labels, predicted
from pipelines.comparison.rows import ROWS
from pipelines.config.params import load_params, read_yaml, write_yaml
from pipelines.runner.run_stage import StageContext
from pipelines.stages.prepare import prepare
from pipelines.stages.refiner import refiner
from pipelines.stages.rough import rough
from pipelines.stages.train import teacher
from pipelines.stages.tune_pseudo import tune_pseudo
from pipelines.stages.tune_refiner import tune_refiner

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def labeled_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose cell 0.5-3 has all labels; students are not trained."""
    params = read_yaml(ROOT / paths.PARAMS)
    params["data"]["shapes"] |= {"train": 10, "val": 3, "size": 64}
    params["split"] |= {"strong": 0.9, "holdout": 0.4}
    params["model"] |= {"pretrained": False, "fpn_channels": 16, "head_channels": 16, "mask_channels": 8}
    params["augment"] |= {"crop": 64}
    params["refiner"]["model"] |= {"pretrained": False, "width": 8, "crop": 32}
    params["tune_pseudo"] |= {"n_trials": 2}
    params["compare"] |= {"fractions": [0.5], "seeds": [3], "iterations": 2, "rows": list(ROWS)}
    for section in ("teacher", "refiner", "student"):
        params[section]["train"] |= {"batch_size": 2}
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        write_yaml(paths.PARAMS, params)
        shutil.copy(ROOT / paths.DVC_YAML, ".")
        prepare(StageContext("prepare", load_params()))
        cell.enter(0.5, 3)
        here = StageContext("test", load_params())
        for work in (given_labels.split, teacher, rough, tune_refiner, refiner, tune_pseudo):
            work(here)
        for work in (
            predicted.label_by_predictions,
            point_labels.prompted,
            point_labels.refined,
            point_labels.ours,
            point_labels.parts,
        ):
            work(here)
        given_labels.oracle(here)
    return folder


@pytest.fixture
def project(labeled_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the current folder."""
    folder = tmp_path / "project"
    shutil.copytree(labeled_project, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder
