"""Rules for pseudo-labels: what is trusted, what is ignored, who gets contested pixels."""

from dataclasses import replace

import pytest
import torch

from wssis.instances import Instances
from wssis.pseudo_labels.decisions import admit, decide, discs, every_mask, matched_threshold, with_drawn
from wssis.pseudo_labels.proposals import Proposals
from wssis.pseudo_labels.rules import PseudoRules


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


def test_the_matched_threshold_makes_masks_as_large_as_the_drawn_ones() -> None:
    # A cone: at threshold t its disc has a radius of 12 (1 - t), 4.8 px at 0.6.
    y, x = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(40) + 0.5, indexing="ij")
    cone = (1 - ((x - 20) ** 2 + (y - 20) ** 2).sqrt() / 12).clamp(min=0)
    given = proposals(cone, points=[[20, 20]])
    drawn = Instances(
        (40, 40), torch.tensor([0]), masks=discs(torch.tensor([[20.0, 20.0]]), (40, 40), 4.8)[None]
    )
    assert matched_threshold([(given, drawn)], RULES) == 0.6
    assert matched_threshold([(proposals(torch.zeros(40, 40), points=[[20, 20]]), drawn)], RULES) == 0.5
    assert matched_threshold([], RULES) == 0.5


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


def test_admitting_later_is_deciding_at_once() -> None:
    """The stage pseudo finds all masks once, and admits some: `decide` is the same in one call."""
    given = proposals(
        blob((40, 40), 5, 5, 20, 0.7), blob((40, 40), 15, 15, 20, 0.9), points=[[8, 8], [30, 30]]
    )
    for exclusive in (True, False):
        rules = replace(RULES, min_confidence=0.8, exclusive=exclusive)
        found = every_mask(given, replace(rules, min_confidence=0.0))
        assert torch.equal(admit(found, rules).ignore, decide(given, rules).ignore)
        assert torch.equal(admit(found, rules).masks, decide(given, rules).masks)
        assert found.masks.flatten(1).any(1).all()


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_drawn_mask_stays_as_it_is_and_takes_pixels_of_guesses(exclusive: bool) -> None:
    size = (40, 40)
    rules = replace(RULES, exclusive=exclusive, min_confidence=0.0)
    given = proposals(
        blob(size, 2, 2, 12),
        blob(size, 5, 5, 4, 0.8),
        blob(size, 20, 20, 9),
        points=[[4, 4], [6, 6], [22, 22]],
    )
    drawn = blob(size, 3, 3, 10) > 0
    own = Instances(size, torch.zeros(1, dtype=torch.int64), masks=drawn[None], ids=torch.tensor([0]))
    answer = admit(with_drawn(every_mask(given, rules), own, rules), rules)
    assert torch.equal(answer.masks[0], drawn)
    assert answer.scores[0] == 1
    assert answer.masks[2].sum() == 81
    assert (answer.masks[1] & drawn).any() == (not exclusive)
    # Nothing is left of the second's mask: it is a region to ignore, under the drawn one, and counts.
    assert answer.masks[1].any() == (not exclusive)
    nobody = Instances.empty(size)
    assert (
        with_drawn(every_mask(given, rules), nobody, rules).masks.sum()
        == every_mask(given, rules).masks.sum()
    )


@pytest.mark.parametrize(
    "change",
    [{"mask_threshold": 1.0}, {"refined_weight": 1.5}, {"min_confidence": -1.0}, {"ignore_radius": 0.0}],
)
def test_rules_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        PseudoRules(**change)
