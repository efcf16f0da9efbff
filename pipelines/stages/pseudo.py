"""pseudo: every point of the weak images becomes one mask or one ignore region; drawn masks stay."""

import sys
from dataclasses import replace

from pipelines import paths
from pipelines.config.params import rules_in_force
from pipelines.inference.label_dataset import Labelled, calibrated, labelled, left, packed, proposals
from pipelines.inference.load_models import load_labeler
from pipelines.runner.run_stage import StageContext, run
from wssis.data.coco import save_coco
from wssis.data.records import ImageRecord
from wssis.pseudo_labels.rules import admit, decide, masks_and_signals, with_drawn


def pseudo(stage: StageContext) -> None:
    """Label; beside the labels keep what each point would get with no point left out."""
    rules = rules_in_force(stage.params)
    nothing_left_out = replace(rules, min_confidence=0.0)
    labeler, _ = load_labeler(paths.TEACHER, paths.REFINER, rules, stage.device)
    points, drawn = stage.load(paths.POINTS), stage.load(paths.DRAWN).by_id
    curve = calibrated(labeler, stage.load(paths.HOLDOUT), rules)
    journal = stage.journal("label")
    for record, given in proposals(labeler, left(points, journal), "label"):
        found, signals = masks_and_signals(given, rules)
        if record.id in drawn:
            found = with_drawn(found, drawn[record.id].instances(), rules)
        judged = labelled(record, admit(found, rules), curve.quality(signals.numpy()).tolist())
        label = marked(judged, drawn.get(record.id))
        proposed = labelled(record, admit(found, nothing_left_out))
        proposed_rough = labelled(record, decide(replace(given, refined=None), nothing_left_out))
        journal.add(record.id, [packed(each) for each in (label, proposed, proposed_rough)])
    stage.whole()
    for place, out in enumerate((paths.LABELS, paths.PROPOSED, paths.PROPOSED_ROUGH)):
        save_coco(replace(points, path=None), out, Labelled(points, journal, place))
    masks = sum(len(image.objects) for image in Labelled(points, journal, 0))
    stage.tracker.params({f"rules.{name}": value for name, value in vars(rules).items()})
    stage.tracker.params({f"quality.{name}": value for name, value in vars(curve).items()})
    own = sum(len(image.annotations) for image in drawn.values())
    stage.say(
        f"{points.num_objects} points, {masks} masks{f' ({own} of them drawn)' if own else ''}, "
        f"{points.num_objects - masks} ignored"
    )


def marked(record: ImageRecord, drawn: ImageRecord | None) -> ImageRecord:
    """The image with `drawn` true on annotations whose mask is a person's, and no pseudo-label to judge."""
    if drawn is None:
        return record
    ids = {item.id for item in drawn.annotations}
    return replace(
        record,
        annotations=tuple(
            replace(item, extra={"confidence": item.extra["confidence"], "drawn": True})
            if item.id in ids
            else item
            for item in record.annotations
        ),
    )


if __name__ == "__main__":
    sys.exit(run("pseudo", pseudo, ("pseudo", "tune_pseudo"), arguments=sys.argv[1:]))
