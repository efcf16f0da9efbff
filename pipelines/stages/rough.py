"""rough: masks of the strong images by two earlier teachers, as wrong as on images never seen."""

import sys

from pipelines import paths
from pipelines.labeling import rough_dataset
from pipelines.models import load_solov2
from pipelines.stage import Stage, run
from wssis.data.coco import save_coco
from wssis.labeler import Labeler


def rough(stage: Stage) -> None:
    """Prompt both snapshots with the points of the strong objects."""
    strong = stage.load(paths.STRONG)
    for folder, out in ((paths.TEACHER_EARLY, paths.ROUGH_EARLY), (paths.TEACHER_LATE, paths.ROUGH_LATE)):
        saved = load_solov2(folder, stage.device)
        labeler = Labeler(saved.model, None, saved.resize, flips=saved.views)
        journal = stage.scratch.journal(folder.name)
        save_coco(rough_dataset(labeler, strong, folder.name, journal), out)


if __name__ == "__main__":
    sys.exit(run("rough", rough, ()))
