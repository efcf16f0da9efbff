"""refined: the paper's labels: adaptive level, one view, and the refined mask in place of the rough one."""

import sys

from pipelines import paths
from pipelines.comparison.paper_rules import PAPER_RULES, by_the_paper
from pipelines.inference.label_dataset import label_each
from pipelines.inference.load_models import load_labeler
from pipelines.runner.run_stage import StageContext, run
from wssis.data.coco import save_coco
from wssis.pseudo_labels.labeler import Labeler


def refined(stage: StageContext) -> None:
    """Write the labels."""
    whole, _ = load_labeler(paths.TEACHER, paths.REFINER, PAPER_RULES, stage.device)
    labeler = Labeler(whole.teacher, whole.refiner, whole.resize, PAPER_RULES, own_point=False)
    points = stage.load(paths.POINTS)
    made = label_each(labeler, points, "refined", by_the_paper, stage.scratch.journal("refined"))
    save_coco(made, paths.ROW_LABELS / "refined.json")


if __name__ == "__main__":
    sys.exit(run("refined", refined, ()))
