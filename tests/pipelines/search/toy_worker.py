"""A toy search, and a worker on it: `python toy_worker.py STORAGE LOG N_TRIALS SECONDS [TOGETHER]`.

The worker logs the start and end of its trials, and waits in each until TOGETHER workers have started.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optuna import Trial
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.pruners import WilcoxonPruner
from optuna.samplers import RandomSampler

from pipelines.search.space import suggest
from pipelines.search.storage import open_storage
from pipelines.search.study import Search, run_trials

DEFAULTS = {"x": 0.9, "flag": False}
SPACE = {"x": FloatDistribution(0.0, 1.0), "flag": CategoricalDistribution((False, True))}


def value(trial: Trial) -> float:
    """Best at .3, with the flag."""
    values = suggest(trial, SPACE)
    return -abs(values["x"] - 0.3) + 0.1 * values["flag"]


def toy_search(n_trials: int, objective: Callable[[Trial], float] = value, **changes: Any) -> Search:
    settings = {
        "name": "toy",
        "space": SPACE,
        "defaults": DEFAULTS,
        "objective": objective,
        "n_trials": n_trials,
        "seed": 0,
        "sampler": lambda seed: RandomSampler(seed),
        "pruner": WilcoxonPruner(p_threshold=0.1),
        "identity": {"data": "abc"},
    }
    return Search(**(settings | changes))


def main(storage: str, log: str, n_trials: str, seconds: str, together: str = "1") -> None:
    def note(word: str, trial: Trial) -> None:
        with open(log, "a") as file:
            file.write(f"{word} {os.getpid()} {trial.params['x']} {trial.params['flag']}\n")

    def objective(trial: Trial) -> float:
        result = value(trial)
        note("start", trial)
        time.sleep(float(seconds))
        until = time.monotonic() + 60
        while len({line.split()[1] for line in Path(log).read_text().splitlines()}) < int(together):
            assert time.monotonic() < until
            time.sleep(0.02)
        note("end", trial)
        return result

    run_trials(toy_search(int(n_trials), objective), open_storage(storage), seeded=together == "1")


if __name__ == "__main__":
    main(*sys.argv[1:])
