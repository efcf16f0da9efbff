"""Predictions over a score threshold as labels."""

from __future__ import annotations

import torch

from wssis.data import rle as rle_api
from wssis.data.records import Annotation, ImageRecord
from wssis.instances import Instances

THRESHOLDS = tuple(round(0.05 * n, 2) for n in range(1, 20))


def of_classes(found: Instances, record: ImageRecord) -> Instances:
    """The predictions of classes that the image is known to show: those of its objects or points."""
    shown = torch.tensor(sorted({item.label for item in record.objects}), dtype=torch.int64)
    return found[torch.isin(found.labels, shown.to(found.labels.device))]


def as_labels(record: ImageRecord, found: Instances, threshold: float, first: int) -> ImageRecord:
    """The image with the predictions over `threshold` as its objects, with ids from `first` on."""
    found = found[found.get_scores() >= threshold]
    columns = found.labels.tolist(), rle_api.encode(found.get_masks()), found.get_scores().tolist()
    items = [
        Annotation(first + n, label, rle, score=score)
        for n, (label, rle, score) in enumerate(zip(*columns, strict=True))
    ]
    return ImageRecord(record.id, record.file_name, record.height, record.width, tuple(items))
