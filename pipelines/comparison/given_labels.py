"""Labels that nothing predicts: `strong_only`, which has none, and `oracle`, the true masks.

python -m pipelines.comparison.given_labels split|oracle
"""

from __future__ import annotations

import sys
from dataclasses import replace

from pipelines import paths
from pipelines.comparison.cell import run_named
from pipelines.runner.run_stage import StageContext
from pipelines.stages.split import split as draw_split
from wssis.data.coco import save_coco
from wssis.errors import InputError


def split(stage: StageContext) -> None:
    """The pipeline's split, and the labels of the row `strong_only`: no weak image."""
    draw_split(stage)
    save_coco(replace(stage.load(paths.POINTS), images=(), path=None), paths.ROW_LABELS / "strong_only.json")


def oracle(stage: StageContext) -> None:
    """ATTENTION: reads the true masks of the weak images, an upper bound, as no other part of compare does.

    Raises:
        InputError: a weak object has no true mask.
    """
    stage.say(f"ATTENTION, this reads {paths.WEAK_TRUTH}: true masks of weak images, as an upper bound")
    truth = stage.load(paths.WEAK_TRUTH)
    drawn = {item.id for image in truth.images for item in image.annotations}
    for image in stage.load(paths.POINTS).images:
        missing = [item.id for item in image.annotations if item.id not in drawn]
        if missing:
            raise InputError(
                f"expected a true mask of every weak object, found none of {missing[0]} in {image.file_name}",
                where=paths.WEAK_TRUTH,
                remedy="Remove oracle from compare.rows: these images have no masks",
            )
    save_coco(truth, paths.ROW_LABELS / "oracle.json")


STAGES = {"split": (split, ("seed", "split", "prices")), "oracle": (oracle, ())}

if __name__ == "__main__":
    sys.exit(run_named(STAGES))
