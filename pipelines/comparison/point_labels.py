"""Labels from points: `fixed_level`, `adaptive_level`, `refined` by the paper's rules, `ours` by the default,
and `parts`, the ablation of `ours`.

    python -m pipelines.comparison.point_labels prompted|refined|ours|parts

The fixed level is the one whose masks are best on the held-out strong images.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import torch

from pipelines import paths
from pipelines.comparison.cell import run_named
from pipelines.comparison.rows import LABELS_OF_OURS
from pipelines.config.params import rules_in_force
from pipelines.inference.label_dataset import (
    Labeled,
    label_each,
    labeled,
    map_images,
    proposals,
    propose,
    to_json,
)
from pipelines.inference.load_models import Saved, load_labeler, load_solov2
from pipelines.runner.run_stage import Outcome, StageContext
from pipelines.stages.pseudo import pseudo
from wssis.data.coco import save_coco
from wssis.data.records import CocoData, ImageRecord
from wssis.ops.masks import mask_iou
from wssis.pseudo_labels.decisions import decide
from wssis.pseudo_labels.labeler import Labeler
from wssis.pseudo_labels.proposals import Proposals
from wssis.pseudo_labels.rules import PseudoRules

# The refined mask replaces the rough one, and every mask is trusted.
PAPER_RULES = PseudoRules(
    refined_weight=1.0,
    min_confidence=0.0,
    own_point=0.0,
    agreement=0.0,
    exclusive=False,
    color_weight=0.0,
)


def prompted(stage: StageContext) -> Outcome:
    """Rows `fixed_level` and `adaptive_level`: one view, no refiner."""
    teacher = load_solov2(paths.TEACHER, stage.device)
    holdout, points = stage.load(paths.HOLDOUT), stage.load(paths.POINTS)
    levels = len(teacher.model.settings.sources)
    ious = [held_out_iou(by_level(teacher, level), holdout) for level in range(levels)]
    level = max(range(levels), key=ious.__getitem__)
    stage.say(f"fixed level {level}: IoU on held-out images {', '.join(f'{iou:.3f}' for iou in ious)}")
    for row, labeler in (
        ("fixed_level", by_level(teacher, level)),
        ("adaptive_level", by_level(teacher, None)),
    ):
        made = label_each(labeler, points, row, by_the_paper, stage.scratch.journal(row))
        save_coco(made, paths.ROW_LABELS / f"{row}.json")
    return Outcome(metrics={f"holdout/iou_level_{n}": iou for n, iou in enumerate(ious)})


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


def by_the_paper(record: ImageRecord, given: Proposals) -> ImageRecord:
    """An image with one label for each point."""
    return labeled(record, decide(given, PAPER_RULES))


def refined(stage: StageContext) -> None:
    """The paper's labels: adaptive level, one view, the refined mask instead of the rough one."""
    whole, _ = load_labeler(paths.TEACHER, paths.REFINER, PAPER_RULES, stage.device)
    labeler = Labeler(whole.teacher, whole.refiner, whole.resize, PAPER_RULES, own_point=False)
    points = stage.load(paths.POINTS)
    made = label_each(labeler, points, "refined", by_the_paper, stage.scratch.journal("refined"))
    save_coco(made, paths.ROW_LABELS / "refined.json")


def ours(stage: StageContext) -> None:
    """The labels of the pipeline's stage pseudo, with tuned rules and all views."""
    pseudo(stage)
    save_coco(stage.load(paths.LABELS), paths.ROW_LABELS / "ours.json")


def parts(stage: StageContext) -> None:
    """Labels of the rows that leave out a part of `ours`, or train on its labels with other settings."""
    for row in LABELS_OF_OURS:
        save_coco(stage.load(paths.ROW_LABELS / "ours.json"), paths.ROW_LABELS / f"{row}.json")
    rules = replace(rules_in_force(stage.params), color_weight=0.0)
    labeler, _ = load_labeler(paths.TEACHER, paths.REFINER, rules, stage.device)
    points = stage.load(paths.POINTS)

    def label(record: ImageRecord) -> list[list[dict[str, Any]]]:
        given = propose(labeler, points, record)
        each = (decide(given, rules), decide(replace(given, refined=None), rules))
        return [to_json(labeled(record, found), points) for found in each]

    journal = stage.journal("parts")
    map_images(points, "parts", label, journal)
    for place, row in enumerate(("no_color", "no_refiner")):
        path = paths.ROW_LABELS / f"{row}.json"
        save_coco(replace(points, path=None), path, Labeled(points, journal, place))


STAGES = {
    "prompted": (prompted, ()),
    "refined": (refined, ()),
    "ours": (ours, ("pseudo", "tune_pseudo")),
    "parts": (parts, ("pseudo", "tune_pseudo")),
}

if __name__ == "__main__":
    sys.exit(run_named(STAGES))
