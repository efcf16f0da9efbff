"""tune_refiner, tune_pseudo and `wssis tune`, on a project with untrained networks."""

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
from optuna import TrialPruned
from optuna.trial import FixedTrial

from pipelines import paths
from pipelines.config.params import (
    parse,
    read_yaml,
    refiner_in_force,
    rules_in_force,
    write_yaml,
)
from pipelines.config.presets import load_preset
from pipelines.config.schema import Params
from pipelines.runner.run_stage import StageContext, exit_code
from pipelines.search import workers
from pipelines.search.refiner_objective import RefinerObjective, space_of, values_of, with_settings
from pipelines.search.rules_objective import RulesObjective
from pipelines.search.study import DEFAULTS, PRUNED
from pipelines.stages import tune_pseudo, tune_refiner
from wssis.data import rle as rle_api
from wssis.data.coco import save_coco
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.pseudo_labels import decisions
from wssis.training.trainer import NonFiniteLoss

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


def refuse(self: object, trial: object) -> float:
    raise KeyError("run again")


def test_no_trial_writes_the_defaults_and_reads_nothing(workspace: Path) -> None:
    here = stage("tune_refiner", tune_refiner={"n_trials": 0}, tune_pseudo={"n_trials": 0})
    tune_refiner.tune_refiner(here)
    tune_pseudo.tune_pseudo(here)
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
    tune_pseudo.tune_pseudo(here)
    rows = table(paths.PLOT_TUNE_PSEUDO)
    assert [row["trial"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["mask_threshold"]) == here.params.pseudo.mask_threshold
    first = paths.TUNED_PSEUDO.read_bytes()
    assert rules_in_force(here.params)  # is valid
    assert "label utility" in capsys.readouterr().out
    assert not list((project / "tuned").glob(".*"))  # no temporary file

    monkeypatch.setattr(RulesObjective, "__call__", refuse)
    tune_pseudo.tune_pseudo(here)
    assert paths.TUNED_PSEUDO.read_bytes() == first
    with open(project / "models/teacher/model.json", "a") as file:
        file.write("\n")
    with pytest.raises(KeyError, match="run again"):
        tune_pseudo.tune_pseudo(here)


def test_the_area_can_be_matched_without_a_search(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decisions, "matched_threshold", lambda images, rules: 0.8 if len(images) == 2 else 0)
    here = stage("tune_pseudo", tune_pseudo={"n_trials": 0, "match_area": True})
    tune_pseudo.tune_pseudo(here)
    assert rules_in_force(here.params) == replace(here.params.pseudo, mask_threshold=0.8)
    assert "mask_threshold 0.8" in capsys.readouterr().out


def test_rules_that_win_by_chance_are_not_kept(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = stage("tune_pseudo", tune_pseudo={"n_trials": 3})
    defaults = here.params.pseudo
    values = iter((0.1, 0.5, 0.2))
    run = RulesObjective.__call__
    monkeypatch.setattr(RulesObjective, "__call__", lambda self, trial: run(self, trial) and next(values))
    gains = torch.tensor([[0.3], [-0.3], [0.1]])
    monkeypatch.setattr(RulesObjective, "utilities", lambda self, rules: list(gains * (rules != defaults)))
    tune_pseudo.tune_pseudo(here)
    assert rules_in_force(here.params) == defaults
    gains += 1
    tune_pseudo.tune_pseudo(here)
    kept = rules_in_force(here.params)
    assert kept != defaults
    assert kept.own_point == float(f"{kept.own_point:.4g}")  # short to read


def test_trials_train_and_the_best_must_win_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, asked = stage("tune_refiner", tune_refiner={"n_trials": 2}), []
    monkeypatch.setattr(RefinerObjective, "beats_defaults", lambda self, v: asked.append(v) or (True, 0.1))
    tune_refiner.tune_refiner(here)
    rows = table(paths.PLOT_TUNE_REFINER)
    defaults = values_of(here.params.refiner)
    assert {name: float(rows[0][name]) for name in defaults} == defaults
    won = float(rows[1]["value"]) > float(rows[0]["value"]) and rows[1]["pruned"] == "0"
    assert len(asked) == won
    assert (refiner_in_force(here.params) != here.params.refiner) == won
    monkeypatch.setattr(RefinerObjective, "__call__", refuse)
    tune_refiner.tune_refiner(here)  # nothing is trained or judged again
    assert len(asked) == won


class OneTrial(FixedTrial):
    """A trial with fixed values that keeps its reports, and is pruned at a step."""

    def __init__(self, values: dict[str, Any], prune_at: int = 0) -> None:
        super().__init__(values)
        self.reports: dict[int, float] = {}
        self.prune_at = prune_at

    def report(self, value: float, step: int) -> None:
        self.reports[step] = value

    def should_prune(self) -> bool:
        return self.prune_at in self.reports


def test_a_training_reports_on_its_way_and_can_be_pruned(project: Path) -> None:
    objective = tune_refiner.objective(stage("tune_refiner"))
    values = values_of(objective.section)
    trial = OneTrial(values)
    iou = objective(trial)  # type: ignore[arg-type]
    assert list(trial.reports) == [1, 2, 3, 4]
    assert iou == trial.reports[4]
    assert iou == float(torch.cat(objective.ious(objective.train(values, objective.seed))).mean())

    trial = OneTrial(values, prune_at=2)
    with pytest.raises(TrialPruned):
        objective(trial)  # type: ignore[arg-type]
    assert list(trial.reports) == [1, 2]
    assert trial.user_attrs[PRUNED] == "by Hyperband at step 2"
    trial = OneTrial(values, prune_at=2)
    trial.set_user_attr(DEFAULTS, True)
    assert objective(trial) == iou  # type: ignore[arg-type]


def test_the_best_must_beat_the_defaults_with_other_seeds(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, seeds = tune_refiner.objective(stage("tune_refiner")), []
    better = {**values_of(objective.section), "width": 16}

    def train(values: dict[str, Any], seed: int, report: object = None) -> tuple[bool, int]:
        seeds.append(seed)
        return values == better, seed

    gains = {1: torch.tensor([0.1, 0.1, 0.12, 0.1]), 2: torch.tensor([0.1, 0.12, 0.1, 0.1])}
    monkeypatch.setattr(objective, "train", train)
    monkeypatch.setattr(objective, "ious", lambda model: list((0.5 + model[0] * gains[model[1]])[:, None]))
    assert objective.beats_defaults(better)[0]
    assert set(seeds) == {1, 2}  # the search has used 0
    gains[2] = torch.tensor([-0.5, 0.3, 0.1, -0.2])
    assert not objective.beats_defaults(better)[0]


def test_a_training_that_diverges_is_a_pruned_trial(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = tune_refiner.objective(stage("tune_refiner"))

    def diverge(*_: object) -> None:
        raise NonFiniteLoss(3, "the loss is not finite")

    monkeypatch.setattr(objective, "train", diverge)
    trial = OneTrial({**values_of(objective.section), "learning_rate": 0.006})
    with pytest.raises(TrialPruned):
        objective(trial)  # type: ignore[arg-type]
    assert "not finite at step 3" in trial.user_attrs[PRUNED]
    trial.set_user_attr(DEFAULTS, True)
    with pytest.raises(NonFiniteLoss):  # params are wrong then
        objective(trial)  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", sorted((ROOT / "presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_lies_inside_its_bounds_and_can_be_searched(preset: Path) -> None:
    section = load_preset(preset).refiner
    values, space = values_of(section), space_of(section)
    assert values.keys() == space.keys()
    assert all(bounds.low <= values[name] <= bounds.high for name, bounds in space.items())
    assert with_settings(section, values) is section
    for end in ("low", "high"):
        extreme = {name: getattr(bounds, end) for name, bounds in space.items()}
        found = with_settings(section, extreme)  # whose settings check themselves
        assert values_of(found) == extreme
        low, high = found.model.scale_range
        assert 1 <= low <= high


def test_crops_of_training_follow_the_scale(workspace: Path) -> None:
    section = stage("refiner").params.refiner
    found = with_settings(section, {**values_of(section), "scale": section.model.scale * 1.5})
    assert found.model.scale_range == pytest.approx([1.5 * end for end in section.model.scale_range])


def test_wssis_tune_runs_what_the_stage_takes_over(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = stage("tune_pseudo", tune_pseudo={"n_trials": 2})
    workers.tune("tune_pseudo", tune_pseudo.search, 1)
    assert "Run `dvc repro tune_pseudo` to use them" in capsys.readouterr().out
    monkeypatch.setattr(RulesObjective, "__call__", refuse)
    tune_pseudo.tune_pseudo(here)
    assert len(table(paths.PLOT_TUNE_PSEUDO)) == 2


@pytest.mark.slow
def test_wssis_tune_with_two_workers(project: Path) -> None:
    here = stage("tune_refiner", tune_refiner={"n_trials": 3})
    words = [sys.executable, "-m", "pipelines.cli.main", "tune", "refiner", "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    tune_refiner.tune_refiner(here)
    count = len(table(paths.PLOT_TUNE_REFINER))
    assert f"tune_refiner: {count} trials" in done.stdout
    assert 3 <= count <= 4


def test_a_search_that_cannot_run_is_one_line_and_2(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(**changes: dict[str, Any]) -> str:
        stage("tune_pseudo", **changes)
        assert exit_code(lambda: workers.tune("tune_pseudo", tune_pseudo.search, 2)) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        return message

    assert "tune_pseudo.n_trials" in error(tune_pseudo={"n_trials": 0})
    assert "optuna.storage" in error(optuna={"storage": "sqlite:///a.db"})
    with pytest.raises(InputError, match=r"optuna\.storage"):
        tune_pseudo.tune_pseudo(stage("tune_pseudo", optuna={"storage": "mysql://x/y"}))
    shutil.rmtree("models/refiner")
    assert "models/refiner" in error()
    assert not paths.TUNED_PSEUDO.exists()


def test_an_image_without_objects_is_not_searched(project: Path) -> None:
    here = stage("tune_refiner")
    holdout = here.load(paths.HOLDOUT)
    first, second = holdout.images
    save_coco(replace(holdout, images=(replace(first, annotations=()), second)), paths.HOLDOUT)
    assert len(tune_refiner.objective(here).rough) == 1
    save_coco(
        replace(holdout, images=tuple(replace(i, annotations=()) for i in holdout.images)), paths.STRONG
    )
    with pytest.raises(InputError, match=r"strong\.json"):
        tune_refiner.objective(here)
