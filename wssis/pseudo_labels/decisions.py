"""From proposals to pseudo-labels by `rules`: arithmetic without a network.

Every point ends as exactly one mask or one ignore region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wssis.instances import Instances
from wssis.ops.masks import mask_areas
from wssis.pseudo_labels.color_guidance import follow_colors
from wssis.pseudo_labels.mask_fusion import blends
from wssis.pseudo_labels.proposals import Proposals
from wssis.pseudo_labels.rules import PseudoRules, quality_signal


def decide(proposals: Proposals, rules: PseudoRules) -> Instances:
    """Masks and ignore regions of one image under `rules`: `every_mask`, then `admit`."""
    return admit(every_mask(proposals, rules), rules)


def every_mask(proposals: Proposals, rules: PseudoRules) -> Instances:
    """A mask for each point, trusted or not; with `rules.exclusive` no two share a pixel.

    Returns:
        N instances in the order of the points; `scores` is the confidence. A mask is empty, and its
        confidence 0, where nothing was found; empty alone where more probable neighbors took every pixel.
    """
    return masks_and_signals(proposals, rules)[0]


@torch.inference_mode()
def masks_and_signals(proposals: Proposals, rules: PseudoRules) -> tuple[Instances, Tensor]:
    """`every_mask`, and the signal (N,) of how good each mask is, 0..1; see `quality_signal`."""
    count, size = len(proposals.points), proposals.size
    proposals = guided(proposals, rules)
    owner_prob = torch.zeros(size)
    owner = torch.full(size, -1)
    masks = torch.zeros((count, *size), dtype=torch.bool)
    found = list(blends(proposals, rules))
    # Each pixel goes to the mask with the greatest probability there.
    for row, blend in enumerate(found):
        probs, best = blend.probs * blend.mask, owner_prob[blend.window]  # (h, w) both
        better = probs > best
        owner_prob[blend.window] = torch.where(better, probs, best)
        owner[blend.window] = torch.where(better, row, owner[blend.window])
    for row, blend in enumerate(found):
        kept = blend.mask & (owner[blend.window] == row) if rules.exclusive else blend.mask
        masks[(row, *blend.window)] = kept
    maskness, area, agreement, at_point = (
        torch.tensor([getattr(blend, name) for blend in found], dtype=torch.float32)
        for name in ("maskness", "area", "agreement", "at_point")
    )
    views = torch.ones(count) if proposals.views is None else proposals.views
    instances = Instances(
        size=size,
        labels=proposals.labels,
        masks=masks,
        points=proposals.points,
        scores=rules.confidence(maskness, at_point, agreement),
        ids=proposals.ids,
    )
    return instances, quality_signal(maskness, views, mask_areas(masks) / area.clamp(min=1))


def guided(proposals: Proposals, rules: PseudoRules) -> Proposals:
    """The proposals with refined masks that follow the image's colors, see `follow_colors`."""
    if proposals.refined is None or proposals.crops is None or not rules.color_weight:
        return proposals
    refined = follow_colors(proposals.refined, proposals.crops, rules.color_weight, rules.color_reach)
    return replace(proposals, refined=refined)  # (N, S, S) float32


def matched_threshold(images: Sequence[tuple[Proposals, Instances]], rules: PseudoRules) -> float:
    """The mask threshold, 0.3 to 0.9, at which masks are as large as the drawn ones: median ratio of areas 1.

    The IoU hardly depends on it, but a student draws its outlines where the labels have them: on nuclei,
    labels that were 10 % too large cost it 0.05 AP.

    Args:
        images: proposals and truth of images that the labeler has not seen.
        rules: the other rules; their own threshold is returned if no mask is found.
    """
    ready = [(guided(proposals, rules), truth) for proposals, truth in images]
    bias: dict[float, float] = {}
    for step in range(6, 19):
        trial = replace(rules, mask_threshold=step / 20, color_weight=0.0)
        ratios = []
        for proposals, truth in ready:
            found, drawn = mask_areas(every_mask(proposals, trial).get_masks()), mask_areas(truth.get_masks())
            both = (found > 0) & (drawn > 0)
            ratios.append(found[both] / drawn[both])  # (n,)
        if ratios and len(each := torch.cat(ratios)):
            bias[step / 20] = abs(float(each.median().log()))
    return min(bias, key=lambda threshold: bias[threshold], default=rules.mask_threshold)


def with_drawn(found: Instances, drawn: Instances, rules: PseudoRules) -> Instances:
    """Put masks that a person drew in the place of those that were found for the same objects.

    Args:
        found: see `every_mask`, with `ids`.
        drawn: masks with `ids`, each also in `found`.
        rules: with `exclusive`, the other masks lose the pixels of the drawn ones.

    Returns:
        The instances of `found`; the drawn ones have a confidence of 1.
    """
    if not len(drawn):
        return found
    place = {int(i): row for row, i in enumerate(found.get_ids())}
    rows = torch.tensor([place[int(i)] for i in drawn.get_ids()])
    masks, scores = found.get_masks().clone(), found.get_scores().clone()
    if rules.exclusive:
        masks &= ~drawn.get_masks().any(0)
    masks[rows], scores[rows] = drawn.get_masks(), 1.0
    return replace(found, masks=masks, scores=scores)


def admit(found: Instances, rules: PseudoRules) -> Instances:
    """Turn masks that are not trusted into ignore regions.

    Returns:
        The instances of `found`, those under `rules.min_confidence` with an empty mask; their pixels, and a
        disc round the point of each that has no mask, are in `ignore`.
    """
    doubted = found.get_scores() < rules.min_confidence  # (N,)
    masks = found.get_masks() & ~doubted[:, None, None] if doubted.any() else found.get_masks()
    missing = ~masks.flatten(1).any(1)  # (N,)
    regions = found.get_masks()[doubted].any(0) | discs(
        found.get_points()[missing], found.size, rules.ignore_radius
    )
    return replace(found, masks=masks, ignore=regions & ~masks.any(0))


def discs(points: Tensor, size: tuple[int, int], radius: float) -> Tensor:
    """(H, W) bool: pixels whose middle is within `radius` pixels of one of the points (N, 2)."""
    y = torch.arange(size[0])[:, None] + 0.5
    x = torch.arange(size[1])[None, :] + 0.5
    region = torch.zeros(size, dtype=torch.bool)
    for px, py in points.tolist():
        region |= (x - px) ** 2 + (y - py) ** 2 <= radius**2
    return region
