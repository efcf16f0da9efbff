"""Labels from predictions over a score threshold, without points: rows `predicted` and `image_level`.

    python -m pipelines.comparison.predicted predicted|sweep

The thresholds are chosen on the held-out strong images.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch

from pipelines import paths
from pipelines.comparison.cell import run_named
from pipelines.inference.label_dataset import each_image, from_json, remaining_images, to_json
from pipelines.inference.load_models import load_predictor
from pipelines.runner.run_stage import Outcome, StageContext
from wssis.data import rle as rle_api
from wssis.data.coco import save_coco
from wssis.data.records import Annotation, CocoData, ImageRecord
from wssis.evaluation.coco_ap import to_coco_results
from wssis.evaluation.operating_point import Matches
from wssis.files import write_json
from wssis.inference.predictor import Predictor
from wssis.instances import Instances

THRESHOLDS = tuple(round(0.05 * n, 2) for n in range(1, 20))  # of the report


def of_classes(found: Instances, record: ImageRecord) -> Instances:
    """The predictions of classes that the image is known to show: those of its objects or points."""
    shown = torch.tensor(sorted({item.label for item in record.objects}), dtype=torch.int64)
    return found[torch.isin(found.labels, shown.to(found.labels.device))]


FILTERS: dict[str, Callable[[Instances, ImageRecord], Instances]] = {
    "predicted": lambda found, record: found,
    "image_level": of_classes,
}


def label_by_predictions(stage: StageContext) -> Outcome:
    """Write thresholds and labels of both rows."""
    settings = stage.params.evaluate
    predictor, _ = load_predictor(paths.TEACHER, settings.decode, settings.batch_size, stage.device)
    holdout = stage.load(paths.HOLDOUT)
    most = settings.decode.max_detections
    held = matches_by_row(predictions(predictor, holdout, "holdout"), holdout, most)
    best = {row: matches.best() for row, matches in held.items()}
    thresholds = {row: point.score if point else 0.5 for row, point in best.items()}
    points = stage.load(paths.POINTS)
    journal = stage.scratch.journal("label")  # of each image: for each row, its annotations
    numbers = {
        row: 1 + sum(len(done[place]) for done in journal.done.values()) for place, row in enumerate(FILTERS)
    }
    for record, found in predictions(predictor, remaining_images(points, journal), "label"):
        made = []
        for row, only in FILTERS.items():
            image = as_labels(record, only(found, record), thresholds[row], numbers[row])
            numbers[row] += len(image.annotations)
            made.append(to_json(image, points))
        journal.add(record.id, made)
    for place, row in enumerate(FILTERS):
        images = tuple(from_json(record, journal.done[record.id][place], points) for record in points.images)
        save_coco(replace(points, images=images, path=None), paths.ROW_LABELS / f"{row}.json")
        stage.say(f"{row}: {numbers[row] - 1} masks over {thresholds[row]:g}")
    write_json(paths.THRESHOLDS, thresholds, indent=2)
    return Outcome(metrics={f"threshold/{row}": value for row, value in thresholds.items()})


def predictions(predictor: Predictor, data: CocoData, name: str) -> Iterator[tuple[ImageRecord, Instances]]:
    """What the network finds on each image by itself."""
    for record, image, _ in each_image(data, name):
        yield record, predictor.predict([image])[0].to("cpu")


def matches_by_row(
    found: Iterable[tuple[ImageRecord, Instances]], truth: CocoData, max_detections: int
) -> dict[str, Matches]:
    """Predictions matched with the objects of `truth` for each of `FILTERS`; masks of one image at a time."""
    results: dict[str, list[dict[str, Any]]] = {row: [] for row in FILTERS}
    for record, objects in found:
        for row, only in FILTERS.items():
            results[row] += to_coco_results(only(objects, record), record.id, truth.categories)
    return {row: Matches.of(truth, own, max_detections) for row, own in results.items()}


def as_labels(record: ImageRecord, found: Instances, threshold: float, first: int) -> ImageRecord:
    """The image with the predictions over `threshold` as its objects, with ids from `first` on."""
    found = found[found.get_scores() >= threshold]
    columns = found.labels.tolist(), rle_api.encode(found.get_masks()), found.get_scores().tolist()
    items = [
        Annotation(first + n, label, rle, score=score)
        for n, (label, rle, score) in enumerate(zip(*columns, strict=True))
    ]
    return ImageRecord(record.id, record.file_name, record.height, record.width, tuple(items))


def sweep(stage: StageContext) -> None:
    """Missed objects and false masks of the teacher on `val` at every threshold, as a report.

    The thresholds in use were chosen by the stage predicted, without `val`.
    """
    settings = stage.params.evaluate
    predictor, _ = load_predictor(paths.TEACHER, settings.decode, settings.batch_size, stage.device)
    val = stage.load(paths.PREPARED_VAL)
    found = matches_by_row(predictions(predictor, val, "val"), val, settings.decode.max_detections)
    rows = {
        row: [{"threshold": t, "missed": matches.missed(t), "false": matches.false(t)} for t in THRESHOLDS]
        for row, matches in found.items()
    }
    chosen = json.loads(paths.THRESHOLDS.read_text())
    write_json(paths.measured_file("thresholds.json"), {"chosen": chosen, "val": rows}, indent=2)


STAGES = {"predicted": (label_by_predictions, ("evaluate",)), "sweep": (sweep, ("evaluate",))}

if __name__ == "__main__":
    sys.exit(run_named(STAGES))
