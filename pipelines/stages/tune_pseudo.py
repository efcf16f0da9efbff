"""tune_pseudo: search the rules for pseudo-labels on held-out strong images."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from pipelines import paths
from pipelines.config.params import write_yaml
from pipelines.provenance import dep_digests
from pipelines.runner.run_stage import Outcome, StageContext, run
from pipelines.runner.training_log import write_csv
from wssis.pseudo_labels.rules import PseudoRules

if TYPE_CHECKING:
    from pipelines.search.rules_objective import RulesObjective
    from pipelines.search.study import Search
    from wssis.instances import Instances
    from wssis.pseudo_labels.proposals import Proposals


def _objective(stage: StageContext) -> RulesObjective:
    """The objective, which runs teacher and refiner when it is first called."""
    from pipelines.inference.label_dataset import proposals  # torch; not needed without trials
    from pipelines.inference.load_models import load_labeler
    from pipelines.search.rules_objective import RulesObjective

    params, holdout = stage.params, stage.load(paths.HOLDOUT)

    def propose() -> list[tuple[Proposals, Instances]]:
        labeler, _ = load_labeler(paths.TEACHER, paths.REFINER, params.pseudo, stage.device)
        return [(given, r.instances()) for r, given in proposals(labeler, holdout, "holdout") if r.objects]

    return RulesObjective(params.pseudo, propose, params.seed)


def search(stage: StageContext) -> Search:
    """What the workers of `wssis tune pseudo` search."""
    return _objective(stage).search(stage.params.tune_pseudo.n_trials, dep_digests("tune_pseudo"))


def best_rules(stage: StageContext, scored: RulesObjective) -> tuple[PseudoRules, Outcome]:
    """The best rules of a search if they beat those in params by more than chance; else those in params."""
    from pipelines.inference.label_dataset import beats_chance
    from pipelines.search.log import run_search
    from pipelines.search.space import rounded
    from pipelines.search.study import best_trial, default_value, is_default

    rules = stage.params.pseudo
    found = scored.search(stage.params.tune_pseudo.n_trials, dep_digests("tune_pseudo"))
    study = run_search(stage, found, paths.PLOT_TUNE_PSEUDO)
    best = best_trial(study)
    better = rules if is_default(best) else replace(rules, **rounded(best.params))
    pairs = zip(scored.utilities(better), scored.utilities(rules), strict=True)
    kept = beats_chance([ours - theirs for ours, theirs in pairs])
    value = best.value or 0.0
    gain = value - default_value(study)
    outcome = "kept" if kept else "within chance: the rules in params stay"
    stage.say(f"label utility {value:.4f}, {gain:+.4f} to the rules in params; {outcome}")
    chosen = better if kept else rules
    return chosen, Outcome(metrics={"tune/gain": gain, "tune/kept": float(kept)})


def tune_pseudo(stage: StageContext) -> Outcome:
    """Write the rules in force with `use_tuned`."""
    settings, rules, logged = stage.params.tune_pseudo, stage.params.pseudo, Outcome()
    scored = _objective(stage) if settings.n_trials or settings.match_area else None
    if scored and settings.n_trials:
        rules, logged = best_rules(stage, scored)
    else:
        write_csv(paths.PLOT_TUNE_PSEUDO, [{"trial": 0, "value": 0.0, "best": 0.0, "pruned": 0}])
    if scored and settings.match_area:
        from wssis.pseudo_labels.decisions import matched_threshold

        rules = replace(rules, mask_threshold=matched_threshold(scored.images, rules))
        stage.say(f"masks are as large as the drawn ones at mask_threshold {rules.mask_threshold:g}")
    write_yaml(
        paths.TUNED_PSEUDO,
        {"pseudo": asdict(rules)},
        "Written by the stage tune_pseudo; in force with tune_pseudo.use_tuned.",
    )
    return logged


if __name__ == "__main__":
    sys.exit(run("tune_pseudo", tune_pseudo, ("seed", "pseudo", "tune_pseudo"), resumable=False))
