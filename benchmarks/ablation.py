"""The student's training on other labels: what refining bought, and what all masks would have bought.

    python -m benchmarks.ablation rough full [--out FILE]

in the project's root after `dvc repro`: the student's params, seed, steps and pictures in the same order,
but other labels for the weak images. `rough`: masks of the teacher alone, by the rules in force. `full`: the
true masks of all images. AP on `val` is printed beside that of metrics/{strong_only,student}.json.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from pipelines import paths
from pipelines.config.params import load_params, rules_in_force
from pipelines.inference.label_dataset import labelled, predicted_results, proposals
from pipelines.inference.load_models import load_solov2
from pipelines.runner.run_stage import StageContext, exit_code
from pipelines.stages.report import as_markdown
from pipelines.stages.train import train_student
from wssis.data.coco import CocoData
from wssis.errors import InputError
from wssis.evaluation.coco_ap import AP_KEYS, results_ap
from wssis.files import write_json
from wssis.inference.predictor import Predictor
from wssis.models.solov2 import SOLOv2
from wssis.pseudo_labels.labeler import Labeler
from wssis.pseudo_labels.rules import decide


def rough(stage: StageContext) -> CocoData:
    """Weak images labelled as the stage pseudo would without a refiner."""
    rules = replace(rules_in_force(stage.params), refined_weight=0.0)
    teacher = load_solov2(paths.TEACHER, stage.device)
    labeler = Labeler(teacher.model, None, teacher.resize, rules, teacher.views)
    points = stage.load(paths.POINTS)
    images = [labelled(record, decide(given, rules)) for record, given in proposals(labeler, points, "rough")]
    weak = replace(points, images=tuple(images), path=None)
    stage.say(f"{points.num_objects} points, {weak.num_objects} masks")
    return weak


def full(stage: StageContext) -> CocoData:
    """Weak images with their true masks."""
    print(
        f"full: ATTENTION, this reads {paths.PREPARED_TRAIN}: true masks of the weak images, which no stage "
        "after split may see. It is an upper bound to compare with, never a model to use.",
        file=sys.stderr,
    )
    weak = stage.load(paths.POINTS)
    return stage.load(paths.PREPARED_TRAIN).subset(image.id for image in weak.images)


VARIANTS = {"rough": rough, "full": full}


def measured(name: str) -> dict[str, float]:
    """Train a variant; its AP on `val` as the stage evaluate measures it."""
    stage = StageContext(name, load_params())
    evaluate = stage.params.evaluate
    model = train_student(stage, VARIANTS[name](stage), paths.SCRATCH / "ablation" / f"{name}.csv").model
    assert isinstance(model, SOLOv2)
    val = stage.load(paths.PREPARED_VAL)
    predictor = Predictor(model, stage.params.resize, evaluate.decode, evaluate.batch_size)
    return results_ap(val, predicted_results(predictor, val, name), evaluate.decode.max_detections)


def metrics_of(path: Path) -> dict[str, float]:
    """Metrics that the stage evaluate wrote."""
    if not path.exists():
        raise InputError("does not exist", where=path, remedy="Run `dvc repro` first")
    return json.loads(path.read_text())


def run(names: list[str], out: str | None) -> None:
    """Print, and write to `out`, the AP of the variants beside those of the pipeline."""
    before, after = metrics_of(paths.METRICS_STRONG_ONLY), metrics_of(paths.METRICS_STUDENT)
    found = {name: measured(name) for name in VARIANTS if name in names}
    scores = {"strong_only": before, **found, "student": after}
    if "full" in scores:
        scores["full"] = scores.pop("full")  # last: what the others are measured by
    whole = scores.get("full", {}).get("AP", 0.0)
    header = ("labels of weak images", *AP_KEYS, "AP / full")
    rows = [
        (
            name,
            *(f"{score[key]:.3f}" if score[key] >= 0 else "–" for key in AP_KEYS),
            f"{score['AP'] / whole:.3f}" if whole > 0 else "–",
        )
        for name, score in scores.items()
    ]
    print(as_markdown([header, *rows]))
    if out:
        write_json(out, scores, indent=2)
    else:
        print(json.dumps(scores, indent=2))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__.split("\n")[0])
    parser.add_argument("variants", nargs="+", choices=list(VARIANTS), help="labels of the weak images")
    parser.add_argument("--out", help="JSON file to write; printed if not given")
    given = parser.parse_args(arguments)
    return exit_code(lambda: run(given.variants, given.out))


if __name__ == "__main__":
    sys.exit(main())
