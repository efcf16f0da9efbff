"""The objective of tune_pseudo: reports add up, images are shuffled, pruned trials return an estimate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from optuna.samplers import GPSampler
from optuna.storages import InMemoryStorage

from pipelines.search.rules_objective import RulesObjective
from pipelines.search.study import PRUNED, best_trial, is_pruned, run_trials
from wssis.instances import Instances
from wssis.pseudo_labels.proposals import Proposals
from wssis.pseudo_labels.rules import PseudoRules

SIZE = (24, 24)


def image(objects: int, seed: int) -> tuple[Proposals, Instances]:
    """Proposals for `objects` boxes in a column, and the boxes."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.zeros((objects, *SIZE), dtype=torch.bool)
    for n in range(objects):
        truth[n, 5 * n : 5 * n + 4, 3:15] = True
    rough = (0.6 * truth + 0.4 * torch.rand((objects, *SIZE), generator=generator)).half()
    points = torch.tensor([[8.0, 5 * n + 2.0] for n in range(objects)]).reshape(-1, 2)
    labels = torch.zeros(objects, dtype=torch.int64)
    whole = (float(SIZE[0]), float(SIZE[1]))
    given = Proposals(
        points, labels, None, SIZE, rough, whole, torch.ones(objects), None, torch.zeros((objects, 4))
    )
    return given, Instances(size=SIZE, labels=labels, masks=truth)


class FakeTrial:
    """Suggests fixed values, or the lower bounds; collects reports; never prunes."""

    def __init__(self, **values: Any) -> None:
        self.values, self.user_attrs, self.reports = values, {}, []

    def suggest_float(self, name: str, low: float, high: float, log: bool = False) -> Any:
        return self.values.get(name, low)

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        return self.values.get(name, choices[0])

    def report(self, value: float, step: int) -> None:
        self.reports.append((step, value))

    def should_prune(self) -> bool:
        return False


def test_the_mean_of_the_reports_is_the_mean_over_the_points() -> None:
    """Also where images have different numbers of objects."""
    images = [image(count, count) for count in (1, 4, 2)]
    objective, rules = RulesObjective(PseudoRules(), lambda: images, seed=0), PseudoRules(exclusive=False)
    trial = FakeTrial(**asdict(rules))
    value = objective(trial)  # type: ignore[arg-type]
    assert value == pytest.approx(float(torch.cat(objective.utilities(rules)).mean()))
    assert value == pytest.approx(sum(share for _, share in trial.reports) / 3)
    assert [step for step, _ in trial.reports] == [0, 1, 2]


def test_networks_run_once_and_images_are_shuffled_by_the_seed() -> None:
    images, asked = [image(1, n) for n in range(8)], []
    objectives = [
        RulesObjective(PseudoRules(), lambda: asked.append(1) or images, seed) for seed in (0, 0, 1)
    ]
    orders = [[id(given) for given, _ in objective.images] for objective in objectives]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    _ = objectives[0].images
    assert len(asked) == 3


def test_every_rule_is_searched_and_defaults_lie_inside() -> None:
    odd = PseudoRules(own_point=5.0, ignore_radius=1.0)
    search = RulesObjective(odd, list, seed=0).search(1, {})
    assert set(search.space) == set(PseudoRules.__dataclass_fields__)
    assert all(bounds._contains(search.defaults[name]) for name, bounds in search.space.items())


def test_the_sampler_learns_from_pruned_trials_and_the_best_sees_all_images() -> None:
    images = [image(3, n) for n in range(8)]
    search = RulesObjective(PseudoRules(), lambda: images, seed=0).search(9, {})
    study = run_trials(search, InMemoryStorage())
    assert isinstance(study.sampler, GPSampler)
    assert study.trials[0].params == search.defaults
    pruned = [trial for trial in study.trials if is_pruned(trial)]
    assert pruned
    assert all(4 <= len(trial.intermediate_values) < 8 for trial in pruned)
    assert "of 8 images (Wilcoxon, p < 0.1)" in pruned[0].user_attrs[PRUNED]
    best = best_trial(study)
    assert len(best.intermediate_values) == 8
    assert best.value == study.best_value


def test_a_fitting_ignore_region_is_better_than_a_dot_or_the_whole_image() -> None:
    objective = RulesObjective(PseudoRules(), lambda: [image(2, 0)], seed=0)
    rules = [PseudoRules(min_confidence=1.0, mask_threshold=0.99, ignore_radius=r) for r in (1.0, 4.0, 18.0)]
    small, fitting, large = (float(torch.cat(objective.utilities(rule)).mean()) for rule in rules)
    assert small < fitting > large
    assert -0.1 <= min(small, large) < 0


def test_without_images_the_value_is_0() -> None:
    objective = RulesObjective(PseudoRules(), list, seed=0)
    assert objective(FakeTrial()) == 0.0  # type: ignore[arg-type]
    assert objective.utilities(PseudoRules()) == []
