"""What counts as the same answer."""

from dataclasses import replace

import torch

from wssis.inference.agreement import parity
from wssis.instances import Instances


def boxes(*rows: tuple[int, int, float, int]) -> Instances:
    """Instances of a 40 x 40 image: squares at (0, x), of a side, with a score and a label."""
    masks = torch.zeros((len(rows), 40, 40), dtype=torch.bool)
    for mask, (x, side, _, _) in zip(masks, rows, strict=True):
        mask[:side, x : x + side] = True
    scores = torch.tensor([score for *_, score, _ in rows], dtype=torch.float32)
    labels = torch.tensor([label for *_, label in rows], dtype=torch.int64)
    return Instances(size=(40, 40), labels=labels, masks=masks, scores=scores)


OWN = boxes((0, 10, 0.9, 0), (20, 12, 0.6, 1), (30, 5, 0.3, 0))


def test_the_same_in_another_order() -> None:
    other = OWN[torch.tensor([1, 0, 2])]
    result = parity([OWN, boxes()], [other, boxes()], 0.05, 100)
    assert result.holds
    assert (result.images, result.instances, result.iou, result.score) == (2, 3, 1.0, 0.0)


def test_what_is_not_the_same() -> None:
    assert not parity(
        [OWN], [boxes((0, 10, 0.8998, 0), *[(20, 12, 0.6, 1), (30, 5, 0.3, 0)])], 0.05, 100
    ).holds
    assert parity([OWN], [boxes((0, 10, 0.9, 1), (20, 12, 0.6, 1), (30, 5, 0.3, 0))], 0.05, 100).unpaired == 2
    assert parity([OWN], [OWN[:2]], 0.05, 100).unpaired == 1
    assert parity([OWN[:2]], [OWN], 0.05, 100).unpaired == 1
    smaller = boxes((0, 10, 0.9, 0), (20, 11, 0.6, 1), (30, 5, 0.3, 0))
    result = parity([OWN], [smaller], 0.05, 100)
    assert (result.changed, result.unpaired) == (1, 0)
    assert not result.holds


def test_who_falls_at_the_threshold_may_be_missing() -> None:
    assert parity([OWN], [OWN[:2]], 0.29995, 100).holds
    assert parity([OWN], [OWN[:2]], 0.05, 3).holds  # it was the last of 3 that were asked for
    assert not parity([OWN], [OWN[:1]], 0.05, 3).holds


def test_a_pixel_at_the_threshold_is_counted_but_no_change() -> None:
    other = boxes((0, 10, 0.9, 0), (20, 12, 0.6, 1), (30, 5, 0.3, 0))
    other.masks[2, 4, 34] = False
    result = parity([OWN], [other], 0.05, 100)
    assert (result.changed, result.least_iou) == (0, torch.tensor(24 / 25).item())
    assert not result.holds  # an IoU of 0.96 is much of three masks
    assert result.iou < 0.999


def test_a_few_scores_may_be_moved_by_rounding_and_are_told() -> None:
    crowd = boxes(*[(0, side, side / 100, side % 3) for side in range(5, 40)])
    one = crowd.scores.clone()
    one[3] += 0.005
    result = parity([crowd], [replace(crowd, scores=one)], 0.01, 100)
    assert not result.holds
    assert result.within_rounding
    assert result.apart == 1
    assert "(1 not within 1e-4)" in str(result)
    for scores in (crowd.scores + 0.005, torch.where(one > crowd.scores, one + 0.01, one)):
        assert not parity([crowd], [replace(crowd, scores=scores)], 0.01, 100).within_rounding
    assert not parity([crowd], [crowd[:-1]], 0.01, 100).within_rounding
