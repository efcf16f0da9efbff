"""refined: the paper's labels: adaptive level, one view, and the refined mask in place of the rough one."""

import sys

from pipelines import paths
from pipelines.comparing.rows import PAPER_RULES
from pipelines.labeling import label_each, labelled
from pipelines.models import load_labeler
from pipelines.stage import Stage, run
from wssis.data.coco import save_coco
from wssis.labeler import Labeler
from wssis.rules import decide


def refined(stage: Stage) -> None:
    """Write the labels."""
    whole, _ = load_labeler(paths.TEACHER, paths.REFINER, PAPER_RULES, stage.device)
    labeler = Labeler(whole.teacher, whole.refiner, whole.resize, PAPER_RULES, own_point=False)
    points = stage.load(paths.POINTS)
    journal = stage.scratch.journal("refined")
    made = label_each(
        labeler,
        points,
        "refined",
        lambda record, given: labelled(record, decide(given, PAPER_RULES)),
        journal,
    )
    save_coco(made, paths.ROW_LABELS / "refined.json")


if __name__ == "__main__":
    sys.exit(run("refined", refined, ()))
