"""tune_refiner: settings of the refiner that serve held-out strong images best, from short trainings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pipelines import paths
from pipelines.config.params import write_yaml
from pipelines.provenance import dep_digests
from pipelines.runner.run_stage import StageContext, run, with_objects
from pipelines.search.log import conduct, write_nothing_tried
from pipelines.search.study import Search, best_of

if TYPE_CHECKING:
    from pipelines.search.refiner_objective import Trainings


def trainings(stage: StageContext) -> Trainings:
    """What trials train and are judged on."""
    from pipelines.search.refiner_objective import (
        Trainings,  # torch, for which a stage without trials need not wait
    )

    strong = with_objects(stage.load(paths.STRONG), paths.STRONG)
    return Trainings(
        section=stage.params.refiner,
        steps=stage.params.tune_refiner.iterations,
        seed=stage.params.seed,
        teacher=paths.TEACHER,
        strong=strong,
        roughs=[stage.load(paths.ROUGH_EARLY), stage.load(paths.ROUGH_LATE)],
        holdout=stage.load(paths.HOLDOUT),
        device=stage.device,
    )


def search(stage: StageContext) -> Search:
    """What `wssis tune` searches with several workers."""
    return trainings(stage).search(stage.params.tune_refiner.n_trials, dep_digests("tune_refiner"))


def tune_refiner(stage: StageContext) -> None:
    """Search, and keep what was found if it beats the defaults with other seeds, too."""
    section, n_trials = stage.params.refiner, stage.params.tune_refiner.n_trials
    if n_trials:
        from pipelines.search.refiner_objective import AGAIN, applied

        made = trainings(stage)
        found = conduct(stage, made.search(n_trials, dep_digests("tune_refiner")), paths.PLOT_TUNE_REFINER)
        best = best_of(found.tried)
        kept, gain = found.judged(best, lambda: made.beat_the_defaults(best.values))
        section = applied(section, best.values) if kept else section
        stage.tracker.metrics({"tune/gain": gain, "tune/kept": float(kept)})
        outcome = "kept" if kept else "within chance: the settings in params stay"
        stage.say(f"IoU {best.worth:.4f}; with {AGAIN} other seeds {gain:+.4f} to the defaults; {outcome}")
    else:
        write_nothing_tried(paths.PLOT_TUNE_REFINER)
    write_yaml(
        paths.TUNED_REFINER,
        {"refiner": section.model_dump(mode="json")},
        "Written by the stage tune_refiner; in force with tune_refiner.use_tuned.",
    )


if __name__ == "__main__":
    sys.exit(run("tune_refiner", tune_refiner, ("seed", "refiner", "tune_refiner"), goes_on=False))
