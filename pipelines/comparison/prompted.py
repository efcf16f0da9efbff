"""prompted: one mask a point by the paper's rule, one view, no refiner: of a fixed or of the surest level.

The fixed level is the one whose masks are best on the held-out strong images.
"""

import sys

import torch

from pipelines import paths
from pipelines.comparison.paper_rules import PAPER_RULES, by_the_paper
from pipelines.inference.label_dataset import label_each, proposals
from pipelines.inference.load_models import Saved, load_solov2
from pipelines.runner.run_stage import StageContext, run
from wssis.data.coco import save_coco
from wssis.data.records import CocoData
from wssis.ops.masks import mask_iou
from wssis.pseudo_labels.labeler import Labeler
from wssis.pseudo_labels.rules import decide


def prompted(stage: StageContext) -> None:
    """Write labels of both rows."""
    teacher = load_solov2(paths.TEACHER, stage.device)
    holdout, points = stage.load(paths.HOLDOUT), stage.load(paths.POINTS)
    levels = len(teacher.model.settings.sources)
    ious = [held_out_iou(by_level(teacher, level), holdout) for level in range(levels)]
    level = max(range(levels), key=ious.__getitem__)
    stage.say(f"fixed level {level}: IoU on held-out images {', '.join(f'{iou:.3f}' for iou in ious)}")
    stage.tracker.metrics({f"holdout/iou_level_{n}": iou for n, iou in enumerate(ious)})
    for row, labeler in (
        ("fixed_level", by_level(teacher, level)),
        ("adaptive_level", by_level(teacher, None)),
    ):
        made = label_each(labeler, points, row, by_the_paper, stage.scratch.journal(row))
        save_coco(made, paths.ROW_LABELS / f"{row}.json")


def by_level(teacher: Saved, level: int | None) -> Labeler:
    """The paper's labeler without refiner; None: the level with the best score, point by point."""
    return Labeler(teacher.model, None, teacher.resize, PAPER_RULES, own_point=False, level=level)


def held_out_iou(labeler: Labeler, holdout: CocoData) -> float:
    """Mean IoU of the masks of held-out points; 0 without one."""
    ious = [torch.zeros(0)]
    for record, given in proposals(labeler, holdout, "holdout"):
        found, truth = decide(given, PAPER_RULES), record.instances()
        if truth.masks is not None and found.masks is not None and len(truth):
            ious.append(mask_iou(found.masks, truth.masks))
    together = torch.cat(ious)
    return float(together.mean()) if len(together) else 0.0


if __name__ == "__main__":
    sys.exit(run("prompted", prompted, ()))
