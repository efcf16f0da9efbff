"""A search that costs nothing, and a worker of it as a process that tests can kill.

    python toy_worker.py STORAGE LOG N_TRIALS SECONDS [TOGETHER]

LOG gets a line at the start and at the end of each trial. With TOGETHER no trial ends before so many
processes have begun one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.search.pruning import OverImages
from pipelines.search.storage import open_storage
from pipelines.search.study import Choice, Range, Report, Search, Values, work

DEFAULTS = {"x": 0.9, "flag": False}


def worth(values: Values) -> float:
    """Best at .3, with the flag."""
    return -abs(values["x"] - 0.3) + 0.1 * values["flag"]


def toy_search(
    n_trials: int, objective: Callable[[Values, Report], float] = lambda values, _: worth(values), **changes
) -> Search:
    settings = {
        "name": "toy",
        "space": {"x": Range(0.0, 1.0), "flag": Choice((False, True))},
        "defaults": DEFAULTS,
        "objective": objective,
        "n_trials": n_trials,
        "seed": 0,
        "pruning": OverImages(),
        "identity": {"data": "abc"},
    }
    return Search(**(settings | changes))


def main(storage: str, log: str, n_trials: str, seconds: str, together: str = "1") -> None:
    def note(word: str, values: Values) -> None:
        with open(log, "a") as file:
            file.write(f"{word} {os.getpid()} {values['x']} {values['flag']}\n")

    def objective(values: Values, report: Report) -> float:
        note("start", values)
        time.sleep(float(seconds))
        until = time.monotonic() + 60
        while len({line.split()[1] for line in Path(log).read_text().splitlines()}) < int(together):
            assert time.monotonic() < until
            time.sleep(0.02)
        note("end", values)
        return worth(values)

    work(toy_search(int(n_trials), objective), open_storage(storage))


if __name__ == "__main__":
    main(*sys.argv[1:])
