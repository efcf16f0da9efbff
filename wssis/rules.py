"""Rules for pseudo-labels: arithmetic on proposals that decides what to trust. No network is asked.

Every point ends as exactly one mask or one ignore region.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from wssis.instances import Instances
from wssis.proposals import CHUNK, Proposals, full_size, pasted
from wssis.settings import PseudoRules


def decide(proposals: Proposals, rules: PseudoRules) -> Instances:
    """Masks and ignore regions of one image under `rules`: `every_mask`, then `admit`."""
    return admit(every_mask(proposals, rules), rules)


def every_mask(proposals: Proposals, rules: PseudoRules) -> Instances:
    """A mask for each point, trusted or not; with `rules.exclusive` no two share a pixel.

    Returns:
        N instances in the order of the points; `scores` is the confidence. A mask is empty, and its
        confidence 0, where nothing was found; empty alone where more probable neighbours took every pixel.
    """
    return masks_and_signals(proposals, rules)[0]


@torch.inference_mode()
def masks_and_signals(proposals: Proposals, rules: PseudoRules) -> tuple[Instances, Tensor]:
    """`every_mask`, and the signal (N,) of how good each mask is, 0..1; see `signal`."""
    count, size = len(proposals.points), proposals.size
    owner_prob = torch.zeros(size)
    owner = torch.full(size, -1)
    masks = torch.zeros((count, *size), dtype=torch.bool)
    confidence, sure = torch.zeros(count), torch.zeros(count)
    area = torch.zeros(count, dtype=torch.int64)
    for rows in torch.arange(count).split(CHUNK) if count else ():
        blend, agreement = blended(proposals, rows, rules)
        masks[rows] = blend > rules.mask_threshold
        sure[rows], area[rows] = maskness(blend, rules)
        confidence[rows] = confidences(blend, sure[rows], agreement, proposals, rows, rules)
        best, index = (blend * masks[rows]).max(0)
        better = best > owner_prob
        owner_prob, owner = torch.where(better, best, owner_prob), torch.where(better, rows[index], owner)
    if rules.exclusive:
        masks &= owner == torch.arange(count)[:, None, None]
    kept = masks.flatten(1).sum(1) / area.clamp(min=1)
    views = torch.ones(count) if proposals.views is None else proposals.views
    found = Instances(
        size=size,
        labels=proposals.labels,
        masks=masks,
        points=proposals.points,
        scores=confidence,
        ids=proposals.ids,
    )
    return found, signal(sure, views, kept)


def with_drawn(found: Instances, drawn: Instances, rules: PseudoRules) -> Instances:
    """Put masks that a person drew in the place of those that were found for the same objects.

    Args:
        found: see `every_mask`, with `ids`.
        drawn: masks with `ids`, each also in `found`.
        rules: with `exclusive`, the other masks lose the pixels of the drawn ones.

    Returns:
        The instances of `found`; the drawn ones have a confidence of 1.
    """
    assert found.masks is not None
    assert found.scores is not None
    assert found.ids is not None
    assert drawn.masks is not None
    assert drawn.ids is not None
    if not len(drawn):
        return found
    place = {int(i): row for row, i in enumerate(found.ids)}
    rows = torch.tensor([place[int(i)] for i in drawn.ids])
    masks, scores = found.masks.clone(), found.scores.clone()
    if rules.exclusive:
        masks &= ~drawn.masks.any(0)
    masks[rows], scores[rows] = drawn.masks, 1.0
    return replace(found, masks=masks, scores=scores)


def admit(found: Instances, rules: PseudoRules) -> Instances:
    """Turn masks that are not trusted into ignore regions.

    Returns:
        The instances of `found`, those under `rules.min_confidence` with an empty mask; their pixels, and a
        disc round the point of each that has no mask, are in `ignore`.
    """
    assert found.masks is not None
    assert found.scores is not None
    assert found.points is not None
    trusted = (found.scores >= rules.min_confidence)[:, None, None]
    masks = found.masks & trusted
    missing = ~masks.flatten(1).any(1)
    regions = (found.masks & ~trusted).any(0) | discs(found.points[missing], found.size, rules.ignore_radius)
    return replace(found, masks=masks, ignore=regions & ~masks.any(0))


def blended(proposals: Proposals, rows: Tensor, rules: PseudoRules) -> tuple[Tensor, Tensor]:
    """Probabilities (n, H, W) of rough and refined masks together, and the IoU of the two (n,).

    Where the refined mask is empty the rough one is kept.
    """
    rough = full_size(proposals, rows)
    if proposals.refined is None:
        return rough, torch.ones(len(rows))
    refined = pasted(proposals.refined, proposals.windows, proposals.size, rows)
    hard_rough, hard_refined = rough > rules.mask_threshold, refined > rules.mask_threshold
    both = (hard_rough & hard_refined).flatten(1).sum(1)
    either = (hard_rough | hard_refined).flatten(1).sum(1)
    weight = rules.refined_weight * hard_refined.flatten(1).any(1)[:, None, None]
    return rough + weight * (refined - rough), both / either.clamp(min=1)


def signal(sure: Tensor, views: Tensor, kept: Tensor) -> Tensor:
    """How good a mask probably is (N,), 0..1: of what was tried, nearest to the order of true IoUs.

    Args:
        sure: (N,) mean probability inside the mask.
        views: (N,) how far the teacher's masks of the flipped image agree, see `Proposals`.
        kept: (N,) share of the mask that no neighbour's has taken.
    """
    return sure * (views * kept).sqrt()


def maskness(blend: Tensor, rules: PseudoRules) -> tuple[Tensor, Tensor]:
    """Mean probability (n,) inside the mask, and the mask's pixels (n,)."""
    inside = blend > rules.mask_threshold
    area = inside.flatten(1).sum(1)
    return (blend * inside).flatten(1).sum(1) / area.clamp(min=1), area


def confidences(
    blend: Tensor, sure: Tensor, agreement: Tensor, proposals: Proposals, rows: Tensor, rules: PseudoRules
) -> Tensor:
    """Confidence (n,) in 0..1: maskness x (probability at the point)^a x (agreement of the two masks)^b."""
    height, width = proposals.size
    x = proposals.points[rows, 0].long().clamp(0, width - 1)
    y = proposals.points[rows, 1].long().clamp(0, height - 1)
    at_point = blend[torch.arange(len(rows)), y, x]
    return sure * at_point**rules.own_point * agreement**rules.agreement


def discs(points: Tensor, size: tuple[int, int], radius: float) -> Tensor:
    """(H, W) bool: pixels whose middle is within `radius` pixels of one of the points (N, 2)."""
    y = torch.arange(size[0])[:, None] + 0.5
    x = torch.arange(size[1])[None, :] + 0.5
    region = torch.zeros(size, dtype=torch.bool)
    for px, py in points.tolist():
        region |= (x - px) ** 2 + (y - py) ** 2 <= radius**2
    return region
