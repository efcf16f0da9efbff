"""sweep: misses and false masks of the teacher's predictions at every threshold, on `val`, as a report.

The thresholds in use were chosen by the stage predicted, without `val`.
"""

import json
import sys

from pipelines import paths
from pipelines.comparison.predicted import matches_by_row, predictions
from pipelines.comparison.thresholds import THRESHOLDS
from pipelines.inference.load_models import load_predictor
from pipelines.runner.run_stage import StageContext, run
from wssis.files import write_json


def sweep(stage: StageContext) -> None:
    """Write shares by row and threshold, and the thresholds that were chosen."""
    settings = stage.params.evaluate
    predictor, _ = load_predictor(paths.TEACHER, settings.decode, settings.batch_size, stage.device)
    val = stage.load(paths.PREPARED_VAL)
    found = matches_by_row(predictions(predictor, val, "val"), val, settings.decode.max_detections)
    rows = {
        row: [{"threshold": t, "missed": matches.missed(t), "false": matches.false(t)} for t in THRESHOLDS]
        for row, matches in found.items()
    }
    out = paths.dvc_workspace() / paths.COMPARE_MEASURED / paths.cell() / "thresholds.json"
    write_json(out, {"chosen": json.loads(paths.THRESHOLDS.read_text()), "val": rows}, indent=2)


if __name__ == "__main__":
    sys.exit(run("sweep", sweep, ("evaluate",)))
