"""Misses and false masks at every threshold, and the choice among them."""

from __future__ import annotations

import pytest
import torch

from pipelines.comparing import predicted
from pipelines.comparing.thresholds import Judged, as_labels, chosen, judge, of_classes
from wssis.data import rle as rle_api
from wssis.data.coco import Annotation, ImageRecord
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


def truth(*objects: tuple[int, int], crowd: int | None = None) -> ImageRecord:
    """An image with true squares of (x, label)."""
    items = [
        Annotation(n, label, rle_api.encode(square(x)[None])[0]) for n, (x, label) in enumerate(objects, 1)
    ]
    if crowd is not None:
        items.append(Annotation(99, 0, rle_api.encode(square(crowd, 8)[None])[0], crowd=True))
    return ImageRecord(1, "a.png", 8, 32, tuple(items))


def test_a_threshold_trades_misses_for_false_masks() -> None:
    pairs = [
        (found((0, 0, 0.9), (8, 0, 0.3), (16, 0, 0.6)), truth((0, 0), (8, 0))),
        (found(), truth((24, 1))),
    ]
    judged = judge(pairs)
    assert judged.at(0.1) == (2, 1, 1)
    assert judged.at(0.5) == (1, 1, 2)
    assert judged.at(0.7) == (1, 0, 2)
    assert judged.at(0.95) == (0, 0, 3)
    assert judged.shares(0.5) == (pytest.approx(2 / 3), 0.5)
    assert judged.shares(0.95) == (1.0, 0.0)


def test_one_pass_over_the_images_judges_all_rows() -> None:
    """As all images together; `image_level` knows the classes of each."""
    pairs = [
        (truth((0, 0), (8, 0)), found((0, 0, 0.9), (8, 1, 0.3), (16, 0, 0.6))),
        (truth((24, 1)), found()),
        (truth(), found((0, 2, 0.7))),
    ]
    rows = predicted.judged(iter(pairs))
    for row, only in predicted.FILTERS.items():
        whole = judge((only(objects, record), record) for record, objects in pairs)
        assert rows[row].scores.tolist() == whole.scores.tolist()
        assert rows[row].hits.tolist() == whole.hits.tolist()
        assert rows[row].objects == whole.objects == 3
    assert [len(rows[row].scores) for row in predicted.FILTERS] == [4, 2]
    assert predicted.judged(())["predicted"].shares(0.5) == (0.0, 0.0)


def test_an_object_is_hit_once_and_by_its_class_only() -> None:
    judged = judge([(found((0, 0, 0.4), (0, 0, 0.8), (8, 1, 0.9)), truth((0, 0), (8, 0)))])
    assert judged.scores.tolist() == pytest.approx([0.9, 0.8, 0.4])  # in the order of scores
    assert judged.hits.tolist() == [False, True, False]


def test_predictions_in_a_crowd_do_not_count() -> None:
    judged = judge([(found((0, 0, 0.9), (16, 0, 0.8)), truth((0, 0), crowd=16))])
    assert judged.at(0.1) == (1, 0, 0)


def test_nothing_at_all() -> None:
    assert judge([]).at(0.5) == (0, 0, 0)
    assert judge([(found(), truth())]).f1(0.5) == 0.0
    assert judge([(found((0, 0, 0.9)), truth())]).shares(0.5) == (0.0, 1.0)


def test_the_middle_of_the_best_thresholds_is_chosen() -> None:
    judged = Judged(torch.tensor([0.2, 0.62]), torch.tensor([False, True]), 1)
    assert chosen(judged) == 0.45  # .25 to .60 keep the hit and drop the false mask
    assert chosen(Judged(torch.zeros(0), torch.zeros(0, dtype=torch.bool), 0)) == 0.5


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
