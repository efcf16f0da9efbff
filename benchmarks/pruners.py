"""Optuna's pruners on tune_refiner: share of training steps run, share of searches that lose the best.

    python -m benchmarks.pruners [--trainings N] [--trials N] [--orders N] [--kept FILE]

Run it in the project's root after `dvc repro`. It trains N refiners with random settings to the end and keeps
their reports in FILE (default `.scratch/pruners.json`); a second call trains only what is missing. It then
replays searches that meet these trainings in random orders. Studies of real searches would not do: how a
pruned trial would have ended is unknown.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FixedTrial, TrialState

from pipelines.config.params import load_params
from pipelines.console.progress import Meter
from pipelines.runner.run_stage import StageContext, exit_code
from pipelines.search.refiner_objective import space_of
from pipelines.stages.report import as_markdown
from pipelines.stages.tune_refiner import objective
from wssis.errors import InputError
from wssis.files import write_json

KEPT = Path(".scratch/pruners.json")
Training = dict[str, Any]  # values; reports: {step: IoU}


@dataclass(frozen=True)
class Outcome:
    """A pruner's result in one order: share of the steps run, and whether the best trial was pruned."""

    spent: float
    lost: bool


class Recorder(FixedTrial):
    """A trial with given values that keeps its reports and is never pruned."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.reports: dict[str, float] = {}

    def report(self, value: float, step: int) -> None:
        """Keep a report."""
        self.reports[str(step)] = value


def pruners(steps: list[int]) -> dict[str, BasePruner]:
    """The pruners by name; `steps` are those at which trials report."""
    first, last = steps[0], steps[-1]
    half = next(step for step in steps if 2 * step >= last)
    return {
        "none": NopPruner(),
        "Hyperband, reduction 2": HyperbandPruner(first, last, 2),
        "Hyperband, reduction 3": HyperbandPruner(first, last, 3),
        f"successive halving from step {first}": SuccessiveHalvingPruner(first, 2),
        f"successive halving from step {half}": SuccessiveHalvingPruner(half, 2),
        "median, after 2 trials": MedianPruner(2),
        "median, after 5 trials": MedianPruner(5),
    }


def replay(order: list[Training], pruner: str, name: str) -> Outcome:
    """A search over the trainings in this order. Hyperband assigns brackets by the study's `name`."""
    steps = sorted(map(int, order[0]["reports"]))
    study = optuna.create_study(study_name=name, direction="maximize", pruner=pruners(steps)[pruner])
    spent = 0
    for training in order:
        trial = study.ask()
        for step in steps:
            trial.report(training["reports"][str(step)], step)
            if step < steps[-1] and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, training["reports"][str(steps[-1])])
        spent += step
    best = int(np.argmax([training["reports"][str(steps[-1])] for training in order]))
    return Outcome(spent / (steps[-1] * len(order)), study.trials[best].state == TrialState.PRUNED)


def table(trainings: list[Training], trials: int, orders: int) -> list[tuple[str, ...]]:
    """Rows of mean share of steps and share of orders that lost their best trial, over the same orders."""
    rng = np.random.default_rng(0)
    drawn = [[trainings[n] for n in rng.permutation(len(trainings))[:trials]] for _ in range(orders)]
    rows: list[tuple[str, ...]] = [("pruner", "steps run", "best trial lost")]
    names = pruners(sorted(map(int, trainings[0]["reports"])))
    with Meter("replay", len(names), "pruners") as meter:
        for pruner in names:
            outcomes = [replay(order, pruner, f"order {place}") for place, order in enumerate(drawn)]
            spent, lost = (np.mean([getattr(one, field) for one in outcomes]) for field in ("spent", "lost"))
            rows.append((pruner, f"{spent:.0%}", f"{lost:.0%}"))
            meter.step()
    return rows


def record(count: int, kept: Path) -> list[Training]:
    """Trainings with random settings, the same for one seed; those in `kept` are not repeated."""
    stage = StageContext("pruners", load_params())
    train = objective(stage)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=stage.params.seed))
    wanted = [dict(study.ask(dict(space_of(train.section))).params) for _ in range(count)]
    known: list[Training] = json.loads(kept.read_text()) if kept.exists() else []
    if [one["values"] for one in known[:count]] != wanted[: len(known)]:
        raise InputError(
            "expected trainings with the settings of this project's params, found others",
            where=kept,
            remedy="Name another file with --kept",
        )
    with Meter("trainings", count, "trainings") as meter:
        for number in range(count):
            if number >= len(known):
                trial = Recorder(wanted[number])
                train(trial)  # type: ignore[arg-type]
                known.append({"values": wanted[number], "reports": trial.reports})
                write_json(kept, known)
            meter.step("", number + 1)
    return known[:count]


def run(count: int, trials: int, orders: int, kept: Path) -> None:
    """Train what is missing and print the table."""
    trainings = record(count, kept)
    print(f"{len(trainings)} trainings, {orders} orders of {trials}")
    print(as_markdown(table(trainings, trials, orders)))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruners", description=__doc__.split("\n")[0])
    parser.add_argument("--trainings", type=int, default=24, help="to record; default 24")
    parser.add_argument("--trials", type=int, default=12, help="of a replayed search; default 12")
    parser.add_argument("--orders", type=int, default=150, help="default 150")
    parser.add_argument("--kept", type=Path, default=KEPT, help=f"default {KEPT}")
    given = parser.parse_args(arguments)
    if not 1 <= given.trials <= given.trainings or given.orders < 1:
        parser.error("expected at least one order, and no more trials than trainings")
    return exit_code(lambda: run(given.trainings, given.trials, given.orders, given.kept))


if __name__ == "__main__":
    sys.exit(main())
