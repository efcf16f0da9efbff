"""Labels of whole data sets: teacher and refiner over every image, one image in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from pipelines.console.progress import Meter
from pipelines.runner.result_journal import Journal
from wssis.data import rle as rle_api
from wssis.data.coco import annotation_records
from wssis.data.images import read_image
from wssis.data.records import Annotation, CocoData, ImageRecord
from wssis.distributed import map_over_processes
from wssis.evaluation.coco_ap import to_coco_results
from wssis.inference.predictor import Predictor
from wssis.instances import Instances
from wssis.ops.masks import mask_iou
from wssis.pseudo_labels.decisions import masks_and_signals
from wssis.pseudo_labels.labeler import Labeler
from wssis.pseudo_labels.proposals import CHUNK, Proposals, full_size
from wssis.pseudo_labels.quality import Calibration, calibrate
from wssis.pseudo_labels.rules import PseudoRules


def calibrated(labeler: Labeler, holdout: CocoData, rules: PseudoRules) -> Calibration:
    """The curve from signal to IoU under `rules`, from images that the labeler has not learnt."""
    signals, ious = [], []
    for record, given in proposals(labeler, holdout, "calibrate"):
        truth = record.instances().masks
        if truth is None or not len(truth):
            continue
        found, signal = masks_and_signals(given, rules)
        there = found.get_masks().flatten(1).any(1)
        signals.append(signal[there])
        ious.append(mask_iou(found.get_masks(), truth)[there])
    if not signals:
        return Calibration()
    return calibrate(torch.cat(signals).double().numpy(), torch.cat(ious).double().numpy())


Prompts = tuple[Tensor, Tensor, Tensor, Tensor]  # points (N, 2) xy, labels (N,), ids (N,), clicks (C, 4)
IMAGES = 64  # images whose predictions are in memory at once
SHARE = 4  # images that each of several processes labels between two exchanges
COCO_FIELDS = {
    *("id", "image_id", "category_id", "segmentation", "bbox", "area", "point", "clicks", "iscrowd", "score"),
}
IGNORED = 0.1  # worth that an ignored point may lose


def prompts(record: ImageRecord) -> Prompts:
    """Points, labels, annotation ids and further clicks of an image's objects.

    The point is the mask's center where there is none; clicks are as `Labeler.propose` takes them.
    """
    objects = record.objects
    points = [item.point or (item.rle and rle_api.inner_point(item.rle)) or (0.0, 0.0) for item in objects]
    return (
        torch.tensor(points, dtype=torch.float32).reshape(-1, 2),
        torch.tensor([item.label for item in objects], dtype=torch.int64),
        torch.tensor([item.id for item in objects], dtype=torch.int64),
        torch.tensor(
            [(row, *click) for row, item in enumerate(objects) for click in item.clicks], dtype=torch.float32
        ).reshape(-1, 4),
    )


def each_image(data: CocoData, name: str) -> Iterator[tuple[ImageRecord, Tensor, Prompts]]:
    """Record, uint8 (3, H, W) image and prompts of every image, with progress."""
    with Meter(name, len(data.images), "images") as meter:
        for record in data.images:
            yield record, read_image(data.image_dir, record.file_name, record.size), prompts(record)
            meter.step()


def propose(labeler: Labeler, data: CocoData, record: ImageRecord) -> Proposals:
    """What teacher and refiner propose for the points of an image of `data`."""
    image = read_image(data.image_dir, record.file_name, record.size)
    return labeler.propose(image, *prompts(record))


def proposals(labeler: Labeler, data: CocoData, name: str) -> Iterator[tuple[ImageRecord, Proposals]]:
    """What teacher and refiner propose for the points of every image, with progress."""
    for record, image, given in each_image(data, name):
        yield record, labeler.propose(image, *given)


def remaining_images(data: CocoData, journal: Journal) -> CocoData:
    """The images of `data` that have no result in the journal yet."""
    return data.subset(image.id for image in data.images if image.id not in journal.done)


def map_images(data: CocoData, name: str, work: Callable[[ImageRecord], Any], journal: Journal) -> None:
    """Add to `journal` the result of `work` for each image that it lacks, with progress.

    Several processes share the images; only the journal of rank 0 gets results, which must be JSON values.
    """
    ids = [image.id for image in remaining_images(data, journal).images]
    with Meter(name, len(ids), "images") as meter:
        for key, value in map_over_processes(ids, lambda key: work(data.by_id[key]), SHARE):
            journal.add(key, value)
            meter.step()


def to_json(record: ImageRecord, data: CocoData) -> list[dict[str, Any]]:
    """An image's annotations as COCO annotations with the category ids of `data`."""
    return list(annotation_records(data, record))


def from_json(record: ImageRecord, values: Sequence[Mapping[str, Any]], data: CocoData) -> ImageRecord:
    """The image with the annotations that `to_json` made."""
    labels = {category.id: label for label, category in enumerate(data.categories)}
    return replace(record, annotations=tuple(_annotation(value, labels) for value in values))


def _annotation(value: Mapping[str, Any], labels: Mapping[int, int]) -> Annotation:
    point = value.get("point")
    return Annotation(
        id=value["id"],
        label=labels[value["category_id"]],
        rle=value.get("segmentation"),
        point=point and (point[0], point[1]),
        crowd=bool(value["iscrowd"]),
        score=value.get("score"),
        extra={key: field for key, field in value.items() if key not in COCO_FIELDS},
        area=value.get("area"),
        clicks=tuple((x, y, bool(inside)) for x, y, inside in value.get("clicks", ())),
    )


def label_each(
    labeler: Labeler,
    data: CocoData,
    name: str,
    label: Callable[[ImageRecord, Proposals], ImageRecord],
    journal: Journal | None = None,
) -> CocoData:
    """`data` with what `label` makes of the proposals for each image; those in `journal` are done."""
    journal = journal or Journal()
    label_images(labeler, data, name, label, journal)
    return replace(data, images=tuple(Labeled(data, journal)), path=None)


def label_images(
    labeler: Labeler,
    data: CocoData,
    name: str,
    label: Callable[[ImageRecord, Proposals], ImageRecord],
    journal: Journal,
) -> None:
    """Add to `journal` the labels that it lacks; see `map_images`."""
    map_images(
        data, name, lambda record: to_json(label(record, propose(labeler, data, record)), data), journal
    )


@dataclass(frozen=True)
class Labeled:
    """The images of `data` with their labels in `journal`, each read when it is needed.

    `place` says which of several labels of an image; None: there is one.
    """

    data: CocoData
    journal: Journal
    place: int | None = None

    def __iter__(self) -> Iterator[ImageRecord]:
        for record in self.data.images:
            value = self.journal.done[record.id]
            yield from_json(record, value if self.place is None else value[self.place], self.data)


def rough_dataset(labeler: Labeler, data: CocoData, name: str, journal: Journal | None = None) -> CocoData:
    """The teacher's masks for the points of `data`, under the ids of its annotations; see `label_each`."""
    return label_each(labeler, data, name, rough_record, journal)


def rough_record(record: ImageRecord, given: Proposals) -> ImageRecord:
    """An image with the teacher's mask of each point."""
    rles = [
        rle
        for rows in torch.arange(len(given.points)).split(CHUNK)
        if len(rows)
        for rle in rle_api.encode(full_size(given, rows) > 0.5)
    ]
    assert given.ids is not None
    columns = given.ids.tolist(), given.labels.tolist(), rles, given.points.tolist(), given.score.tolist()
    annotations = tuple(
        Annotation(i, label, rle, (x, y), score=score)
        for i, label, rle, (x, y), score in zip(*columns, strict=True)
    )
    return replace(record, annotations=annotations)


def labeled(record: ImageRecord, decided: Instances, quality: Sequence[float] | None = None) -> ImageRecord:
    """An image with one annotation a point: a mask with its confidence, or an ignore region.

    `quality` (N,) is of the mask that was found, the ones to ignore included.
    """
    given = decided.get_masks().flatten(1).any(1)
    masks = decided.get_masks() if given.all() else decided.get_masks() | ignore_regions(decided, ~given)
    columns = (
        decided.get_ids().tolist(),
        decided.labels.tolist(),
        rle_api.encode(masks),
        decided.get_points().tolist(),
        decided.get_scores().tolist(),
        given.tolist(),
    )
    clicks = {item.id: item.clicks for item in record.annotations}
    annotations = []
    for i, label, rle, (x, y), score, known in zip(*columns, strict=True):
        extra = {"confidence": round(score, 4)} | ({} if known else {"ignore": True})
        annotations.append(Annotation(i, label, rle, (x, y), extra=extra, clicks=clicks.get(i, ())))
    if quality is not None:
        for item, value in zip(annotations, quality, strict=True):
            item.extra["quality"] = round(value, 4)
    return replace(record, annotations=tuple(annotations))


def ignore_regions(decided: Instances, ignored: Tensor) -> Tensor:
    """The image's ignore region divided: each pixel to the nearest point of the `ignored` (N,) bool.

    Returns:
        (N, H, W) bool, empty for the other points.
    """
    regions = torch.zeros((len(decided), *decided.size), dtype=torch.bool)
    if decided.ignore is None or not ignored.any():
        return regions
    rows = ignored.nonzero()[:, 0]
    y, x = decided.ignore.nonzero(as_tuple=True)
    pixels = torch.stack([x, y], 1) + 0.5
    owner = rows[torch.cdist(pixels, decided.get_points()[rows]).argmin(1)] if len(x) else rows[:0]
    regions[owner, y, x] = True
    return regions


def beats_chance(rises: Sequence[Tensor]) -> bool:
    """Whether worths rise on average by more than twice the standard error of their mean.

    A search over few held-out objects always finds something that suits these better. Objects of one image
    rise and fall together, so that the images count and not the objects: the error is that of a mean over
    clusters (Liang and Zeger, 1986), sqrt(G / (G - 1) sum_g (sum_i (d_gi - mean))^2) / N. By the error of
    independent objects rules for nuclei (seed 2) were kept that suited one image of nine; see results.md.

    Args:
        rises: for each image, by how much its objects (n,) are worth more.
    """
    rises = [rise for rise in rises if len(rise)]
    if len(rises) < 2:
        return False
    mean = torch.cat(list(rises)).mean()
    shares = torch.stack([(rise - mean).sum() for rise in rises])
    images, objects = len(rises), sum(map(len, rises))
    error = (images / (images - 1) * shares.square().sum()).sqrt() / objects
    return bool(mean > 2 * error)


def label_utility(decided: Instances, truth: Instances) -> Tensor:
    """Utility (N,) of the labels of an image: IoU with the truth less a half; about 0 for an ignored point.

    So a mask that is more wrong than right is worth less than an admission of not knowing. An ignored point
    costs up to `IGNORED`, the less its region is the object: what lies outside of the region is learnt as
    background, and background inside is not learnt.
    """
    given = decided.get_masks().flatten(1).any(1)
    known = mask_iou(decided.get_masks(), truth.get_masks()) - 0.5
    if given.all():
        return known
    unknown = mask_iou(ignore_regions(decided, ~given), truth.get_masks()) - 1
    return torch.where(given, known, IGNORED * unknown)


def predicted_results(
    predictor: Predictor, data: CocoData, name: str, journal: Journal | None = None
) -> Iterator[dict[str, Any]]:
    """COCO results of every image of `data`, predicted by now; masks of a few images are in memory at a time.

    `journal` has some of these groups, by the number of their first image.
    """
    journal = journal or Journal()
    predict_groups(predictor, data, name, journal)
    return results_of(data, journal)


def predict_groups(predictor: Predictor, data: CocoData, name: str, journal: Journal) -> None:
    """Add to `journal` the COCO results of each group of images that it lacks; several processes share
    them."""

    def predict(start: int) -> list[dict[str, Any]]:
        group = data.subset(record.id for record in data.images[start : start + IMAGES])
        found = predictor.predict_dataset(group).items()
        return [one for number, objects in found for one in to_coco_results(objects, number, data.categories)]

    starts = [start for start in range(0, len(data.images), IMAGES) if start not in journal.done]
    sizes = {start: min(IMAGES, len(data.images) - start) for start in starts}
    with Meter(name, sum(sizes.values()), "images") as meter:
        for start, results in map_over_processes(starts, predict):
            journal.add(start, results)
            meter.step(done=meter.done + sizes[start])


def results_of(data: CocoData, journal: Journal) -> Iterator[dict[str, Any]]:
    """The COCO results of all groups, in the order of the images, each group read when it is its turn."""
    return chain.from_iterable(journal.done[start] for start in range(0, len(data.images), IMAGES))
