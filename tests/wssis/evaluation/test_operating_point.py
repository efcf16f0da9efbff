"""The score from which instances are shown: the best F1 at IoU .5."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wssis.data import rle as rle_api
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.evaluation.operating_point import Matches, OperatingPoint

SIZE = (8, 32)
Found = tuple[int, int, float]  # x, label, score


def square(x: int, width: int = 4) -> dict:
    mask = torch.zeros((1, *SIZE), dtype=torch.bool)
    mask[0, 2:6, x : x + width] = True
    return rle_api.encode(mask)[0]


def data(*images: tuple[tuple[int, int], ...], crowd: int | None = None) -> CocoData:
    """Images with true squares of (x, label)."""
    records, number = [], 0
    for i, objects in enumerate(images, 1):
        items = []
        for x, label in objects:
            number += 1
            items.append(Annotation(number, label, square(x)))
        if crowd is not None:
            items.append(Annotation(99, 0, square(crowd, 8), crowd=True))
        records.append(ImageRecord(i, f"{i}.png", *SIZE, tuple(items)))
    return CocoData((Category(3, "a"), Category(7, "b")), tuple(records), ".")


def results(truth: CocoData, *images: tuple[Found, ...]) -> list[dict]:
    return [
        {
            "image_id": number,
            "category_id": truth.categories[label].id,
            "segmentation": square(x),
            "bbox": [x, 2, 4, 4],
            "area": 16,
            "score": score,
        }
        for number, found in enumerate(images, 1)
        for x, label, score in found
    ]


def match(truth: CocoData, *images: tuple[Found, ...]) -> Matches:
    return Matches.of(truth, results(truth, *images))


def test_a_score_trades_misses_for_false_masks() -> None:
    truth = data(((0, 0), (8, 0)), ((24, 1),))
    found = match(truth, ((0, 0, 0.9), (8, 0, 0.3), (16, 0, 0.6)), ())
    assert found.objects == 3
    assert found.at(0.1) == OperatingPoint(0.1, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert found.at(0.5) == OperatingPoint(0.5, 0.5, pytest.approx(1 / 3))
    assert found.at(0.95) == OperatingPoint(0.95, 0.0, 0.0)
    assert (found.missed(0.95), found.false(0.95)) == (1.0, 0.0)
    assert found.at(0.7).f1 == pytest.approx(0.5)


def test_the_best_score_lies_between_the_last_shown_and_the_first_left_out() -> None:
    found = match(data(((0, 0), (8, 0))), ((0, 0, 0.9), (8, 0, 0.6), (16, 0, 0.4), (24, 0, 0.2)))
    best = found.best()
    assert best is not None
    assert best.score == pytest.approx(0.5)
    assert (best.precision, best.recall, best.f1) == (1.0, 1.0, 1.0)


def test_the_last_digits_of_scores_do_not_change_the_threshold() -> None:
    """They vary with the number of threads; `wssis trace --checkout` compares bytes."""
    truth = data(((0, 0), (8, 0)))
    thresholds = set()
    for noise in (-1e-7, 0.0, 1e-7):
        scores = ((0, 0, 0.9), (8, 0, 0.3102 + noise), (16, 0, 0.3003 - noise))
        best = match(truth, scores).best()
        assert best is not None
        thresholds.add(best.score)
    assert thresholds == {0.31}  # halfway is .30525
    close = match(truth, ((0, 0, 0.9), (8, 0, 0.30512), (16, 0, 0.30508))).best()
    assert close is not None
    assert close.score == 0.3051  # as many decimals as it takes


def test_where_all_are_right_all_are_shown() -> None:
    best = match(data(((0, 0), (8, 0))), ((0, 0, 0.9), (8, 0, 0.6))).best()
    assert best is not None
    assert best.score == pytest.approx(0.6)
    assert best.f1 == 1.0


def test_instances_of_one_score_are_shown_together_or_not_at_all() -> None:
    found = match(data(((0, 0),)), ((0, 0, 0.5), (8, 0, 0.5), (16, 0, 0.4)))
    best = found.best()
    assert best is not None
    assert best.score == pytest.approx(0.45)
    assert best.precision == 0.5


def test_an_object_is_hit_once_and_by_its_class_only() -> None:
    found = match(data(((0, 0), (8, 0))), ((0, 0, 0.4), (0, 0, 0.8), (8, 1, 0.9)))
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.4])
    assert found.hits.tolist() == [False, True, False]


def test_instances_in_a_crowd_neither_count_nor_cost() -> None:
    found = match(data(((0, 0),), crowd=16), ((0, 0, 0.9), (16, 0, 0.8)))
    assert found.objects == 1
    assert found.scores.tolist() == [0.9]


@pytest.mark.parametrize("images", [((),), (((0, 0),),)])
def test_where_nothing_is_found_no_score_is_chosen(images: tuple) -> None:
    assert match(data(*images), ()).best() is None
    assert match(data(*images), ((24, 1, 0.9),)).best() is None
    assert match(data(*images), ()).at(0.5).f1 == 0.0


def test_the_best_of_many_is_the_best_of_all_scores() -> None:
    """Against trying every score."""
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random(300).round(2))[::-1]
    matches = Matches(scores, rng.random(300) < scores, 180)
    best = matches.best()
    assert best is not None
    assert best.f1 == max(matches.at(score).f1 for score in scores)
