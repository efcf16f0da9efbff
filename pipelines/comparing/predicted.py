"""predicted: the teacher's predictions over a threshold as labels, also of known classes only; no points.

The thresholds are chosen on the held-out strong images.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch

from pipelines import paths
from pipelines.comparing.thresholds import Judged, as_labels, chosen, judge, of_classes
from pipelines.labeling import each_image, left, packed, unpacked
from pipelines.models import load_predictor
from pipelines.stage import Stage, run
from wssis.data.coco import CocoData, ImageRecord, save_coco
from wssis.files import write_json
from wssis.instances import Instances
from wssis.predictor import Predictor

FILTERS: dict[str, Callable[[Instances, ImageRecord], Instances]] = {
    "predicted": lambda found, record: found,
    "image_level": of_classes,
}


def predicted(stage: Stage) -> None:
    """Write thresholds and labels of both rows."""
    settings = stage.params.evaluate
    predictor, _ = load_predictor(paths.TEACHER, settings.decode, settings.batch_size, stage.device)
    held = judged(predictions(predictor, stage.load(paths.HOLDOUT), "holdout"))
    thresholds = {row: chosen(held[row]) for row in FILTERS}
    points = stage.load(paths.POINTS)
    journal = stage.scratch.journal("label")  # of each image: for each row, its annotations
    numbers = {
        row: 1 + sum(len(done[place]) for done in journal.done.values()) for place, row in enumerate(FILTERS)
    }
    for record, found in predictions(predictor, left(points, journal), "label"):
        made = []
        for row, only in FILTERS.items():
            image = as_labels(record, only(found, record), thresholds[row], numbers[row])
            numbers[row] += len(image.annotations)
            made.append(packed(image))
        journal.add(record.id, made)
    for place, row in enumerate(FILTERS):
        images = tuple(unpacked(record, journal.done[record.id][place]) for record in points.images)
        save_coco(replace(points, images=images, path=None), paths.ROW_LABELS / f"{row}.json")
        stage.say(f"{row}: {numbers[row] - 1} masks over {thresholds[row]:g}")
    write_json(paths.THRESHOLDS, thresholds, indent=2)
    stage.tracker.metrics({f"threshold/{row}": value for row, value in thresholds.items()})


def predictions(predictor: Predictor, data: CocoData, name: str) -> Iterator[tuple[ImageRecord, Instances]]:
    """What the network finds on each image by itself."""
    for record, image, _ in each_image(data, name):
        yield record, predictor.predict([image])[0].to("cpu")


def judged(found: Iterable[tuple[ImageRecord, Instances]]) -> dict[str, Judged]:
    """Predictions beside the truth for each of `FILTERS`; masks of one image are in memory at a time."""
    parts = {row: [judge(())] for row in FILTERS}
    for record, objects in found:
        for row, only in FILTERS.items():
            parts[row].append(judge([(only(objects, record), record)]))
    return {
        row: Judged(
            torch.cat([part.scores for part in own]),
            torch.cat([part.hits for part in own]),
            sum(part.objects for part in own),
        )
        for row, own in parts.items()
    }


if __name__ == "__main__":
    sys.exit(run("predicted", predicted, ("evaluate",)))
