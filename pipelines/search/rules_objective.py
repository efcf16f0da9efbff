"""What tune_pseudo searches: rules for pseudo-labels, judged on held-out strong images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from pipelines.inference.label_dataset import label_utility
from pipelines.search.pruning import OverImages
from pipelines.search.study import Choice, Range, Report, Search, Values
from wssis.instances import Instances
from wssis.pseudo_labels.proposals import Proposals
from wssis.pseudo_labels.rules import decide
from wssis.settings import PseudoRules


@dataclass
class Rules:
    """Worth of rules on the held-out images: the networks have answered, a trial is arithmetic.

    Attributes:
        defaults: rules of params.
        ask: for the answers of teacher and refiner, beside the truth, of each held-out image with objects.
        seed: of the images' order and of proposals.
    """

    defaults: PseudoRules
    ask: Callable[[], list[tuple[Proposals, Instances]]]
    seed: int

    @cached_property
    def answers(self) -> list[tuple[Proposals, Instances]]:
        """What `ask` gives, in a random order: the first images decide what is pruned."""
        found = self.ask()
        order = torch.randperm(len(found), generator=torch.Generator().manual_seed(self.seed))
        return [found[i] for i in order.tolist()]

    def search(self, n_trials: int, deps: dict[str, str]) -> Search:
        """The search; `deps` are digests of what else a trial hangs on."""
        space = space_of(self.defaults)
        return Search(
            name="tune_pseudo",
            space=space,
            defaults={name: getattr(self.defaults, name) for name in space},
            objective=self.objective,
            n_trials=n_trials,
            seed=self.seed,
            pruning=OverImages(),
            identity={"pseudo": asdict(self.defaults), "deps": deps},
        )

    def worths(self, rules: PseudoRules) -> list[Tensor]:
        """Worth (n,) of the labels of the objects of each held-out image."""
        return [label_utility(decide(given, rules), truth) for given, truth in self.answers]

    def objective(self, values: Values, report: Report) -> float:
        """Mean worth of a label. Each image's share is reported; their mean is the mean worth."""
        rules, last = replace(self.defaults, **values), len(self.answers) - 1
        objects = sum(len(given.points) for given, _ in self.answers)
        shares = []
        for step, (given, truth) in enumerate(self.answers):
            whole = float(label_utility(decide(given, rules), truth).sum())
            shares.append(whole * len(self.answers) / objects)
            report(step, shares[-1], last=step == last)
        return sum(shares) / max(1, len(shares))


def space_of(rules: PseudoRules) -> dict[str, Range | Choice]:
    """What is searched; bounds are widened where the defaults lie outside."""
    bounds = {
        "mask_threshold": Range(0.3, 0.7),
        "refined_weight": Range(0.0, 1.0),
        "min_confidence": Range(0.0, 0.6),
        "own_point": Range(0.0, 2.0),
        "agreement": Range(0.0, 2.0),
        "ignore_radius": Range(max(1.0, rules.ignore_radius / 3), rules.ignore_radius * 3, log=True),
    }
    widened = {name: bound.with_default(getattr(rules, name)) for name, bound in bounds.items()}
    return {**widened, "exclusive": Choice((False, True))}
