"""predicted: the teacher's predictions over a threshold as labels, also of known classes only; no points.

The thresholds are chosen on the held-out strong images.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

from pipelines import paths
from pipelines.comparing.thresholds import as_labels, chosen, judge, of_classes
from pipelines.labeling import each_image
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
    held = list(predictions(predictor, stage.load(paths.HOLDOUT), "holdout"))
    thresholds = {
        row: chosen(judge((only(found, record), record) for record, found in held))
        for row, only in FILTERS.items()
    }
    points = stage.load(paths.POINTS)
    labels: dict[str, list[ImageRecord]] = {row: [] for row in FILTERS}
    numbers = dict.fromkeys(FILTERS, 1)
    for record, found in predictions(predictor, points, "label"):
        for row, only in FILTERS.items():
            image = as_labels(record, only(found, record), thresholds[row], numbers[row])
            numbers[row] += len(image.annotations)
            labels[row].append(image)
    for row, images in labels.items():
        save_coco(replace(points, images=tuple(images), path=None), paths.ROW_LABELS / f"{row}.json")
        stage.say(f"{row}: {numbers[row] - 1} masks over {thresholds[row]:g}")
    write_json(paths.THRESHOLDS, thresholds, indent=2)
    stage.tracker.metrics({f"threshold/{row}": value for row, value in thresholds.items()})


def predictions(predictor: Predictor, data: CocoData, name: str) -> Iterator[tuple[ImageRecord, Instances]]:
    """What the network finds on each image by itself."""
    for record, image, _ in each_image(data, name):
        yield record, predictor.predict([image])[0].to("cpu")


if __name__ == "__main__":
    sys.exit(run("predicted", predicted, ("evaluate",)))
