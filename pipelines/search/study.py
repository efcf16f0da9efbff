"""Searches with Optuna that workers share, that go on after a kill, and that one seed repeats.

A search has `n_trials` slots; slot 0 is the defaults, the values of another are proposed from what is known
when it is taken (`tuning_claims`). A study is named after all that a trial's worth hangs on, so that the
trials of other data, checkpoints, code or bounds are never taken for one's own.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from pipelines.search.pruning import OverImages, OverSteps

Values = dict[str, Any]  # name: float, int or bool
POLL_S = 0.5


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; logarithmic with `log`, whole ones `step` apart with `step`."""

    low: float
    high: float
    log: bool = False
    step: int = 0

    def with_default(self, value: float) -> Range:
        """The range, widened to hold a default that lies outside."""
        return replace(self, low=min(self.low, value), high=max(self.high, value))


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    options: tuple[Any, ...]


class Pruned(Exception):
    """Ends a trial that is not worth going on with; says why."""


class Report(Protocol):
    """Tells the study of a value on the way to the objective's; raises `Pruned` where that is enough."""

    def __call__(self, step: int, value: float, pairs: Sequence[float] = (), last: bool = False) -> None:
        """Note `value` at `step`, and the values of what every trial looks at in one order.

        Nothing is pruned at the `last` step, where nothing would be saved.
        """


@dataclass(frozen=True)
class Search:
    """What is searched.

    Attributes:
        name: of the stage.
        space: searched values by name; the defaults lie inside.
        defaults: the values of slot 0, which is never pruned.
        objective: worth of values, more is better; it reports on its way.
        n_trials: slots, the defaults included.
        seed: of the proposals.
        pruning: when a trial is stopped.
        identity: what else a trial's worth hangs on, as plain values.
        exact: the objective has no noise.
    """

    name: str
    space: Mapping[str, Range | Choice]
    defaults: Values
    objective: Callable[[Values, Report], float]
    n_trials: int
    seed: int
    pruning: OverImages | OverSteps
    identity: Mapping[str, Any]
    exact: bool = True

    @property
    def study_name(self) -> str:
        """The stage, and a fingerprint of everything but the number of trials."""
        whole = [
            {name: asdict(bounds) for name, bounds in self.space.items()},
            *(self.defaults, self.seed, repr(self.pruning), dict(self.identity)),
        ]
        text = json.dumps(whole, sort_keys=True, default=str)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class TrialResult:
    """A trial that is over.

    Attributes:
        slot: its place in the search; 0 is the defaults.
        number: in the study, where trials whose process died have numbers, too.
        values: what was tried.
        worth: of the values; where the trial was pruned, what it would have come to.
        pruned: why it was stopped; empty: it was not.
        steps: reported values.
        started, ended: local times.
    """

    slot: int
    number: int
    values: Values
    worth: float
    pruned: str
    steps: dict[int, float]
    started: datetime
    ended: datetime


def open_study(search: Search, storage: BaseStorage) -> Study:
    """The study of a search, made where there is none."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    study = optuna.create_study(
        storage=storage,
        study_name=search.study_name,
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(0),  # never asked: values come from `tuning_claims`
        pruner=optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    if not study.user_attrs:
        for name, value in search.identity.items():
            study.set_user_attr(name, value)
    return study


def work(
    search: Search,
    storage: BaseStorage,
    on_trial: Callable[[list[TrialResult]], None] = lambda tried: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[TrialResult]:
    """Run trials until every slot is done, by whoever.

    Args:
        search: see `Search`.
        storage: where the study is kept, see `tuning_storage`.
        on_trial: told of all trials that are over, after each of this process and while others are awaited.
        stop: asked before each trial; true leaves the rest undone.

    Returns:
        All trials that are over, in the order of their slots.
    """
    from pipelines.search.trial_claims import Claims

    study = open_study(search, storage)
    claims = Claims(search, study, storage)
    while not stop():
        trial = claims.take()
        if trial is not None:
            claims.run(trial)
        tried = finished(study, search.n_trials)
        on_trial(tried)
        if len(tried) == search.n_trials:
            break
        if trial is None:
            time.sleep(POLL_S)  # others run the rest; if one dies, its trial is taken over
    return finished(study, search.n_trials)


def finished(study: Study, n_trials: int) -> list[TrialResult]:
    """Trials of the first `n_trials` slots that are over, in the order of their slots."""
    from optuna.trial import TrialState

    found: dict[int, TrialResult] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        tried = as_tried(trial)
        if tried is not None and tried.slot < n_trials:
            found.setdefault(tried.slot, tried)
    return [found[slot] for slot in sorted(found)]


def as_tried(trial: FrozenTrial) -> TrialResult | None:
    """A trial that is over, as plain values; None for one that this module has not made."""
    from pipelines.search.trial_claims import PRUNED, SLOT

    if SLOT not in trial.user_attrs or trial.value is None:
        return None
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    return TrialResult(
        int(trial.user_attrs[SLOT]),
        trial.number,
        dict(trial.params),
        float(trial.value),
        str(trial.user_attrs.get(PRUNED, "")),
        dict(trial.intermediate_values),
        trial.datetime_start,
        trial.datetime_complete,
    )


def best_of(tried: Sequence[TrialResult]) -> TrialResult:
    """The most worthy trial that was not pruned; of equal ones the first, so that the defaults win a tie."""
    return max((one for one in tried if not one.pruned), key=lambda one: (one.worth, -one.slot))


def rows_of(tried: Sequence[TrialResult]) -> list[dict[str, Any]]:
    """A table of the trials: slot, worth, best so far, whether pruned, and the values."""
    rows: list[dict[str, Any]] = []
    best = -float("inf")
    for one in tried:
        best = max(best, one.worth) if not one.pruned or not rows else best
        rows.append({"trial": one.slot, "value": one.worth, "best": best, "pruned": int(bool(one.pruned))})
        rows[-1] |= one.values
    return rows
