"""The student of a row: trained and measured in the same way for every row.

python -m pipelines.comparison.students train|evaluate ROW
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from pipelines import paths
from pipelines.comparison.rows import ROWS, STUDENT, label_hours
from pipelines.config.params import parse
from pipelines.config.schema import Params
from pipelines.inference.label_dataset import predicted_results
from pipelines.inference.load_models import load_predictor
from pipelines.runner.run_stage import Outcome, StageContext, run
from pipelines.stages.train import student
from wssis.evaluation.coco_ap import results_ap
from wssis.files import write_json

SECTIONS = {"train": ("seed", "model", "resize", "augment", "student"), "evaluate": ("evaluate", "compare")}


def train(stage: StageContext, row: str) -> None:
    """The student's training on the labels of a row, with the settings in which it differs from others."""
    if row in STUDENT:
        stage = replace(stage, params=with_settings(stage.params, *STUDENT[row]))
    student(stage, paths.ROW_LABELS / f"{row}.json", paths.ROW_MODELS / row, paths.ROW_PLOTS / f"{row}.csv")


def with_settings(params: Params, section: str, changes: Mapping[str, Any]) -> Params:
    """Params with other values in one section."""
    values = params.model_dump(mode="json")
    return parse({**values, section: {**values[section], **changes}}, Params, where=paths.PARAMS)


def evaluate(stage: StageContext, row: str) -> Outcome:
    """AP of a row's student on `val`, the number of masks on weak images, hours of labeling."""
    settings = stage.params.evaluate
    val, points = stage.load(paths.PREPARED_VAL), stage.load(paths.POINTS)
    folder = paths.ROW_MODELS / row
    predictor, _ = load_predictor(folder, settings.decode, settings.batch_size, stage.device)
    results = predicted_results(predictor, val, row, stage.scratch.journal(row))
    scores = results_ap(val, results, settings.decode.max_detections, settings.backend)
    ledger = json.loads(paths.LEDGER.read_text())
    seconds = stage.params.compare.class_seconds
    hours = label_hours(row, ledger, len(points.images), points.num_classes, seconds)
    masks = stage.load(paths.ROW_LABELS / f"{row}.json").num_objects
    measured = {**scores, "masks": masks, "label_hours": round(hours, 6)}
    write_json(paths.measured_file(f"{row}.json"), measured, indent=2)
    stage.say(f"AP {scores['AP']:.3f}, {masks} masks on weak images, {hours:.2f} h of labeling")
    return Outcome(headline={f"{row}/{name}": value for name, value in measured.items()})


def main(arguments: list[str]) -> int:
    """Run a stage of a row; returns the exit code."""
    match arguments:
        case ["train" | "evaluate" as name, row] if row in ROWS:
            body = partial(train if name == "train" else evaluate, row=row)
            return run(f"{name} {row}", body, SECTIONS[name], distributed=name == "train")
    print(f"usage: train|evaluate {'|'.join(ROWS)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
