"""ours: what the pipeline's own stage pseudo makes of the points, with tuned rules and all views."""

import sys

from pipelines import paths
from pipelines.runner.run_stage import StageContext, run
from pipelines.stages.pseudo import pseudo
from wssis.data.coco import save_coco


def ours(stage: StageContext) -> None:
    """Label as the pipeline does, and give the labels the name of a row."""
    pseudo(stage)
    save_coco(stage.load(paths.LABELS), paths.ROW_LABELS / "ours.json")


if __name__ == "__main__":
    sys.exit(run("ours", ours, ("pseudo", "tune_pseudo")))
