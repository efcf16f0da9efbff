"""Doubt, rare classes and appearance decide; choices spread."""

import numpy as np
import pytest

from wssis.image_ranking import Candidate, appearance, rank_images

SAME = np.array([1.0, 0.0])
OTHER = np.array([0.0, 1.0])


def candidate(number: int, labels: list[int], quality: float, look: np.ndarray = SAME) -> Candidate:
    return Candidate(number, np.array(labels, dtype=np.int64), np.full(len(labels), quality), look)


def order(*candidates: Candidate, masks: tuple[int, ...] = (9, 9), count: int = 9) -> list[int]:
    return [choice.id for choice in rank_images(candidates, np.array(masks), SAME[None], count)]


def test_doubtful_labels_come_first() -> None:
    assert order(candidate(0, [0], 0.9), candidate(1, [0], 0.2), candidate(2, [0], 0.5)) == [1, 2, 0]


def test_a_rare_class_comes_first() -> None:
    assert order(candidate(0, [0], 0.5), candidate(1, [1], 0.5), masks=(99, 0)) == [1, 0]


def test_an_image_unlike_the_drawn_ones_comes_first() -> None:
    assert order(candidate(0, [0], 0.5), candidate(1, [0], 0.5, OTHER)) == [1, 0]


def test_a_class_counts_less_once_it_is_chosen() -> None:
    rare = [candidate(n, [1] * 3, 0.5) for n in range(3)]
    assert order(*rare, candidate(3, [0] * 3, 0.5), masks=(4, 0), count=3) == [0, 1, 3]


def test_unlabeled_images_count_as_the_mean_of_the_clicked() -> None:
    unseen = Candidate(5, None, np.zeros(0), SAME)
    assert order(candidate(0, [0], 0.9), unseen, candidate(1, [0], 0.1)) == [1, 5, 0]


@pytest.mark.parametrize("count", [0, 2, 5])
def test_no_more_images_than_there_are(count: int) -> None:
    assert len(order(candidate(0, [0], 0.5), candidate(1, [], 0.5), count=count)) == min(count, 2)
    assert rank_images([], np.array([1]), np.zeros((0, 0)), count) == []


def test_nothing_drawn_yet() -> None:
    chosen = rank_images([candidate(0, [0], 0.5)], np.array([0]), np.zeros((0, 0)), 1)
    assert [choice.id for choice in chosen] == [0]


def test_appearance_is_a_unit_vector_of_any_size() -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 1), (7, 13), (64, 64)):
        look = appearance(rng.integers(0, 256, (3, *size), dtype=np.uint8))
        assert look.shape == (64,)
        assert np.linalg.norm(look) == pytest.approx(1)
    dark, light = (np.full((3, 8, 8), value, dtype=np.uint8) for value in (0, 255))
    assert np.linalg.norm(appearance(dark) - appearance(light)) == pytest.approx(np.sqrt(2))
