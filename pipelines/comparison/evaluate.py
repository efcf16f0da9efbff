"""evaluate: AP of a row's student on `val`, its labels counted and priced."""

import json
import sys

from pipelines import paths
from pipelines.comparison.rows import label_hours, run_row
from pipelines.inference.label_dataset import predicted_results
from pipelines.inference.load_models import load_predictor
from pipelines.runner.run_stage import StageContext
from wssis.evaluation.coco_ap import results_ap
from wssis.files import write_json


def evaluate(stage: StageContext, row: str) -> None:
    """Write AP, number of masks on weak images, and labelling hours."""
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
    write_json(
        paths.dvc_workspace() / paths.COMPARE_MEASURED / paths.cell() / f"{row}.json", measured, indent=2
    )
    stage.tracker.headline({f"{row}/{name}": value for name, value in measured.items()})
    stage.say(f"AP {scores['AP']:.3f}, {masks} masks on weak images, {hours:.2f} h of labelling")


if __name__ == "__main__":
    sys.exit(run_row("evaluate", evaluate, ("evaluate", "compare")))
