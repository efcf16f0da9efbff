"""Mask AP as pycocotools computes it, on objects in memory, and the IoU of masks that belong together."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from wssis.data import rle as rle_api
from wssis.data.records import Category, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.instances import Instances

Backend = Literal["pycocotools", "faster"]  # faster: faster-coco-eval, equal to 1e-12
IMAGES = 64  # whose masks are matched at a time
AP_KEYS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


def to_coco_results(
    instances: Instances, image_id: int, categories: Sequence[Category]
) -> list[dict[str, Any]]:
    """COCO result records (image_id, category_id, segmentation, bbox xywh, area, score), one an object.

    Raises:
        ValueError: the instances have no masks or no scores.
    """
    if instances.masks is None or instances.scores is None:
        raise ValueError("to_coco_results: expected instances with masks and scores")
    return [
        {
            "image_id": image_id,
            "category_id": categories[label].id,
            "segmentation": rle,
            "bbox": rle_api.bounding_box(rle),
            "area": rle_api.area(rle),
            "score": score,
        }
        for rle, label, score in zip(
            rle_api.encode(instances.masks),
            instances.labels.tolist(),
            instances.scores.tolist(),
            strict=True,
        )
    ]


def coco_ap(
    truth: CocoData, predictions: Mapping[int, Instances], max_detections: int = 100
) -> dict[str, float]:
    """Mask AP (COCOeval, segm) of predictions by image id; an image that is missing has none.

    Args:
        truth: objects with masks; crowds and ignore regions neither count nor cost.
        predictions: instances with masks and scores, of the size of their image.
        max_detections: how many of an image and class count, the best scored first.

    Returns:
        AP (mean over IoU .50:.05:.95), AP50, AP75, AP_small, AP_medium, AP_large (areas under 32², to 96²,
        over), in 0..1; -1 where the truth has no such object.

    Raises:
        InputError: an object of the truth has no mask.
        ValueError: predictions of an image that is not in the truth, or of another size.

    Example:
        >>> import torch
        >>> from wssis.data.synthetic import generate
        >>> _, truth = generate("scenes", n_train=3, n_val=2, size=64)
        >>> objects = {image.id: image.instances() for image in truth.images}
        >>> perfect = {i: replace(o, scores=torch.ones(len(o))) for i, o in objects.items()}
        >>> coco_ap(truth, perfect)["AP"]
        1.0
    """
    results: list[dict[str, Any]] = []
    for image_id, instances in predictions.items():
        if image_id not in truth.by_id:
            raise ValueError(f"coco_ap: predictions for image {image_id}, which is not in the truth")
        if tuple(instances.size) != truth.by_id[image_id].size:
            raise ValueError(
                f"coco_ap: image {image_id} is {truth.by_id[image_id].size}, predictions {instances.size}"
            )
        results += to_coco_results(instances, image_id, truth.categories)
    return results_ap(truth, results, max_detections)


def results_ap(
    truth: CocoData,
    results: Iterable[Mapping[str, Any]],
    max_detections: int = 100,
    backend: Backend = "pycocotools",
) -> dict[str, float]:
    """As `coco_ap`, from records of `to_coco_results`, which take less memory than masks."""
    return ap_by_class(truth, results, max_detections, backend)[0]


def ap_by_class(
    truth: CocoData,
    results: Iterable[Mapping[str, Any]],
    max_detections: int = 100,
    backend: Backend = "pycocotools",
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """As `results_ap`, and the same of each class alone, by its name in the order of `truth.categories`.

    Raises:
        InputError: an object of the truth has no mask, or `backend` is not installed.
        ValueError: the results of an image do not follow one another, or it is not of the truth.
    """
    if backend == "faster":
        evaluation = _faster(truth, results, max_detections)
    else:
        evaluation = matched(truth, results, max_detections)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
    precision = evaluation.eval["precision"]  # (IoU thresholds, recalls, classes, areas, max detections)
    precision = precision[..., evaluation.params.maxDets.index(max_detections)]
    areas = evaluation.params.areaRngLbl
    thresholds = [round(float(value), 2) for value in evaluation.params.iouThrs]

    def mean(part: NDArray[np.float64]) -> float:
        return float(part[part > -1].mean()) if (part > -1).any() else -1.0

    def scores(part: NDArray[np.float64]) -> dict[str, float]:
        every = part[..., areas.index("all")]
        values = (every, every[thresholds.index(0.5)], every[thresholds.index(0.75)])
        sizes = (part[..., areas.index(name)] for name in ("small", "medium", "large"))
        return dict(zip(AP_KEYS, map(mean, (*values, *sizes)), strict=True))

    places = {number: place for place, number in enumerate(evaluation.params.catIds)}
    classes = {item.name: scores(precision[:, :, [places[item.id]]]) for item in truth.categories}
    return scores(precision), classes


def matched(truth: CocoData, results: Iterable[Mapping[str, Any]], max_detections: int = 100) -> COCOeval:
    """COCOeval (segm) after `evaluate`: every image's results matched with its objects, nothing summed up.

    Masks of a few images are in memory at a time, where `results` is a generator.

    Raises:
        InputError: an object of the truth has no mask.
        ValueError: the results of an image do not follow one another, or it is not of the truth.
    """
    rows: dict[int, list[Any]] = {}  # by image: its matches, classes x areas
    with contextlib.redirect_stdout(io.StringIO()):
        for images, records in _groups(truth, results):
            evaluation = _cocoeval(images, _truth_records(images), records, max_detections)
            evaluation.evaluate()
            ids = evaluation.params.imgIds
            for place, number in enumerate(ids):
                rows[int(number)] = [_kept(item) for item in evaluation.evalImgs[place :: len(ids)]]
        whole = _cocoeval(truth, [], [], max_detections)
    whole.evalImgs = [
        item for column in zip(*(rows[i] for i in whole.params.imgIds), strict=True) for item in column
    ]
    whole._paramsEval = copy.deepcopy(whole.params)  # as `evaluate` leaves it; `accumulate` goes by it
    return whole


def _cocoeval(
    truth: CocoData, objects: Iterable[Mapping[str, Any]], results: Iterable[Mapping[str, Any]], most: int
) -> COCOeval:
    evaluation = COCOeval(_coco(truth, objects), _coco(truth, results), "segm")
    evaluation.params.maxDets = sorted({1, 10, most})
    return evaluation


def _groups(
    truth: CocoData, results: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[CocoData, list[Mapping[str, Any]]]]:
    """A few images and their results at a time, in the results' order; then the images without any."""
    left = {image.id: image for image in truth.images}
    images: list[ImageRecord] = []
    records: list[Mapping[str, Any]] = []
    for number, own in groupby(results, key=itemgetter("image_id")):
        if number not in left:
            raise ValueError(f"results of image {number}: not of the truth, or not one after another")
        images.append(left.pop(number))
        records += own
        if len(images) == IMAGES:
            yield replace(truth, images=tuple(images)), records
            images, records = [], []
    others = [*images, *left.values()]
    for start in range(0, len(others), IMAGES):
        yield replace(truth, images=tuple(others[start : start + IMAGES])), records if start == 0 else []


def _kept(item: dict[str, Any] | None) -> dict[str, Any] | None:
    """What `accumulate` reads of the matches of an image, a class and an area."""
    if item is None:
        return None
    return {
        "dtScores": np.array(item["dtScores"]),
        "dtMatches": item["dtMatches"] > 0,
        "dtIgnore": item["dtIgnore"].astype(bool),
        "gtIgnore": item["gtIgnore"],
    }


def _faster(truth: CocoData, results: Iterable[Mapping[str, Any]], max_detections: int) -> Any:
    """faster-coco-eval's evaluation, summed up."""
    try:
        from faster_coco_eval import COCO as FasterCOCO
        from faster_coco_eval import COCOeval_faster
    except ImportError as error:
        raise InputError(
            "expected the package faster-coco-eval, found none",
            where="evaluate.backend",
            remedy="pip install -c constraints.txt -e '.[faster]', or set it to pycocotools",
        ) from error
    sides = (_coco(truth, records, FasterCOCO) for records in (_truth_records(truth), results))
    evaluation = COCOeval_faster(*sides, "segm")
    evaluation.params.maxDets = sorted({1, 10, max_detections})
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _truth_records(truth: CocoData) -> list[dict[str, Any]]:
    records = []
    for image in truth.images:
        for item in image.annotations:
            if item.rle is None:
                if item.ignored:
                    continue
                raise InputError(
                    "expected a mask, found a point only",
                    where=truth.path or "",
                    record=f"annotation {item.id}",
                    remedy="AP needs masks of every object; leave this image out of the evaluation",
                )
            records.append(
                {
                    "image_id": image.id,
                    "category_id": truth.categories[item.label].id,
                    "segmentation": item.rle,
                    "bbox": rle_api.bounding_box(item.rle),
                    "area": rle_api.area(item.rle) if item.area is None else item.area,
                    "iscrowd": int(item.ignored),  # COCOeval overwrites 'ignore' with this
                }
            )
    return records


def _coco(truth: CocoData, records: Iterable[Mapping[str, Any]], kind: Any = COCO) -> Any:
    coco = kind()
    coco.dataset = {
        "images": [{"id": im.id, "height": im.height, "width": im.width} for im in truth.images],
        "categories": [{"id": item.id, "name": item.name} for item in truth.categories],
        # Numbered from 1: COCOeval takes a match with id 0 for none.
        "annotations": [{"iscrowd": 0, **r, "id": number} for number, r in enumerate(records, 1)],
    }
    coco.createIndex()
    return coco
