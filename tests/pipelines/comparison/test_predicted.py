"""Predictions over a threshold as labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipelines.comparison import predicted
from pipelines.comparison.predicted import as_labels, of_classes
from wssis.data import rle as rle_api
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.instances import Instances


def square(x: int, width: int = 4) -> torch.Tensor:
    mask = torch.zeros((8, 32), dtype=torch.bool)
    mask[2:6, x : x + width] = True
    return mask


def found(*objects: tuple[int, int, float]) -> Instances:
    """Predicted squares of (x, label, score)."""
    return Instances(
        size=(8, 32),
        labels=torch.tensor([label for _, label, _ in objects], dtype=torch.int64),
        masks=torch.stack([square(x) for x, _, _ in objects]) if objects else torch.zeros((0, 8, 32)) > 0,
        scores=torch.tensor([score for _, _, score in objects]),
    )


def truth(*objects: tuple[int, int]) -> ImageRecord:
    """An image with true squares of (x, label)."""
    items = [
        Annotation(n, label, rle_api.encode(square(x)[None])[0]) for n, (x, label) in enumerate(objects, 1)
    ]
    return ImageRecord(1, "a.png", 8, 32, tuple(items))


def test_one_pass_over_the_images_matches_for_all_rows() -> None:
    """As all images together; `image_level` knows the classes of each."""
    records = [
        replace(truth(*objects), id=n) for n, objects in enumerate([((0, 0), (8, 0)), ((24, 1),), ()], 1)
    ]
    predictions = [found((0, 0, 0.9), (8, 1, 0.3), (16, 0, 0.6)), found(), found((0, 2, 0.7))]
    data = CocoData(tuple(Category(n, str(n)) for n in (1, 2, 3)), tuple(records), ".")
    rows = predicted.matches_by_row(zip(records, predictions, strict=True), data, 100)
    assert rows["predicted"].scores.tolist() == pytest.approx([0.9, 0.7, 0.6, 0.3])
    assert rows["image_level"].scores.tolist() == pytest.approx([0.9, 0.6])
    for matches in rows.values():
        assert matches.hits.sum() == 1
        assert matches.objects == 3
        assert matches.missed(0.5) == pytest.approx(2 / 3)
    assert rows["predicted"].false(0.65) == 0.5
    assert rows["image_level"].false(0.65) == 0.0


def test_only_known_classes_stay() -> None:
    kept = of_classes(found((0, 0, 0.9), (8, 1, 0.8)), truth((20, 1)))
    assert kept.labels.tolist() == [1]
    assert len(of_classes(found((0, 0, 0.9)), truth())) == 0
    points = ImageRecord(1, "a.png", 8, 32, (Annotation(1, 0, point=(3.0, 3.0)),))
    assert len(of_classes(found((0, 0, 0.9), (8, 1, 0.8)), points)) == 1


def test_labels_are_the_masks_over_the_threshold() -> None:
    image = as_labels(truth((0, 0), (8, 0)), found((0, 0, 0.9), (8, 1, 0.5), (16, 0, 0.4)), 0.5, 10)
    assert [(item.id, item.label) for item in image.annotations] == [(10, 0), (11, 1)]
    assert not any(item.ignored for item in image.annotations)
    assert as_labels(truth((0, 0)), found(), 0.5, 10).annotations == ()
