"""pseudo: every point of the weak images becomes one mask or one ignore region."""

import sys
from dataclasses import replace

from pipelines import paths
from pipelines.labeling import labelled, proposals
from pipelines.models import load_labeler
from pipelines.params import rules_in_force
from pipelines.stage import Stage, run
from wssis.data.coco import save_coco
from wssis.rules import admit, decide, every_mask


def pseudo(stage: Stage) -> None:
    """Label; beside the labels keep what each point would get with no point left out."""
    rules = rules_in_force(stage.params)
    nothing_left_out = replace(rules, min_confidence=0.0)
    labeler, _ = load_labeler(paths.TEACHER, paths.REFINER, rules, stage.device)
    points = stage.load(paths.POINTS)
    labels, proposed, proposed_rough = [], [], []
    for record, given in proposals(labeler, points, "label"):
        found = every_mask(given, rules)
        labels.append(labelled(record, admit(found, rules)))
        proposed.append(labelled(record, admit(found, nothing_left_out)))
        proposed_rough.append(labelled(record, decide(replace(given, refined=None), nothing_left_out)))
    for images, out in (
        (labels, paths.LABELS),
        (proposed, paths.PROPOSED),
        (proposed_rough, paths.PROPOSED_ROUGH),
    ):
        save_coco(replace(points, images=tuple(images), path=None), out)
    masks = sum(len(image.objects) for image in labels)
    stage.tracker.params({f"rules.{name}": value for name, value in vars(rules).items()})
    stage.say(f"{points.num_objects} points, {masks} masks, {points.num_objects - masks} ignored")


if __name__ == "__main__":
    sys.exit(run("pseudo", pseudo, ("pseudo", "tune_pseudo")))
