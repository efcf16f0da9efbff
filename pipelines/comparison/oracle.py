"""oracle: ATTENTION, this reads the true masks of the weak images, and no other part of compare does.

What a student learns from them is an upper bound to compare with, never a model to use.
"""

import sys

from pipelines import paths
from pipelines.runner.run_stage import StageContext, run
from wssis.data.coco import save_coco
from wssis.errors import InputError


def oracle(stage: StageContext) -> None:
    """Write the true masks as the labels of the row `oracle`."""
    message = f"ATTENTION, this reads {paths.WEAK_TRUTH}: true masks of weak images, as an upper bound"
    stage.say(message)
    truth = stage.load(paths.WEAK_TRUTH)
    drawn = {item.id for image in truth.images for item in image.annotations}
    for image in stage.load(paths.POINTS).images:
        missing = [item.id for item in image.annotations if item.id not in drawn]
        if missing:
            raise InputError(
                f"expected a true mask of every weak object, found none of {missing[0]} in {image.file_name}",
                where=paths.WEAK_TRUTH,
                remedy="Take oracle out of compare.rows: these images are not drawn",
            )
    save_coco(truth, paths.ROW_LABELS / "oracle.json")


if __name__ == "__main__":
    sys.exit(run("oracle", oracle, ()))
