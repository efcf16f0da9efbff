"""tune_refiner, tune_pseudo and `wssis tune`, on a project with networks that learnt nothing."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines import paths
from pipelines.config.params import (
    load_params,
    parse,
    read_yaml,
    refiner_in_force,
    rules_in_force,
    write_yaml,
)
from pipelines.config.schema import Params
from pipelines.runner.run_stage import StageContext, exit_code
from pipelines.search import workers
from pipelines.search.refiner_objective import Trainings, applied, space_of, values_of
from pipelines.search.rules_objective import Rules
from pipelines.stages.tune_pseudo import tune_pseudo
from pipelines.stages.tune_refiner import tune_refiner
from wssis.data import rle as rle_api
from wssis.data.coco import Annotation, Category, CocoData, ImageRecord, save_coco
from wssis.errors import InputError

ROOT = Path(__file__).parents[3]
SMALL = {
    "refiner": {
        "model": {"pretrained": False, "width": 8, "crop": 32},
        "train": {"batch_size": 2, "warmup": 0},
        "crops": 2,
    },
    "tune_refiner": {"iterations": 4},
}


def merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for name, change in changes.items():
        if isinstance(change, dict):
            merge(values[name], change)
        else:
            values[name] = change


def stage(name: str, **changes: dict[str, Any]) -> StageContext:
    """A stage with small params, which are also those of the workspace, and without tracking."""
    values = read_yaml(ROOT / "params.yaml")
    merge(values, SMALL)
    merge(values, changes)
    write_yaml(paths.PARAMS, values)
    return StageContext(name, parse(values, Params, "params.yaml"))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(workspace: Path, models: Path, images: Path) -> Path:
    """What the stages read: two images with three objects, strong and held out, and untrained networks."""

    def thing(number: int, label: int, size: tuple[int, int], top: int, left: int) -> Annotation:
        mask = torch.zeros(size, dtype=torch.bool)
        mask[top : top + 20, left : left + 16] = True
        return Annotation(number, label, rle_api.encode(mask[None])[0], (left + 8.0, top + 10.0))

    a, b = (64, 80), (64, 64)
    records = (
        ImageRecord(1, "a.png", *a, (thing(1, 0, a, 5, 5), thing(2, 1, a, 30, 50))),
        ImageRecord(2, "b.png", *b, (thing(3, 1, b, 20, 20),)),
    )
    data = CocoData((Category(3, "cat"), Category(7, "dog")), records, str(images))
    for path in (paths.STRONG, paths.HOLDOUT, paths.ROUGH_EARLY, paths.ROUGH_LATE):
        save_coco(data, path)
    paths.PREPARED_TRAIN_IMAGES.mkdir(parents=True)
    for name in ("teacher", "refiner"):
        shutil.copytree(models / name, workspace / "models" / name)
    shutil.copy(ROOT / "dvc.yaml", workspace)
    return workspace


def table(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_no_trial_writes_the_defaults_and_reads_nothing(workspace: Path) -> None:
    here = stage("tune_refiner", tune_refiner={"n_trials": 0}, tune_pseudo={"n_trials": 0})
    tune_refiner(here)
    tune_pseudo(here)
    assert refiner_in_force(here.params) == here.params.refiner
    assert rules_in_force(here.params) == here.params.pseudo
    assert len(table(paths.PLOT_TUNE_REFINER)) == len(table(paths.PLOT_TUNE_PSEUDO)) == 1
    assert not (workspace / ".scratch").exists()


def test_no_trial_loads_neither_torch_nor_optuna(workspace: Path) -> None:
    script = (
        "import sys\nfrom pipelines.stages import tune_pseudo, tune_refiner\n"
        "from pipelines.config.params import load_params\n"
        "from pipelines.runner.run_stage import StageContext\n"
        "for stage in (tune_refiner.tune_refiner, tune_pseudo.tune_pseudo):\n"
        "    stage(StageContext('a', load_params()))\n"
        "print(sorted({'torch', 'optuna'} & set(sys.modules)))\n"
    )
    stage("tune_refiner", tune_refiner={"n_trials": 0}, tune_pseudo={"n_trials": 0})
    words = [sys.executable, "-c", script]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"


def test_tuned_settings_hold_only_where_params_say_so(workspace: Path) -> None:
    here = stage("refiner")
    section = here.params.refiner
    tuned = section.model_copy(update={"dice_share": 0.9})
    write_yaml(paths.TUNED_REFINER, {"refiner": tuned.model_dump(mode="json")})
    assert refiner_in_force(here.params) == tuned
    assert refiner_in_force(stage("refiner", tune_refiner={"use_tuned": False}).params) == section


def test_rules_are_searched_once_for_the_same_checkpoint(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = stage("tune_pseudo", tune_pseudo={"n_trials": 3})
    tune_pseudo(here)
    rows = table(paths.PLOT_TUNE_PSEUDO)
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["mask_threshold"]) == here.params.pseudo.mask_threshold
    first = paths.TUNED_PSEUDO.read_bytes()
    assert rules_in_force(here.params)  # is valid
    assert "worth of a label" in capsys.readouterr().out
    assert not list((project / "tuned").glob(".*"))  # no temporary file

    def again(self: Rules, values: object, report: object) -> float:
        raise KeyError("run again")

    monkeypatch.setattr(Rules, "objective", again)
    tune_pseudo(here)
    assert paths.TUNED_PSEUDO.read_bytes() == first
    with open(project / "models/teacher/model.json", "a") as file:
        file.write("\n")
    with pytest.raises(KeyError, match="run again"):
        tune_pseudo(here)


def test_rules_found_by_chance_are_not_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = stage("tune_pseudo", tune_pseudo={"n_trials": 3})
    luck = iter((0.1, 0.5, 0.2))
    monkeypatch.setattr(Rules, "objective", lambda self, values, report: next(luck))
    rises = torch.tensor([[0.3], [-0.3], [0.1]])
    monkeypatch.setattr(
        Rules, "worths", lambda self, rules: list(rises if rules != here.params.pseudo else 0 * rises)
    )
    tune_pseudo(here)
    assert rules_in_force(here.params) == here.params.pseudo
    rises += 1
    tune_pseudo(here)
    assert rules_in_force(here.params) != here.params.pseudo


def test_trials_train_and_report_and_the_best_must_win_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, asked = stage("tune_refiner", tune_refiner={"n_trials": 2}), []
    monkeypatch.setattr(Trainings, "beat_the_defaults", lambda self, v: asked.append(v) or (True, 0.1))
    tune_refiner(here)
    rows = table(paths.PLOT_TUNE_REFINER)
    assert [float(rows[0][name]) for name in values_of(here.params.refiner)] == list(
        values_of(here.params.refiner).values()
    )
    won = float(rows[1]["value"]) > float(rows[0]["value"]) and rows[1]["pruned"] == "0"
    assert len(asked) == won
    found = refiner_in_force(here.params)
    assert (found != here.params.refiner) == won
    tune_refiner(here)  # nothing is trained or asked again
    assert len(asked) == won


def trainings(here: StageContext) -> Trainings:
    from pipelines.stages import tune_refiner as module

    return module.trainings(here)


def test_a_training_is_looked_at_on_its_way(project: Path) -> None:
    made, told = trainings(stage("tune_refiner")), []

    def report(step: int, value: float, pairs: Any = (), last: bool = False) -> None:
        told.append((step, value, len(pairs), last))

    values = values_of(made.section)
    worth = made.objective(values, report)
    assert [(step, count, last) for step, _, count, last in told] == [
        (1, 3, False),
        (2, 3, False),
        (3, 3, False),
        (4, 3, True),
    ]
    assert worth == told[-1][1]
    assert made.objective(values, lambda *_, **__: None) == worth  # one seed, one worth
    ious = torch.cat(made.ious(made.train(values, made.seed)))
    assert float(ious.mean()) == worth


def test_the_best_must_beat_the_defaults_with_other_seeds(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainings(stage("tune_refiner"))
    defaults, seeds = values_of(made.section), []
    better = {**defaults, "width": 16}

    def train(values: dict[str, Any], seed: int, look: object = None) -> tuple[bool, int]:
        seeds.append(seed)
        return values == better, seed

    rises = {1: torch.tensor([0.1, 0.1, 0.12, 0.1]), 2: torch.tensor([0.1, 0.12, 0.1, 0.1])}
    monkeypatch.setattr(made, "train", train)
    monkeypatch.setattr(made, "ious", lambda model: list((0.5 + model[0] * rises[model[1]])[:, None]))
    assert made.beat_the_defaults(better)[0]
    assert set(seeds) == {1, 2}  # the search has used 0
    rises[2] = torch.tensor([-0.5, 0.3, 0.1, -0.2])
    assert not made.beat_the_defaults(better)[0]


def test_a_training_that_diverges_is_a_pruned_trial(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.search.study import Pruned
    from wssis.training.trainer import NonFiniteLoss

    made = trainings(stage("tune_refiner"))

    def diverge(*_: object) -> None:
        raise NonFiniteLoss(3, "the loss is not finite")

    monkeypatch.setattr(made, "train", diverge)
    with pytest.raises(Pruned, match="not finite at step 3"):
        made.objective({**values_of(made.section), "learning_rate": 0.006}, lambda *_, **__: None)
    with pytest.raises(NonFiniteLoss):  # params are wrong then
        made.objective(values_of(made.section), lambda *_, **__: None)


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_lies_inside_its_bounds_and_can_be_searched(preset: Path) -> None:
    section = load_params(preset).refiner
    values, space = values_of(section), space_of(section)
    assert values.keys() == space.keys()
    assert all(bounds.low <= values[name] <= bounds.high for name, bounds in space.items())
    assert applied(section, values) is section
    for end in ("low", "high"):
        extreme = {name: getattr(bounds, end) for name, bounds in space.items()}
        found = applied(section, extreme)  # whose settings check themselves
        assert values_of(found) == extreme
        low, high = found.model.scale_range
        assert 1 <= low <= high


def test_crops_of_training_follow_the_scale(workspace: Path) -> None:
    section = stage("refiner").params.refiner
    found = applied(section, {**values_of(section), "scale": section.model.scale * 1.5})
    assert found.model.scale_range == pytest.approx([1.5 * end for end in section.model.scale_range])


def test_wssis_tune_runs_what_the_stage_takes_over(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = stage("tune_pseudo", tune_pseudo={"n_trials": 2})
    workers.tune("pseudo", 1)
    assert "`dvc repro tune_pseudo` takes them over" in capsys.readouterr().out

    def again(self: Rules, values: object, report: object) -> float:
        raise KeyError("run again")

    monkeypatch.setattr(Rules, "objective", again)
    tune_pseudo(here)
    assert len(table(paths.PLOT_TUNE_PSEUDO)) == 2


@pytest.mark.slow
def test_wssis_tune_with_two_workers_is_the_stage_with_one(project: Path) -> None:
    here = stage("tune_refiner", tune_refiner={"n_trials": 3})
    words = [sys.executable, "-m", "pipelines.cli.main", "tune", "refiner", "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "tune_refiner: 3 trials" in done.stdout
    tune_refiner(here)
    assert len(table(paths.PLOT_TUNE_REFINER)) == 3


def test_what_cannot_be_searched_is_one_line_and_2(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(**changes: dict[str, Any]) -> str:
        stage("tune_pseudo", **changes)
        assert exit_code(lambda: workers.tune("pseudo", 2)) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "tune_pseudo.n_trials" in told(tune_pseudo={"n_trials": 0})
    assert "optuna.storage" in told(optuna={"storage": "sqlite:///a.db"})
    with pytest.raises(InputError, match=r"optuna\.storage"):
        tune_pseudo(stage("tune_pseudo", optuna={"storage": "mysql://x/y"}))
    shutil.rmtree("models/refiner")
    assert "models/refiner" in told()
    assert not paths.TUNED_PSEUDO.exists()


def test_an_image_without_objects_is_no_image_of_the_search(project: Path) -> None:
    here = stage("tune_refiner")
    holdout = here.load(paths.HOLDOUT)
    first, second = holdout.images
    save_coco(replace(holdout, images=(replace(first, annotations=()), second)), paths.HOLDOUT)
    assert len(trainings(here).rough) == 1
    save_coco(
        replace(holdout, images=tuple(replace(i, annotations=()) for i in holdout.images)), paths.STRONG
    )
    with pytest.raises(InputError, match=r"strong\.json"):
        trainings(here)
