"""Points to pseudo-labels: every point is one mask or one ignore region, whatever the points are."""

from dataclasses import replace

import pytest
import torch

from wssis.labeler import Labeler, Proposals, decide, discs
from wssis.models.refiner import Refiner
from wssis.models.solov2 import SOLOv2
from wssis.settings import PseudoRules, RefinerSettings, ResizeSettings, SOLOv2Settings

CLASSES = 3


@pytest.fixture(scope="module")
def labeler() -> Labeler:
    torch.manual_seed(0)
    teacher = SOLOv2(
        SOLOv2Settings(pretrained=False, fpn_channels=16, head_channels=16, mask_channels=8), CLASSES
    )
    refiner = Refiner(RefinerSettings(pretrained=False, width=16, crop=32), CLASSES)
    return Labeler(teacher, refiner, ResizeSettings())


def blob(size: tuple[int, int], x: int, y: int, side: int, value: float = 0.9) -> torch.Tensor:
    probs = torch.zeros(size)
    probs[y : y + side, x : x + side] = value
    return probs


def proposals(*maps: torch.Tensor, points: list[list[float]]) -> Proposals:
    rough = torch.stack(maps).half()
    size = (int(rough.shape[1]), int(rough.shape[2]))
    count = len(points)
    return Proposals(
        points=torch.tensor(points, dtype=torch.float32).reshape(count, 2),
        labels=torch.zeros(count, dtype=torch.int64),
        ids=torch.arange(count),
        size=size,
        rough=rough,
        rough_size=(float(size[0]), float(size[1])),
        score=torch.ones(count),
        refined=None,
        windows=torch.zeros((count, 4)),
    )


RULES = PseudoRules(refined_weight=0.0, agreement=0.0)


def is_accounted(instances) -> bool:
    """Each point: a mask of its own, or a pixel region ignored where nothing else lies."""
    has_mask = instances.masks.flatten(1).any(1)
    x, y = instances.points.long().unbind(1)
    covered = instances.masks.any(0)[y, x] | instances.ignore[y, x]
    return bool((has_mask | covered).all())


@pytest.mark.parametrize("count", [0, 1, 5, 369])
def test_one_answer_a_point(labeler: Labeler, count: int) -> None:
    torch.manual_seed(count)
    image = torch.randint(0, 255, (3, 70, 101), dtype=torch.uint8)
    points = torch.rand(count, 2) * torch.tensor([101.0, 70.0])
    labels = torch.randint(0, CLASSES, (count,))
    ids = torch.arange(count) + 7
    answer = labeler.label(image, points, labels, ids)
    assert len(answer) == count
    assert answer.masks.shape == (count, 70, 101)
    assert torch.equal(answer.labels, labels)
    assert torch.equal(answer.ids, ids)
    assert is_accounted(answer)


def test_points_of_one_cell_keep_an_answer_each(labeler: Labeler) -> None:
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    points = torch.tensor([[33.0, 33.0], [33.5, 33.0], [33.0, 33.0]])
    answer = labeler.label(image, points, torch.tensor([0, 0, 2]))
    assert len(answer) == 3
    assert is_accounted(answer)


def test_views_make_the_answer_follow_a_flip_of_the_image(labeler: Labeler) -> None:
    """With all flips as views, a mirrored image with mirrored points has the mirrored rough masks."""
    torch.manual_seed(5)
    image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
    points = torch.tensor([[20.5, 20.5], [70.5, 44.5]])
    mirrored = torch.stack([96 - points[:, 0], 64 - points[:, 1]], 1)
    labels = torch.tensor([0, 1])
    for flips, same in (("all", True), ("none", False)):
        asked = Labeler(labeler.teacher, None, ResizeSettings(), flips=flips)
        here = asked.propose(image, points, labels).rough.float()
        there = asked.propose(image.flip(1, 2), mirrored, labels).rough.float().flip(1, 2)
        assert torch.allclose(here, there, atol=2e-3) == same


def test_rules_can_be_tried_without_a_network(labeler: Labeler) -> None:
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    points = torch.tensor([[20.0, 20.0], [40.0, 44.0]])
    given = labeler.propose(image, points, torch.tensor([0, 1]))
    rules = PseudoRules(min_confidence=0.0)
    direct = Labeler(labeler.teacher, labeler.refiner, labeler.resize, rules).label(
        image, points, torch.tensor([0, 1])
    )
    assert torch.equal(decide(given, rules).masks, direct.masks)


def test_a_doubted_point_becomes_an_ignore_region() -> None:
    given = proposals(blob((40, 40), 5, 5, 10), blob((40, 40), 25, 25, 10, 0.55), points=[[10, 10], [30, 30]])
    answer = decide(given, replace(RULES, min_confidence=0.6))
    assert answer.masks[0].sum() == 100
    assert not answer.masks[1].any()
    assert answer.ignore[25:35, 25:35].all()
    assert not answer.ignore[5:15, 5:15].any()


def test_an_empty_mask_becomes_a_disc_to_ignore() -> None:
    answer = decide(proposals(torch.zeros(40, 40), points=[[20, 20]]), replace(RULES, min_confidence=0.0))
    assert not answer.masks.any()
    assert torch.equal(answer.ignore, discs(torch.tensor([[20.0, 20.0]]), (40, 40), RULES.ignore_radius))


def test_a_mask_that_misses_its_point_is_doubted() -> None:
    given = proposals(blob((40, 40), 5, 5, 10), blob((40, 40), 5, 5, 10), points=[[10, 10], [30, 30]])
    scores = decide(given, replace(RULES, own_point=1.0, exclusive=False)).scores
    assert scores[0] > 0.5
    assert scores[1] == 0


def test_contested_pixels_go_to_the_more_probable_mask() -> None:
    given = proposals(
        blob((40, 40), 5, 5, 20, 0.7), blob((40, 40), 15, 15, 20, 0.9), points=[[8, 8], [30, 30]]
    )
    answer = decide(given, RULES)
    assert not (answer.masks[0] & answer.masks[1]).any()
    assert answer.masks[1].sum() == 400
    both = decide(given, replace(RULES, exclusive=False))
    assert (both.masks[0] & both.masks[1]).any()


def test_nested_objects_both_keep_a_mask() -> None:
    given = proposals(
        blob((40, 40), 5, 5, 30, 0.8), blob((40, 40), 15, 15, 8, 0.9), points=[[8, 8], [18, 18]]
    )
    masks = decide(given, RULES).masks
    assert masks[1].sum() == 64
    assert masks[0].sum() == 900 - 64


def test_an_object_that_loses_every_pixel_is_ignored_not_lost() -> None:
    given = proposals(
        blob((40, 40), 15, 15, 8, 0.7), blob((40, 40), 5, 5, 30, 0.9), points=[[18, 18], [8, 8]]
    )
    answer = decide(given, RULES)
    assert not answer.masks[0].any()
    assert is_accounted(answer)


def test_an_empty_refined_mask_keeps_the_rough_one() -> None:
    given = proposals(blob((40, 40), 5, 5, 10), points=[[10, 10]])
    given = replace(
        given, refined=torch.zeros((1, 16, 16)).half(), windows=torch.tensor([[0.0, 0.0, 20.0, 20.0]])
    )
    answer = decide(given, replace(RULES, refined_weight=1.0, min_confidence=0.0))
    assert answer.masks[0].sum() == 100


@pytest.mark.parametrize(
    "change",
    [{"mask_threshold": 1.0}, {"refined_weight": 1.5}, {"min_confidence": -1.0}, {"ignore_radius": 0.0}],
)
def test_rules_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        PseudoRules(**change)
