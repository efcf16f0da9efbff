"""split: which images keep their masks, points for the others, and what all of it cost to draw."""

import json
import sys

from pipelines import paths
from pipelines.runner.run_stage import Outcome, StageContext, run
from wssis.data.coco import save_coco
from wssis.data.points import read_points
from wssis.data.split import split as draw_split
from wssis.files import write_json


def split(stage: StageContext) -> Outcome:
    """Write strong, held-out and weak images, the ledger, and, apart, the truth of the weak ones."""
    params = stage.params
    data = stage.load(paths.PREPARED_TRAIN)
    clicked = read_points(paths.source(params.split.clicked), data) if params.split.clicked else None
    parts = draw_split(
        data,
        params.split.strong,
        params.split.holdout,
        params.seed,
        params.split.points,
        params.split.jitter,
        clicked,
        params.prices.model_dump(),
        json.loads(paths.PREPARED_VAL_LABELS.read_text())["labels"],
    )
    for part, out in (
        (parts.strong, paths.STRONG),
        (parts.holdout, paths.HOLDOUT),
        (parts.points, paths.POINTS),
        (parts.drawn, paths.DRAWN),
        (parts.truth, paths.WEAK_TRUTH),
    ):
        save_coco(part, out)
    write_json(paths.LEDGER, parts.ledger)
    totals = parts.ledger["totals"]
    stage.say(
        f"{len(parts.strong.images)} strong, {len(parts.holdout.images)} held out, "
        f"{len(parts.points.images)} weak images; {totals['label_hours']:.2f} h of labeling "
        f"instead of {totals['full_label_hours']:.2f} h"
    )
    if parts.drawn.num_objects:
        stage.say(
            f"{parts.drawn.num_objects} masks are used in {len(parts.drawn.images)} weak images, whose other "
            "objects have points only"
        )
    missing = {item.label for image in parts.points.images for item in image.objects} - {
        item.label for image in parts.strong.images for item in image.objects
    }
    if missing:
        names = ", ".join(data.class_names[label] for label in sorted(missing))
        stage.say(f"no strong image shows: {names}; their points cannot become good masks")
    return Outcome(headline={name: totals[name] for name in ("label_hours", "full_label_hours")})


if __name__ == "__main__":
    sys.exit(run("split", split, ("seed", "split", "prices")))
