"""split of a cell: the pipeline's own; and the labels of `strong_only`, which has no weak image."""

import sys
from dataclasses import replace

from pipelines import paths
from pipelines.runner.run_stage import StageContext, run
from pipelines.stages.split import split as draw
from wssis.data.coco import save_coco


def split(stage: StageContext) -> None:
    """Draw the split, and write labels of no image at all."""
    draw(stage)
    save_coco(replace(stage.load(paths.POINTS), images=(), path=None), paths.ROW_LABELS / "strong_only.json")


if __name__ == "__main__":
    sys.exit(run("split", split, ("seed", "split", "prices")))
