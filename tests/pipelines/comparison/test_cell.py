"""Cells: the pipeline's own stages in a folder of their own, with the project's data and store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines import paths
from pipelines.comparison import cell
from pipelines.config.params import load_params, read_yaml
from wssis.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_cell_has_its_own_fraction_seed_and_lengths() -> None:
    values = read_yaml(ROOT / "params.yaml")
    values["compare"]["iterations"] = 200
    values["student"]["train"] |= {"iterations": 400, "warmup": 30}
    values["teacher"]["train"] |= {"iterations": 150, "warmup": 30}
    found = cell.cell_values(values, 0.05, 7)
    assert (found["seed"], found["split"]["strong"]) == (7, 0.05)
    assert (found["student"]["train"]["iterations"], found["student"]["train"]["warmup"]) == (200, 15)
    assert (found["teacher"]["train"]["iterations"], found["teacher"]["train"]["warmup"]) == (150, 30)
    assert values["student"]["train"]["iterations"] == 400  # the project's own stay
    values["compare"]["iterations"] = None
    assert cell.cell_values(values, 0.05, 7)["student"] == values["student"]


def test_a_stage_in_a_cell_finds_data_and_project(project: Path) -> None:
    prepared = project / paths.PREPARED_TRAIN
    prepared.parent.mkdir(parents=True)
    prepared.write_text("{}")
    for _ in range(2):  # a cell is entered by each of its stages
        cell.enter(0.1, 2)
        assert Path.cwd() == project / "compare/work/0.1-2"
        assert load_params().split.strong == 0.1
        assert paths.PREPARED_TRAIN.read_text() == "{}"
        assert paths.cell() == "0.1-2"
        assert paths.project_root() == paths.dvc_workspace() == project
        assert not paths.in_queued_experiment()
        assert paths.source("params.yaml") == Path("params.yaml")
        assert paths.source("images") == project / "images"
        os.chdir(project)
    assert paths.cell() == ""


def test_a_cell_in_a_queued_experiment_belongs_to_the_project(tmp_path: Path) -> None:
    queued = tmp_path / ".dvc/tmp/exps/tmp1"
    folder = queued / "compare/work/0.1-0"
    assert paths.dvc_workspace(folder) == queued
    assert paths.project_root(folder) == tmp_path
    assert paths.in_queued_experiment(folder)
    assert paths.cell(queued) == ""


def test_wrong_params_are_told_before_anything_is_made(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("iterations: null", "iterations: 0"))
    with pytest.raises(InputError, match=r"params\.yaml, compare\.iterations"):
        cell.enter(0.1, 0)
    assert not (project / "compare").exists()
    assert cell.main(["0.1", "0", "pipelines.stages.split"]) == 2


def test_fractions_seeds_and_rows_are_named_once(project: Path) -> None:
    text = (project / "params.yaml").read_text()
    for old, new in (
        ("[0.05, 0.1,", "[0.1, 0.1,"),
        ("seeds: [0]", "seeds: []"),
        ("[strong_only,", "[strong,"),
    ):
        (project / "params.yaml").write_text(text.replace(old, new, 1))
        with pytest.raises(InputError, match=r"params\.yaml"):
            load_params()


def test_a_wrong_call_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cell.main(["0.1"]) == 2
    assert cell.main(["much", "0", "pipelines.stages.split"]) == 2
    assert capsys.readouterr().err.count("usage: ") == 2
