"""`wssis tune`: run a search by one or several processes, as other machines do with the same storage."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable

from pipelines import paths
from pipelines.config.params import load_params
from pipelines.console.progress import Meter
from pipelines.runner.run_stage import StageContext, exit_code
from pipelines.search.log import TrialLog
from pipelines.search.storage import open_storage
from pipelines.search.study import (
    Search,
    best_trial,
    default_value,
    finished,
    is_pruned,
    open_study,
    run_trials,
)
from pipelines.tracking.tracker import NullTracker
from wssis.errors import InputError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

MakeSearch = Callable[[StageContext], Search]


def tune(name: str, make_search: MakeSearch, workers: int) -> None:
    """Run the trials that a search has left, and print the result.

    Args:
        name: the stage, "tune_refiner" or "tune_pseudo".
        make_search: `search` of the stage's module.
        workers: number of processes, this one included; several have one thread each.

    Raises:
        InputError: params, storage or inputs of the search are invalid, or there are no trials to run.
    """
    stage = StageContext(name, load_params())
    if not getattr(stage.params, name).n_trials:
        raise InputError(
            "expected at least 1 trial, found 0",
            where=paths.PARAMS,
            record=f"{name}.n_trials",
            remedy="Set it to the number of trials, the defaults included",
        )
    if workers > 1:
        os.environ |= dict.fromkeys(THREADS, "1")
    search, storage = make_search(stage), open_storage(stage.params.optuna.storage)
    open_study(search, storage)  # once, before workers come
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_work, args=(name, make_search)) for _ in range(workers - 1)]
    try:
        for process in others:
            process.start()
        with Meter(name, search.n_trials, "trials") as meter:
            log = TrialLog(NullTracker(), meter)
            study = run_trials(search, storage, [log], seeded=workers == 1)
            for process in others:
                process.join()
            log(study)
    finally:
        for process in others:
            process.terminate()
    trials, best = finished(study), best_trial(study)
    print(
        f"{name}: {len(trials)} trials, {sum(map(is_pruned, trials))} pruned; "
        f"{default_value(study):.4f} with the defaults, "
        f"{best.value:.4f} with trial {best.number}. Run `dvc repro {name}` to use them"
    )


def _work(name: str, make_search: MakeSearch) -> None:
    """One of the other processes."""

    def work() -> None:
        stage = StageContext(name, load_params())
        run_trials(make_search(stage), open_storage(stage.params.optuna.storage), seeded=False)

    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (progress of several processes would mix)
    sys.exit(exit_code(work))
