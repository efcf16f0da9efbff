"""`wssis tune`: trials of a search by one or several processes of this machine.

Several machines do the same with one storage. The stage of `dvc repro` is a worker like these, and takes
over what they found.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from pipelines import paths
from pipelines.config.params import load_params
from pipelines.console.progress import Meter
from pipelines.runner.run_stage import StageContext, exit_code
from pipelines.search.storage import open_storage
from pipelines.search.study import Search, TrialResult, best_of, finished, open_study, work
from wssis.errors import InputError

POLL_S = 0.5
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def tune(study: str, workers: int) -> None:
    """Run what is left of a study, and say what it came to.

    Args:
        study: "refiner" or "pseudo".
        workers: processes; where there are several, each has one thread.

    Raises:
        InputError: params, storage or what the search needs cannot be used, or there is nothing to search.
    """
    stage, search = opened(study)
    storage = open_storage(stage.params.optuna.storage)
    codes: list[int] = []
    with Meter(stage.name, search.n_trials, "trials") as meter:

        def show(tried: Sequence[TrialResult]) -> None:
            if len(tried) > meter.done:
                meter.step(f"best {best_of(tried).worth:.4f}" if tried[0].slot == 0 else "", len(tried))

        if workers == 1:
            tried = work(search, storage, show)
        else:
            running = open_study(search, storage)
            codes = wait_for(study, workers, lambda: show(finished(running, search.n_trials)))
            tried = finished(running, search.n_trials)
            show(tried)
    if len(tried) < search.n_trials:
        raise SystemExit(max(codes, default=1) or 1)  # the workers have said why
    best = best_of(tried)
    print(
        f"{stage.name}: {len(tried)} trials, {sum(bool(one.pruned) for one in tried)} pruned; "
        f"{tried[0].worth:.4f} with the defaults, {best.worth:.4f} with trial {best.slot}. "
        f"`dvc repro {stage.name}` takes them over"
    )


def opened(study: str) -> tuple[StageContext, Search]:
    """A study's stage, without tracking, and what it searches."""
    name = f"tune_{study}"
    stage = StageContext(name, load_params())
    if not getattr(stage.params, name).n_trials:
        raise InputError(
            "expected at least 1 trial, found 0",
            where=paths.PARAMS,
            record=f"{name}.n_trials",
            remedy="Say how many there should be in all",
        )
    return stage, importlib.import_module(f"pipelines.stages.{name}").search(stage)


def wait_for(study: str, workers: int, show: Callable[[], None]) -> list[int]:
    """Start the workers and wait; returns their exit codes, 1 for one that was killed."""
    words = [sys.executable, "-m", "pipelines.search.workers", study]
    environment = os.environ | dict.fromkeys(THREADS, "1")
    # What the workers print beside errors would be mixed line by line.
    processes = [subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) for _ in range(workers)]
    try:
        while any(process.poll() is None for process in processes):
            show()
            time.sleep(POLL_S)
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait()
    return [1 if process.returncode < 0 else process.returncode for process in processes]


def worker(study: str) -> None:
    """One of several; it ends after its trial if the process that started it is gone."""
    parent = os.getppid()
    stage, search = opened(study)
    work(search, open_storage(stage.params.optuna.storage), stop=lambda: os.getppid() != parent)


if __name__ == "__main__":
    sys.exit(exit_code(lambda: worker(sys.argv[1])))
