"""When a trial is not worth going on with, why, and what it would have come to.

Both kinds compare a trial with the best one so far, pair by pair, by Wilcoxon's signed-rank test: a handful
of held-out objects differ far more from one another than two settings do, so that means alone say little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

PAIRS = "at step {}"  # user attribute with the values of the pairs at a step


@dataclass(frozen=True)
class OverImages:
    """Steps are images, reported values their shares of the worth: Optuna's WilcoxonPruner.

    Attributes:
        p: chance of being as bad, if the trial were as good as the best one, below which it ends.
    """

    p: float = 0.1

    def reason(self, study: Study, trial: FrozenTrial) -> str:
        """Why the trial should end here; empty: it should not."""
        from optuna.pruners import WilcoxonPruner

        if not WilcoxonPruner(p_threshold=self.p).prune(study, trial):
            return ""
        best = study.best_trial
        images = f"{len(trial.intermediate_values)} of {len(best.intermediate_values)} images"
        return f"worse than trial {slot_of(best)} after {images} (Wilcoxon, p < {self.p})"

    def expected(self, trial: FrozenTrial, others: Sequence[FrozenTrial]) -> float:
        """The worth of a pruned trial: that of the best one and the mean difference over the images seen."""
        best = best_trial(others)
        if best is None or not trial.intermediate_values:
            return worst(others)
        seen = [
            value - best.intermediate_values[step]
            for step, value in trial.intermediate_values.items()
            if step in best.intermediate_values
        ]
        return float(best.value or 0.0) + min(0.0, fmean(seen or [0.0]))


@dataclass(frozen=True)
class OverSteps:
    """Steps are those of a training, pairs are held-out objects at the same step of both trainings.

    On 21 trainings of shapes (`benchmarks.pruners`; docs/tuning.md has the table) this spent 62 % of the
    steps and lost the best trial in 8 % of the orders; Hyperband spent 77 % for that, and the median rule
    56 %, but lost it in 29 %.

    Attributes:
        p: as in `OverImages`.
    """

    p: float = 0.1

    def reason(self, study: Study, trial: FrozenTrial) -> str:
        """Why the trial should end here; empty: it should not."""
        from scipy.stats import wilcoxon

        best, step = best_trial(study.get_trials(deepcopy=False)), trial.last_step
        if best is None or step is None:
            return ""
        here, there = (one.user_attrs.get(PAIRS.format(step), []) for one in (trial, best))
        rise = [own - other for own, other in zip(here, there, strict=False)]
        if not any(rise) or fmean(rise) >= 0:
            return ""
        chance = wilcoxon(rise, alternative="less", zero_method="zsplit").pvalue
        if not chance < self.p:
            return ""
        lack = f"{-fmean(rise):.4f} worse than trial {slot_of(best)} at step {step}"
        return f"{lack} (Wilcoxon over {len(rise)} objects, p < {self.p})"

    def expected(self, trial: FrozenTrial, others: Sequence[FrozenTrial]) -> float:
        """The worth of a pruned trial: its last value and what others still gained from there."""
        best, step = best_trial(others), trial.last_step
        if best is None or step is None:
            return worst(others)
        gains = [
            float(other.value or 0.0) - other.intermediate_values[step]
            for other in complete(others)
            if step in other.intermediate_values
        ]
        return min(float(best.value or 0.0), trial.intermediate_values[step] + median(gains or [0.0]))


def complete(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that ran to their end."""
    from optuna.trial import TrialState

    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


def best_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The most worthy of those that ran to their end, the first of equal ones."""
    return max(complete(trials), key=lambda trial: float(trial.value or 0.0), default=None)


def worst(trials: Sequence[FrozenTrial]) -> float:
    """Least worth that was seen; for a trial that ended before it reported anything."""
    return min((float(trial.value or 0.0) for trial in complete(trials)), default=0.0)


def slot_of(trial: FrozenTrial) -> int:
    """A trial's place in its search, which people know it by."""
    return int(trial.user_attrs.get("slot", trial.number))
