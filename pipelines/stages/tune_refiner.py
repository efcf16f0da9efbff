"""tune_refiner: search settings of the refiner with short trainings, scored on held-out strong images."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pipelines import paths
from pipelines.config.params import write_yaml
from pipelines.config.schema import Refiner
from pipelines.provenance import dep_digests
from pipelines.runner.run_stage import Outcome, StageContext, run, with_objects
from pipelines.runner.training_log import write_csv

if TYPE_CHECKING:
    from pipelines.search.refiner_objective import RefinerObjective
    from pipelines.search.study import Search


def objective(stage: StageContext) -> RefinerObjective:
    """The objective: short trainings, and what scores them."""
    from pipelines.search.refiner_objective import RefinerObjective  # torch; not needed without trials

    return RefinerObjective(
        section=stage.params.refiner,
        steps=stage.params.tune_refiner.iterations,
        seed=stage.params.seed,
        teacher=paths.TEACHER,
        strong=with_objects(stage.load(paths.STRONG), paths.STRONG),
        roughs=[stage.load(paths.ROUGH_EARLY), stage.load(paths.ROUGH_LATE)],
        holdout=stage.load(paths.HOLDOUT),
        device=stage.device,
    )


def search(stage: StageContext) -> Search:
    """What the workers of `wssis tune refiner` search."""
    return objective(stage).search(stage.params.tune_refiner.n_trials, dep_digests("tune_refiner"))


def best_settings(stage: StageContext) -> tuple[Refiner, Outcome]:
    """The best settings of a search if they beat the defaults with other seeds, too; else the defaults."""
    from pipelines.search.log import run_search
    from pipelines.search.refiner_objective import OTHER_SEEDS, with_settings
    from pipelines.search.space import rounded
    from pipelines.search.study import best_trial, judge_once

    trained = objective(stage)
    searched = trained.search(stage.params.tune_refiner.n_trials, dep_digests("tune_refiner"))
    study = run_search(stage, searched, paths.PLOT_TUNE_REFINER)
    best = best_trial(study)
    values = rounded(best.params)
    kept, gain = judge_once(study, best, lambda: trained.beats_defaults(values))
    outcome = "kept" if kept else "within chance: the settings in params stay"
    stage.say(f"IoU {best.value:.4f}; {gain:+.4f} to the defaults with {OTHER_SEEDS} other seeds; {outcome}")
    chosen = with_settings(stage.params.refiner, values) if kept else stage.params.refiner
    return chosen, Outcome(metrics={"tune/gain": gain, "tune/kept": float(kept)})


def tune_refiner(stage: StageContext) -> Outcome:
    """Write the settings in force with `use_tuned`."""
    if stage.params.tune_refiner.n_trials:
        section, logged = best_settings(stage)
    else:
        section, logged = stage.params.refiner, Outcome()
        write_csv(paths.PLOT_TUNE_REFINER, [{"trial": 0, "value": 0.0, "best": 0.0, "pruned": 0}])
    write_yaml(
        paths.TUNED_REFINER,
        {"refiner": section.model_dump(mode="json")},
        "Written by the stage tune_refiner; in force with tune_refiner.use_tuned.",
    )
    return logged


if __name__ == "__main__":
    sys.exit(run("tune_refiner", tune_refiner, ("seed", "refiner", "tune_refiner"), resumable=False))
