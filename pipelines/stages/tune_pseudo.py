"""tune_pseudo: rules for pseudo-labels that serve held-out strong images best."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from pipelines import paths
from pipelines.config.params import write_yaml
from pipelines.provenance import dep_digests
from pipelines.runner.run_stage import StageContext, run
from pipelines.search.log import conduct, write_nothing_tried
from pipelines.search.study import Search, best_of

if TYPE_CHECKING:
    from pipelines.search.rules_objective import Rules
    from wssis.instances import Instances
    from wssis.pseudo_labels.proposals import Proposals


def rules(stage: StageContext) -> Rules:
    """What trials try; teacher and refiner are asked about the held-out images once."""
    from pipelines.inference.label_dataset import (
        proposals,  # torch, for which a stage without trials need not wait
    )
    from pipelines.inference.load_models import load_labeler
    from pipelines.search.rules_objective import Rules

    params, holdout = stage.params, stage.load(paths.HOLDOUT)

    def ask() -> list[tuple[Proposals, Instances]]:
        labeler, _ = load_labeler(paths.TEACHER, paths.REFINER, params.pseudo, stage.device)
        return [(given, r.instances()) for r, given in proposals(labeler, holdout, "holdout") if r.objects]

    return Rules(params.pseudo, ask, params.seed)


def search(stage: StageContext) -> Search:
    """What `wssis tune` searches with several workers."""
    return rules(stage).search(stage.params.tune_pseudo.n_trials, dep_digests("tune_pseudo"))


def tune_pseudo(stage: StageContext) -> None:
    """Search, and keep what was found if it beats the rules of params by more than chance."""
    chosen, n_trials = stage.params.pseudo, stage.params.tune_pseudo.n_trials
    if n_trials:
        from pipelines.inference.label_dataset import beats_chance

        tried = rules(stage)
        found = conduct(stage, tried.search(n_trials, dep_digests("tune_pseudo")), paths.PLOT_TUNE_PSEUDO)
        best = best_of(found.tried)
        gain, better = best.worth - found.tried[0].worth, replace(chosen, **best.values)
        pairs = zip(tried.worths(better), tried.worths(chosen), strict=True)
        kept = beats_chance([ours - theirs for ours, theirs in pairs])
        chosen = better if kept else chosen
        stage.tracker.metrics({"tune/gain": gain, "tune/kept": float(kept)})
        outcome = "kept" if kept else "within chance: the rules in params stay"
        stage.say(f"worth of a label {best.worth:.4f}, {gain:+.4f} to the rules in params; {outcome}")
    else:
        write_nothing_tried(paths.PLOT_TUNE_PSEUDO)
    write_yaml(
        paths.TUNED_PSEUDO,
        {"pseudo": asdict(chosen)},
        "Written by the stage tune_pseudo; in force with tune_pseudo.use_tuned.",
    )


if __name__ == "__main__":
    sys.exit(run("tune_pseudo", tune_pseudo, ("seed", "pseudo", "tune_pseudo"), goes_on=False))
