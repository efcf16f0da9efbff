"""rough: masks of the strong images by two earlier teachers, as wrong as on images never seen."""

import sys
from dataclasses import replace

from pipelines import paths
from pipelines.inference.label_dataset import Labeled, label_images, rough_record
from pipelines.inference.load_models import load_solov2
from pipelines.runner.run_stage import StageContext, run
from wssis.data.coco import save_coco


def rough(stage: StageContext) -> None:
    """Prompt both snapshots with the points of the strong objects."""
    strong = stage.load(paths.STRONG)
    made = []
    for folder, out in ((paths.TEACHER_EARLY, paths.ROUGH_EARLY), (paths.TEACHER_LATE, paths.ROUGH_LATE)):
        saved = load_solov2(folder, stage.device)
        labeler = saved.labeler()
        journal = stage.journal(folder.name)
        label_images(labeler, strong, folder.name, rough_record, journal)
        made.append((journal, out))
    stage.exit_unless_rank_zero()
    for journal, out in made:
        save_coco(replace(strong, path=None), out, Labeled(strong, journal))


if __name__ == "__main__":
    sys.exit(run("rough", rough, (), distributed=True))
