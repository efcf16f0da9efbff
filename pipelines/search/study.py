"""Run a search as an Optuna study that workers share and that resumes after a kill.

Trial 0 is the defaults. The study's name contains a digest of everything that a trial's value depends on, so
changed bounds, data, checkpoints or code start a new study.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
import psutil
from optuna import Study, Trial
from optuna.distributions import distribution_to_json
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState

from pipelines.provenance import process_id, still_runs
from pipelines.search.space import Space, Values
from pipelines.search.storage import DEFAULTS, retry

PRUNED = "pruned"  # user attribute of a trial that ended early with an estimate: the reason
STARTUP_TRIALS = 6  # random trials before the sampler's model; fewer than Optuna's 10, as searches are short
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

Callback = Callable[[Study, FrozenTrial], None]


@dataclass(frozen=True)
class Search:
    """A search.

    Attributes:
        name: name of the stage.
        objective: value of a trial; higher is better.
        space: bounds; the defaults lie inside.
        defaults: values of trial 0, which is never pruned.
        n_trials: number of trials that finish, the defaults included.
        sampler: makes the study's sampler from a seed.
        pruner: the study's pruner.
        seed: seed of the sampler.
        identity: whatever else a trial's value depends on, as plain values.
    """

    name: str
    objective: Callable[[Trial], float]
    space: Space
    defaults: Values
    n_trials: int
    sampler: Callable[[int | None], BaseSampler]
    pruner: BasePruner
    seed: int
    identity: Mapping[str, Any]

    @property
    def study_name(self) -> str:
        """The stage's name and a digest of everything except the number of trials."""
        space = {name: distribution_to_json(bounds) for name, bounds in self.space.items()}
        parts = [space, self.defaults, self.seed, type(self.pruner).__name__, dict(self.identity)]
        text = json.dumps(parts, sort_keys=True, default=str)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def open_study(search: Search, storage: BaseStorage, seeded: bool = True) -> Study:
    """Create or load a search's study; queue its defaults, and the trials that a kill interrupted.

    Args:
        search: see `Search`.
        storage: see `open_storage`.
        seeded: seed the sampler. Workers that start together are not seeded: all would propose the same.
    """
    study = optuna.create_study(
        storage=storage,
        study_name=search.study_name,
        direction="maximize",
        pruner=search.pruner,
        load_if_exists=True,
    )
    retry_interrupted(study)
    trials = len(study.get_trials(deepcopy=False))
    if not trials:
        for name, value in search.identity.items():
            study.set_user_attr(name, value)
        study.enqueue_trial(search.defaults, user_attrs={DEFAULTS: True})
    # A resumed search with the same seed would propose its first random trials again.
    study.sampler = search.sampler(search.seed + trials if seeded else None)
    return study


def retry_interrupted(study: Study) -> None:
    """Queue interrupted trials again with their values.

    A journal file has no heartbeat: trials of processes that are gone from this machine are failed here. On
    a database the heartbeat does the same for other machines, see `open_storage`.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not still_runs(trial.user_attrs):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    trials = study.get_trials()
    retried = {number for t in trials for number in RetryHeartbeatStaleTrialCallback.retry_history(t)}
    for trial in trials:
        if trial.state == TrialState.FAIL and trial.number not in retried:
            retry(study, trial)


def run_trials(
    search: Search, storage: BaseStorage, callbacks: Sequence[Callback] = (), seeded: bool = True
) -> Study:
    """Run trials until `n_trials` have finished, by any worker; arguments as in `open_study`.

    Several workers together may finish a few more than that.
    """
    study = open_study(search, storage, seeded)
    me = process_id(psutil.Process())

    def objective(trial: Trial) -> float:
        for name, value in me.items():
            trial.set_user_attr(name, value)
        return search.objective(trial)

    if len(finished(study)) < search.n_trials:
        limit = MaxTrialsCallback(search.n_trials, FINISHED)
        study.optimize(objective, callbacks=[*callbacks, limit])
    if not any(map(is_default, finished(study))):  # still running elsewhere, or lost with another machine
        study.enqueue_trial(search.defaults, user_attrs={DEFAULTS: True})
        while not any(map(is_default, finished(study))):
            study.optimize(objective, n_trials=1, callbacks=callbacks)
    return study


def should_prune(trial: Trial) -> bool:
    """Whether the pruner ends a trial; never the defaults, which all others are compared with."""
    return DEFAULTS not in trial.user_attrs and trial.should_prune()


def finished(study: Study) -> list[FrozenTrial]:
    """All complete and pruned trials by number."""
    return study.get_trials(deepcopy=False, states=FINISHED)


def is_default(trial: FrozenTrial) -> bool:
    """Whether a trial has the defaults as values."""
    return DEFAULTS in trial.user_attrs


def is_pruned(trial: FrozenTrial) -> bool:
    """Whether a trial ended early."""
    return trial.state == TrialState.PRUNED or PRUNED in trial.user_attrs


def default_value(study: Study) -> float:
    """Value of the defaults."""
    return next(trial.value or 0.0 for trial in finished(study) if is_default(trial))


def best_trial(study: Study) -> FrozenTrial:
    """The best trial that was not pruned; the defaults win a tie."""
    complete = [trial for trial in finished(study) if not is_pruned(trial)]
    return max(complete, key=lambda trial: (trial.value, is_default(trial)))


def judge_once(
    study: Study, best: FrozenTrial, judge: Callable[[], tuple[bool, float]]
) -> tuple[bool, float]:
    """Whether the best trial is kept, and its gain; `judge` decides once, the study remembers it."""
    if is_default(best):
        return False, 0.0
    name = f"judged {best.number}"
    if name not in study.user_attrs:
        kept, gain = judge()
        study.set_user_attr(name, [int(kept), gain])
    kept, gain = study.user_attrs[name]
    return bool(kept), float(gain)
