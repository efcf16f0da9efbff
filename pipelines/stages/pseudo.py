"""pseudo: every point of the weak images becomes one mask or one ignore region; drawn masks stay."""

import sys
from dataclasses import replace
from typing import Any

from pipelines import paths
from pipelines.config.params import rules_in_force
from pipelines.inference.label_dataset import Labeled, calibrated, labeled, map_images, propose, to_json
from pipelines.inference.load_models import load_labeler
from pipelines.runner.run_stage import Outcome, StageContext, run
from wssis.data.coco import save_coco
from wssis.data.records import ImageRecord
from wssis.pseudo_labels.decisions import admit, decide, masks_and_signals, with_drawn


def pseudo(stage: StageContext) -> Outcome:
    """Label; beside the labels keep what each point would get with no point left out."""
    rules = rules_in_force(stage.params)
    nothing_left_out = replace(rules, min_confidence=0.0)
    labeler, _ = load_labeler(paths.TEACHER, paths.REFINER, rules, stage.device)
    points, drawn = stage.load(paths.POINTS), stage.load(paths.DRAWN).by_id
    curve = calibrated(labeler, stage.load(paths.HOLDOUT), rules)

    def label(record: ImageRecord) -> list[list[dict[str, Any]]]:
        given = propose(labeler, points, record)
        found, signals = masks_and_signals(given, rules)
        if record.id in drawn:
            found = with_drawn(found, drawn[record.id].instances(), rules)
        judged = labeled(record, admit(found, rules), curve.quality(signals.numpy()).tolist())
        kept = marked(judged, drawn.get(record.id))
        proposed = labeled(record, admit(found, nothing_left_out))
        proposed_rough = labeled(record, decide(replace(given, refined=None), nothing_left_out))
        return [to_json(each, points) for each in (kept, proposed, proposed_rough)]

    journal = stage.journal("label")
    map_images(points, "label", label, journal)
    stage.exit_unless_rank_zero()
    for place, out in enumerate((paths.LABELS, paths.PROPOSED, paths.PROPOSED_ROUGH)):
        save_coco(replace(points, path=None), out, Labeled(points, journal, place))
    masks = sum(len(image.objects) for image in Labeled(points, journal, 0))
    own = sum(len(image.annotations) for image in drawn.values())
    stage.say(
        f"{points.num_objects} points, {masks} masks{f' ({own} of them drawn)' if own else ''}, "
        f"{points.num_objects - masks} ignored"
    )
    chosen = {"rules": vars(rules), "quality": vars(curve)}
    return Outcome(
        params={f"{kind}.{name}": value for kind in chosen for name, value in chosen[kind].items()}
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
    sys.exit(run("pseudo", pseudo, ("pseudo", "tune_pseudo"), distributed=True))
