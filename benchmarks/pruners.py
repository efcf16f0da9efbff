"""What pruning rules save of a search's training steps, and how often they lose the best trial.

    python -m benchmarks.pruners [--trainings N] [--trials N] [--orders N] [--kept FILE]

in the project's root after `dvc repro`. Trains N refiners with random settings of `tune_refiner`, none
stopped, and keeps what each reported in FILE (default `.scratch/pruners.json`; a second call trains only what
is missing). Each order draws some of them; at every step each rule is asked whether a search that met them in
this order would have stopped the one at hand. Studies of real searches would not do for this: of the trials
that were pruned there, the rest is not known.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from pipelines.config.params import load_params
from pipelines.console.progress import Meter
from pipelines.runner.run_stage import StageContext, exit_code
from pipelines.search.pruning import PAIRS, OverSteps
from pipelines.search.study import Values
from pipelines.search.trial_claims import distributions
from pipelines.stages.report import as_markdown
from pipelines.stages.tune_refiner import trainings
from wssis.errors import InputError
from wssis.files import write_json

KEPT = Path(".scratch/pruners.json")
Training = dict[str, Any]  # values; worth and pairs, by step


@dataclass(frozen=True)
class Outcome:
    """Of a rule in one order: share of the steps that were run, and whether the best trial was stopped."""

    spent: float
    lost: bool


def rules(steps: list[int]) -> dict[str, Callable[[optuna.Study, FrozenTrial], bool]]:
    """Whether a trial should end after its last report, by rule; `steps` are those that trials report at."""
    first, last = steps[0], steps[-1]
    half = next(step for step in steps if 2 * step >= last)
    halving, hyperband = optuna.pruners.SuccessiveHalvingPruner, optuna.pruners.HyperbandPruner
    pruners: dict[str, optuna.pruners.BasePruner] = {
        "none": optuna.pruners.NopPruner(),
        "Hyperband, reduction 2": hyperband(first, last, 2),
        "Hyperband, reduction 3": hyperband(first, last, 3),
        f"successive halving from step {first}": halving(first, 2),
        f"successive halving from step {half}": halving(half, 2),
        "median, after 2 trials": optuna.pruners.MedianPruner(2),
        "median, after 5 trials": optuna.pruners.MedianPruner(5),
    }
    found: dict[str, Callable[[optuna.Study, FrozenTrial], bool]] = {
        name: pruner.prune for name, pruner in pruners.items()
    }
    ours = OverSteps()
    return found | {f"Wilcoxon over objects, p < {ours.p:g}": lambda study, t: bool(ours.reason(study, t))}


def replayed(order: list[Training], rule: str, name: str) -> Outcome:
    """A search that meets trainings in an order. Hyperband sorts trials by `name`, the study's, and place."""
    steps = sorted(map(int, order[0]["worth"]))
    stops = rules(steps)[rule]
    study = optuna.create_study(study_name=name, direction="maximize")
    spent, stopped = 0, set()
    for number, training in enumerate(order):
        trial = study.ask()
        for step in steps:
            trial.report(training["worth"][str(step)], step)
            trial.set_user_attr(PAIRS.format(step), training["pairs"][str(step)])
            if step < steps[-1] and stops(study, study.get_trials(deepcopy=False)[number]):
                stopped.add(number)
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, training["worth"][str(steps[-1])])
        spent += step
    ends = [training["worth"][str(steps[-1])] for training in order]
    return Outcome(spent / (steps[-1] * len(order)), int(np.argmax(ends)) in stopped)


def table(known: list[Training], trials: int, orders: int) -> list[tuple[str, ...]]:
    """Rows of mean share of steps and share of orders that lost their best trial, over the same orders."""
    chance = np.random.default_rng(0)
    drawn = [[known[n] for n in chance.permutation(len(known))[:trials]] for _ in range(orders)]
    rows: list[tuple[str, ...]] = [("rule", "steps spent", "best trial lost")]
    names = rules(sorted(map(int, known[0]["worth"])))
    with Meter("replay", len(names), "rules") as meter:
        for rule in names:
            found = [replayed(order, rule, f"order {place}") for place, order in enumerate(drawn)]
            spent, lost = np.mean([one.spent for one in found]), np.mean([one.lost for one in found])
            rows.append((rule, f"{spent:.0%}", f"{lost:.0%}"))
            meter.step()
    return rows


def record(count: int, kept: Path) -> list[Training]:
    """Trainings with random settings, the same for one seed; those in `kept` are not trained again."""
    stage = StageContext("pruners", load_params())
    made = trainings(stage)
    search = made.search(count, {})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=stage.params.seed))
    wanted = [dict(study.ask(distributions(search)).params) for _ in range(count)]
    known: list[Training] = json.loads(kept.read_text()) if kept.exists() else []
    if [one["values"] for one in known[:count]] != wanted[: len(known)]:
        raise InputError(
            "expected trainings with the settings that this project's params lead to, found others",
            where=kept,
            remedy="Name another file with --kept",
        )
    with Meter("trainings", count, "trainings") as meter:
        for number, values in enumerate(wanted):
            if number >= len(known):
                known.append(trained(made.objective, values))
                write_json(kept, known)
            meter.step("", number + 1)
    return known[:count]


def trained(objective: Callable[..., float], values: Values) -> Training:
    """What one training reports; nothing ends it."""
    worth: dict[str, float] = {}
    each: dict[str, list[float]] = {}

    def note(step: int, value: float, pairs: Sequence[float] = (), last: bool = False) -> None:
        worth[str(step)], each[str(step)] = value, list(pairs)

    objective(values, note)
    return {"values": values, "worth": worth, "pairs": each}


def run(count: int, trials: int, orders: int, kept: Path) -> None:
    """Train what is missing and print the table."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    known = record(count, kept)
    objects = len(next(iter(known[0]["pairs"].values())))
    print(f"{len(known)} trainings, {objects} held-out objects; {orders} orders of {trials}")
    print(as_markdown(table(known, trials, orders)))


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
