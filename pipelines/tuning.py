"""Search for pseudo-label rules with Optuna (its only importer)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from wssis.settings import PseudoRules

# What is searched, and between which bounds. Everything else stays as params say.
SPACE: dict[str, tuple[float, float]] = {
    "mask_threshold": (0.3, 0.7),
    "refined_weight": (0.0, 1.0),
    "min_confidence": (0.0, 0.6),
    "own_point": (0.0, 2.0),
    "agreement": (0.0, 2.0),
}


@dataclass(frozen=True)
class Study:
    """Outcome of a search.

    Attributes:
        rules: the best.
        rows: number, value, best value so far and searched values of each trial, trial 0 being the defaults.
    """

    rules: PseudoRules
    rows: list[dict[str, Any]]


def search(
    objective: Callable[[PseudoRules], float],
    defaults: PseudoRules,
    n_trials: int,
    seed: int,
    on_trial: Callable[[dict[str, Any]], None] = lambda row: None,
) -> Study:
    """Maximise `objective` over `SPACE`; the defaults are trial 0, so that the best is never below them.

    Args:
        objective: worth of rules, more is better; deterministic.
        defaults: rules of params.
        n_trials: trials, the first included; 0 gives the defaults back untried.
        seed: of the sampler.
        on_trial: told of each trial.
    """
    if n_trials == 0:
        return Study(defaults, [])
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    # n_startup_trials: less than the default 10, as there are few trials and five dimensions.
    sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=6, deterministic_objective=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    values = asdict(defaults)
    study.enqueue_trial({name: min(max(values[name], low), high) for name, (low, high) in SPACE.items()})
    rows: list[dict[str, Any]] = []

    def run(trial: optuna.Trial) -> float:
        # Four digits: the best is read by people, and DVC need not see noise as a change.
        tried: dict[str, Any] = {
            name: round(trial.suggest_float(name, low, high), 4) for name, (low, high) in SPACE.items()
        }
        value = objective(defaults if trial.number == 0 else replace(defaults, **tried))
        best = max([value, *(row["value"] for row in rows)])
        rows.append({"trial": trial.number, "value": value, "best": best, **tried})
        on_trial(rows[-1])
        return value

    study.optimize(run, n_trials=n_trials)
    best_row = rows[study.best_trial.number]
    if best_row["trial"] == 0:
        return Study(defaults, rows)
    return Study(replace(defaults, **{name: best_row[name] for name in SPACE}), rows)
