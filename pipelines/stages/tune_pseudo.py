"""tune_pseudo: rules for pseudo-labels that serve held-out strong images best."""

import sys
from dataclasses import asdict

import torch

from pipelines import paths
from pipelines.curves import write_csv
from pipelines.labeling import beats_chance, proposals, worth
from pipelines.models import load_labeler
from pipelines.params import write_yaml
from pipelines.progress import Meter
from pipelines.stage import Stage, run
from pipelines.tuning import SPACE, search
from wssis.rules import decide
from wssis.settings import PseudoRules

KEYS = ["trial", "value", "best", *SPACE]


def tune_pseudo(stage: Stage) -> None:
    """Search over what the networks said once: a trial costs no network pass."""
    params = stage.params
    defaults, n_trials = params.pseudo, params.tune_pseudo.n_trials
    cached = []
    if n_trials:
        labeler, _ = load_labeler(paths.TEACHER, paths.REFINER, defaults, stage.device)
        holdout = stage.load(paths.HOLDOUT)
        cached = [(given, r.instances()) for r, given in proposals(labeler, holdout, "holdout") if r.objects]

    def worths(rules: PseudoRules) -> torch.Tensor:
        each = [worth(decide(given, rules), truth) for given, truth in cached]
        return torch.cat(each) if each else torch.zeros(1)

    def objective(rules: PseudoRules) -> float:
        return float(worths(rules).mean())

    with Meter("tune_pseudo", n_trials, "trials") as meter:

        def on_trial(row: dict[str, float]) -> None:
            meter.step(f"best {row['best']:.4f}")
            stage.tracker.metrics({"tune/worth": row["value"], "tune/best": row["best"]}, int(row["trial"]))

        study = search(objective, defaults, n_trials, params.seed, on_trial)
    sure = beats_chance(worths(study.rules), worths(defaults))
    rules = study.rules if sure else defaults
    write_yaml(
        paths.TUNED_PSEUDO,
        {"pseudo": asdict(rules)},
        "Written by the stage tune_pseudo; in force with tune_pseudo.use_tuned.",
    )
    write_csv(paths.PLOT_TUNE_PSEUDO, study.rows or [dict.fromkeys(KEYS, 0.0)])
    if study.rows:
        gain = study.rows[-1]["best"] - study.rows[0]["value"]
        stage.tracker.metrics({"tune/gain": gain, "tune/kept": float(sure)})
        best = f"worth of a label {study.rows[-1]['best']:.4f}, {gain:+.4f} against the rules in params"
        stage.say(f"{best}; {'kept' if sure else 'within chance: the rules in params stay'}")


if __name__ == "__main__":
    sys.exit(run("tune_pseudo", tune_pseudo, ("seed", "pseudo", "tune_pseudo")))
