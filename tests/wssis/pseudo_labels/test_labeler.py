"""Points to pseudo-labels: every point is one mask or one ignore region, whatever the points are."""

import pytest
import torch

from wssis.models.refiner import Refiner
from wssis.models.solov2 import SOLOv2
from wssis.pseudo_labels.decisions import decide
from wssis.pseudo_labels.labeler import Labeler, crops_at_once
from wssis.pseudo_labels.rules import PseudoRules
from wssis.settings import RefinerSettings, ResizeSettings, SOLOv2Settings

CLASSES = 3


@pytest.fixture(scope="module")
def labeler() -> Labeler:
    torch.manual_seed(0)
    teacher = SOLOv2(
        SOLOv2Settings(pretrained=False, fpn_channels=16, head_channels=16, mask_channels=8), CLASSES
    )
    refiner = Refiner(RefinerSettings(pretrained=False, width=16, crop=32), CLASSES)
    return Labeler(teacher, refiner, ResizeSettings())


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


def test_a_mirrored_view_is_asked_for_the_mirrored_class(labeler: Labeler) -> None:
    """With classes 0 and 1 a pair, a point of class 0 gets what one of class 1 gets in the mirror image."""
    torch.manual_seed(7)
    image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
    points, kind = torch.tensor([[20.5, 20.5]]), torch.tensor([0])
    across = torch.stack([96 - points[:, 0], points[:, 1]], 1)
    swapped = torch.tensor([1, 0, 2])
    for flips in ("horizontal", "all"):
        asked = Labeler(labeler.teacher, None, ResizeSettings(), flips=flips, mirrored=swapped)
        here = asked.propose(image, points, kind).rough.float()
        there = asked.propose(image.flip(2), across, swapped[kind]).rough.float().flip(2)
        assert torch.allclose(here, there, atol=2e-3)


def test_a_click_beside_the_object_changes_its_mask_alone(labeler: Labeler) -> None:
    torch.manual_seed(8)
    image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
    points, kinds = torch.tensor([[20.5, 20.5], [70.5, 44.5]]), torch.tensor([0, 1])
    clicks = torch.tensor([[0.0, 30.5, 22.5, 0.0], [0.0, 18.5, 20.5, 1.0]])
    asked = Labeler(labeler.teacher, labeler.refiner, ResizeSettings(), flips="all")
    plain, clicked = (asked.propose(image, points, kinds, clicks=given) for given in (None, clicks))
    assert clicked.score[0] < plain.score[0]
    assert torch.equal(clicked.score[1], plain.score[1])
    assert torch.equal(clicked.rough[1], plain.rough[1])
    assert plain.refined is not None
    assert clicked.refined is not None
    assert not torch.equal(clicked.refined[0], plain.refined[0])
    none = asked.propose(image, points, kinds, clicks=torch.zeros(0, 4))
    assert torch.equal(none.refined, plain.refined)


def test_clicks_follow_a_flip_of_the_image(labeler: Labeler) -> None:
    torch.manual_seed(9)
    image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
    points, kinds = torch.tensor([[20.5, 20.5]]), torch.tensor([0])
    clicks = torch.tensor([[0.0, 30.5, 22.5, 1.0], [0.0, 40.5, 20.5, 0.0]])
    across = points.clone(), clicks.clone()
    across[0][:, 0], across[1][:, 1] = 96 - points[:, 0], 96 - clicks[:, 1]
    asked = Labeler(labeler.teacher, None, ResizeSettings(), flips="all")
    here = asked.propose(image, points, kinds, clicks=clicks)
    there = asked.propose(image.flip(2), across[0], kinds, clicks=across[1])
    assert torch.allclose(here.rough.float(), there.rough.float().flip(2), atol=2e-3)
    assert torch.allclose(here.score, there.score, atol=1e-4)


def test_the_papers_rule_and_a_fixed_level_can_be_asked_for(labeler: Labeler) -> None:
    torch.manual_seed(6)
    image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
    asked = (image, torch.rand(20, 2) * 64, torch.zeros(20, dtype=torch.int64))

    def score(**settings: bool | int) -> torch.Tensor:
        return Labeler(labeler.teacher, None, ResizeSettings(), **settings).propose(*asked).score

    levels = torch.stack([score(own_point=False, level=level) for level in range(3)])
    assert torch.equal(levels.amax(0), score(own_point=False))
    assert not torch.equal(score(), score(own_point=False))


def test_rules_can_be_tried_without_a_network(labeler: Labeler) -> None:
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    points = torch.tensor([[20.0, 20.0], [40.0, 44.0]])
    given = labeler.propose(image, points, torch.tensor([0, 1]))
    rules = PseudoRules(min_confidence=0.0)
    direct = Labeler(labeler.teacher, labeler.refiner, labeler.resize, rules).label(
        image, points, torch.tensor([0, 1])
    )
    assert torch.equal(decide(given, rules).masks, direct.masks)


@pytest.mark.parametrize(("crop", "together"), [(32, 32), (64, 32), (128, 8), (256, 2), (512, 1)])
def test_large_crops_are_refined_few_at_a_time(crop: int, together: int) -> None:
    class Shown:
        settings = RefinerSettings(pretrained=False, crop=crop)

    assert crops_at_once(Shown(), torch.zeros(3, 8, 8)) == together  # type: ignore[arg-type]
