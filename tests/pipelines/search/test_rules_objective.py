"""The search for rules: what is reported adds up, and the held-out images come in an order of their own."""

from __future__ import annotations

import pytest
import torch

from pipelines.search.rules_objective import Rules, space_of
from pipelines.search.study import Choice
from wssis.instances import Instances
from wssis.pseudo_labels.proposals import Proposals
from wssis.settings import PseudoRules

SIZE = (24, 24)


def answer(objects: int, seed: int) -> tuple[Proposals, Instances]:
    """What networks might say of `objects` boxes in a column, and the boxes."""
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


def test_the_mean_of_the_reports_is_the_mean_over_the_points() -> None:
    """Also where images show different numbers of objects."""
    answers = [answer(count, count) for count in (1, 4, 2)]
    rules, told = Rules(PseudoRules(), lambda: answers, seed=0), []
    values = {"min_confidence": 0.55, "exclusive": False}
    worth = rules.objective(values, lambda step, value, last=False: told.append((step, value, last)))
    tried = PseudoRules(min_confidence=0.55, exclusive=False)
    assert worth == pytest.approx(float(torch.cat(rules.worths(tried)).mean()))
    assert worth == pytest.approx(sum(value for _, value, _ in told) / 3)
    assert [(step, last) for step, _, last in told] == [(0, False), (1, False), (2, True)]


def test_networks_are_asked_once_and_images_are_shuffled_by_the_seed() -> None:
    answers, asked = [answer(1, n) for n in range(8)], []
    first, again, other = (
        Rules(PseudoRules(), lambda: asked.append(1) or answers, seed) for seed in (0, 0, 1)
    )
    orders = [[id(given) for given, _ in rules.answers] for rules in (first, again, other)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
    _ = first.answers
    assert len(asked) == 3


def test_every_rule_is_searched_and_defaults_lie_inside() -> None:
    odd = PseudoRules(own_point=5.0, ignore_radius=1.0)
    space = space_of(odd)
    assert set(space) == set(PseudoRules.__dataclass_fields__)
    for name, bounds in space.items():
        value = getattr(odd, name)
        assert value in bounds.options if isinstance(bounds, Choice) else bounds.low <= value <= bounds.high


def test_the_radius_of_ignore_regions_is_worth_something() -> None:
    """A region as large as the object is better than a dot or the whole image."""
    rules = Rules(PseudoRules(), lambda: [answer(2, 0)], seed=0)
    small, fitting, large = (
        float(
            torch.cat(
                rules.worths(PseudoRules(min_confidence=1.0, mask_threshold=0.99, ignore_radius=radius))
            ).mean()
        )
        for radius in (1.0, 4.0, 18.0)
    )
    assert small < fitting > large
    assert -0.1 <= min(small, large) < 0


def test_no_image_is_worth_nothing() -> None:
    rules = Rules(PseudoRules(), list, seed=0)
    assert rules.objective({}, lambda *_, **__: None) == 0.0
    assert rules.worths(PseudoRules()) == []
