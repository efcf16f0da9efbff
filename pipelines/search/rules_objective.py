"""The search of tune_pseudo: pseudo-label rules, scored on held-out strong images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import torch
from optuna import Trial
from optuna.distributions import CategoricalDistribution
from optuna.pruners import WilcoxonPruner
from optuna.samplers import GPSampler
from torch import Tensor

from pipelines.inference.label_dataset import label_utility
from pipelines.search.space import Space, floats, suggest
from pipelines.search.study import PRUNED, STARTUP_TRIALS, Search, should_prune
from wssis.instances import Instances
from wssis.pseudo_labels.decisions import decide
from wssis.pseudo_labels.proposals import Proposals
from wssis.pseudo_labels.rules import PseudoRules, search_ranges

P_THRESHOLD = 0.1  # a trial ends if its images are worse than the best trial's with this p-value


@dataclass
class RulesObjective:
    """Mean label utility of rules on the held-out images. The networks run once; a trial is arithmetic.

    Attributes:
        defaults: the rules in params.
        propose: runs teacher and refiner; returns proposals and truth of each held-out image with objects.
        seed: seed of the images' order and of the sampler.
    """

    defaults: PseudoRules
    propose: Callable[[], list[tuple[Proposals, Instances]]]
    seed: int

    def __call__(self, trial: Trial) -> float:
        """Mean utility of a label. A report is an image's share of it: the mean of all reports is the value.

        A pruned trial returns the mean of its reports. Raising `TrialPruned` would hide it from the sampler,
        which would propose it again.
        """
        rules = replace(self.defaults, **suggest(trial, self.space))
        objects = sum(len(proposals.points) for proposals, _ in self.images)
        shares: list[float] = []
        for step, (proposals, truth) in enumerate(self.images):
            utility = float(label_utility(decide(proposals, rules), truth).sum())
            shares.append(utility * len(self.images) / objects)
            trial.report(shares[-1], step)
            if len(shares) < len(self.images) and should_prune(trial):
                reason = f"worse than the best trial after {len(shares)} of {len(self.images)} images"
                trial.set_user_attr(PRUNED, f"{reason} (Wilcoxon, p < {P_THRESHOLD})")
                break
        return sum(shares) / max(1, len(shares))

    @cached_property
    def images(self) -> list[tuple[Proposals, Instances]]:
        """Proposals and truth by image, shuffled: the first images decide what is pruned."""
        images = self.propose()
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed))
        return [images[i] for i in order.tolist()]

    @property
    def space(self) -> Space:
        """Bounds, widened to include the defaults."""
        return {
            name: CategoricalDistribution((False, True))
            if bounds is None
            else floats(bounds[0], bounds[1], getattr(self.defaults, name), log=bounds[2])
            for name, bounds in search_ranges().items()
        }

    def search(self, n_trials: int, deps: dict[str, str]) -> Search:
        """The search; `deps` are digests of the stage's inputs."""
        return Search(
            name="tune_pseudo",
            objective=self,
            space=self.space,
            defaults={name: getattr(self.defaults, name) for name in self.space},
            n_trials=n_trials,
            sampler=lambda seed: GPSampler(
                seed=seed,
                n_startup_trials=STARTUP_TRIALS,
                deterministic_objective=True,
                warn_independent_sampling=False,
            ),
            pruner=WilcoxonPruner(p_threshold=P_THRESHOLD),
            seed=self.seed,
            identity={"pseudo": asdict(self.defaults), "deps": deps},
        )

    def utilities(self, rules: PseudoRules) -> list[Tensor]:
        """Utility (n,) of the labels of the objects of each held-out image."""
        return [label_utility(decide(proposals, rules), truth) for proposals, truth in self.images]
