"""From points to masks: adaptive pyramid-level selection (PointWSSIS, arXiv 2303.15062, section 3.2).

All points and levels of an image at once; no NMS, threshold or cap between points: one point, one answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wssis.inference.decode import area_strides, mask_quality, resize_masks, strips, suppress
from wssis.instances import Instances
from wssis.models.raw_maps import RawMaps
from wssis.settings import DecodeSettings

_OTHER_POINT = 0.1  # factor of a candidate for each other object's point that its mask holds
_MOST_OTHERS = 3.0  # more of them tell nothing more, and would end at 0
_LEAST_AT_POINT = 1e-6  # a mask that misses its point is scored down, not forgotten: it may be the only one
_MARGIN = 1 + 1e-5  # of an upper bound, for rounding


@dataclass(frozen=True, slots=True)
class Prompted:
    """A mask for each of N points.

    Attributes:
        probs: (N, Hm, Wm) float32 probabilities of the chosen mask; 0 where there is none.
        level: (N,) int64 chosen level, -1 = the masks of all levels are empty.
        cell: (N,) int64 chosen cell, or -1.
        score: (N,) float32 score of the chosen level in 0..1, 0 if there is none.
        level_scores: (N, L) float32; 0 also for a level that could not win, unless `every_level` was asked.
    """

    probs: Tensor
    level: Tensor
    cell: Tensor
    score: Tensor
    level_scores: Tensor


def _candidates(raw: RawMaps, points: Tensor, neighbors: int) -> Tensor:
    """Cells (N, L, M) that may answer for each point at each level; the point's own cell first."""
    own = raw.cells_of(points)  # (N, L)
    if not neighbors:
        return own[:, :, None]
    reach = range(-neighbors, neighbors + 1)
    steps = sorted(((dy, dx) for dy in reach for dx in reach), key=lambda step: step != (0, 0))
    down, right = torch.tensor(steps, device=own.device).unbind(1)
    cells = []
    for level, ((rows, columns), offset) in enumerate(zip(raw.grids, raw.level_offsets(), strict=False)):
        place = own[:, level, None] - offset  # (N, 1) in its level
        row = (place // columns + down).clamp(0, rows - 1)  # (N, M)
        column = (place % columns + right).clamp(0, columns - 1)
        cells.append(offset + row * columns + column)
    return torch.stack(cells, 1)


def _at_points(raw: RawMaps, image: int, points: Tensor, cells: Tensor) -> Tensor:
    """Mask probability (N, L, M) of the cells (N, L, M), read bilinearly at each point (N, 2).

    Only the four feature vectors round a point are looked at, so that no mask is needed.
    """
    height, width = raw.features.shape[-2:]
    place = (
        points * points.new_tensor([width / raw.image_size[1], height / raw.image_size[0]]) - 0.5
    )  # (N, 2)
    x, y = place[:, 0].clamp(0, width - 1), place[:, 1].clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    columns = torch.stack([left, left + 1, left, left + 1], 1).long().clamp(max=width - 1)  # (N, 4)
    rows = torch.stack([top, top, top + 1, top + 1], 1).long().clamp(max=height - 1)  # (N, 4)
    wide = torch.stack([1 - (x - left), x - left], 1)
    high = torch.stack([1 - (y - top), y - top], 1)
    weights = (high[:, :, None] * wide[:, None, :]).flatten(1)  # (N, 4)
    probs = raw.logits_at(image, cells.flatten(1), rows, columns).sigmoid()  # (N, L * M, 4)
    return (probs @ weights[:, :, None])[:, :, 0].view(cells.shape)


def _point_evidence(
    raw: RawMaps, image: int, points: Tensor, candidates: Tensor, clicks: Tensor | None
) -> Tensor:
    """Probability at the own point x 0.1 for every other point inside the mask, (N, L, M).

    Further clicks multiply it by the mask's probability there, those beside the object by 1 less it.

    Args:
        candidates: (N, L, M) cells.
        clicks: (C, 4), see `prompt`.
    """
    distinct, which = candidates.unique(return_inverse=True)  # (D,), (N, L, M) into them
    height, width = raw.features.shape[-2:]
    x = (points[:, 0] * width / raw.image_size[1]).long().clamp(0, width - 1)
    y = (points[:, 1] * height / raw.image_size[0]).long().clamp(0, height - 1)
    # Each cell once, some at a time: memory grows neither with N^2 nor with N x cells.
    parts = [
        (raw.logits_at(image, part, y, x) > 0).sum(1)
        for part in distinct.split(max(1, (1 << 22) // max(1, len(points))))
    ]
    held = torch.cat(parts)[which] if parts else which  # (N, L, M) points in the mask
    own_inside = raw.logits_at(image, candidates.flatten(1), y[:, None], x[:, None]).view_as(candidates) > 0
    others = (held - own_inside.long()).clamp(max=int(_MOST_OTHERS))  # (N, L, M)
    own = _at_points(raw, image, points, candidates).clamp(min=_LEAST_AT_POINT)  # (N, L, M)
    if clicks is not None and len(clicks):
        rows = clicks[:, 0].long()  # (C,) object of each click
        there = _at_points(raw, image, clicks[:, 1:3], candidates[rows])  # (C, L, M)
        agrees = torch.where(clicks[:, 3, None, None] > 0, there, 1 - there).clamp(min=_LEAST_AT_POINT)
        own = own * torch.zeros_like(own).index_add_(0, rows, agrees.log()).exp()  # product by object
    return own * _OTHER_POINT**others


def _answers(
    raw: RawMaps,
    image: int,
    candidates: Tensor,
    scores_of: Callable[[Tensor], Tensor],
    threshold: float,
    every_level: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities (N, Hm, Wm) of the best cell of each point, that cell (N,), and all scores (N, L, M).

    Maskness is at most 1, so that what a score would be with 1 is its upper bound, known without a mask.
    First the candidate of the greatest bound of each point is looked at, then all whose bound is not under
    the score that this one has: of five levels fewer than two on average. The score of the others is 0.

    Args:
        candidates: (N, L, M) cells. Points share them, above all at coarse levels: beside the first of each
            point, a mask is made once.
        scores_of: maskness (T,) of all cells to scores (N, L, M), rising in each.
        every_level: look at all.
    """
    index = candidates.flatten(1)  # (N, L * M)
    maskness = torch.zeros(raw.kernels.shape[1], device=index.device)
    known, more = (torch.zeros_like(maskness, dtype=torch.bool) for _ in range(2))
    bounds = scores_of(torch.ones_like(maskness)).flatten(1)  # (N, L * M)
    # The candidate with the greatest bound, and its mask.
    first = index.gather(1, bounds.argmax(1, keepdim=True))[:, 0]  # (N,)
    probs = raw.features.new_empty((len(first), *raw.features.shape[-2:]), dtype=torch.float32)
    maskness[first] = mask_quality(raw, image, first, threshold, into=probs)[1]
    known[first] = True
    # Candidates that could still win. One mask is made for each cell, even if points share it.
    best = scores_of(maskness).flatten(1).amax(1, keepdim=True)  # (N, 1)
    more[index if every_level else index[(bounds * _MARGIN >= best) & (bounds > 0)]] = True
    others = (more & ~known).nonzero()[:, 0]  # (m,) cells
    maskness[others] = mask_quality(raw, image, others, threshold)[1]
    scores = scores_of(maskness)  # (N, L, M)
    # The winner; where the first guess lost, its mask is replaced.
    cell = index.gather(1, _first_max(scores.flatten(1))[:, None])[:, 0]  # (N,)
    wrong = (cell != first).nonzero()[:, 0]  # (n,) rows whose first guess lost
    for part, rows, values in strips(raw, image, cell[wrong]):
        probs[wrong[part], rows] = values
    return probs, cell, scores


@torch.no_grad()
def prompt(
    raw: RawMaps,
    image: int,
    points_xy: Tensor,
    labels: Tensor,
    mask_threshold: float = 0.5,
    own_point: bool = True,
    neighbors: int = 0,
    level: int | None = None,
    every_level: bool = False,
    clicks: Tensor | None = None,
) -> Prompted:
    """One mask for each point, from the level that is surest of it.

    Working memory beyond the result is bounded, whatever the number of points.

    Args:
        image: which image of the batch.
        points_xy: (N, 2) float32, pixels of the padded input.
        labels: (N,) int64 class of each point.
        mask_threshold: maskness is the mean of probabilities greater than this.
        own_point: False: level score = class probability of the point's cell x maskness of its mask, the
            paper's rule. True: sqrt(class probability) x maskness^2 x what the points say, so that a mask
            that misses its own point, or swallows those of other objects, loses. (The class is given: its
            probability only tells whether the cell is one that learnt to answer.)
        neighbors: 1 = the 3 x 3 cells round the point's are asked too, for a point off the center of its
            object (useful with own_point only).
        level: ask this one only, for comparison.
        clicks: (C, 4) float32 object (of N), x, y in pixels of the padded input, and 1 on the object or 0
            beside it; they count with `own_point` only.
        every_level: `level_scores` of all levels, also of those that cannot win: several times the work.
    """
    candidates = _candidates(raw, points_xy, neighbors)  # (N, L, M)
    # The class is given by the click: its logit says whether this cell has learned to answer.
    category = raw.category[image][candidates, labels[:, None, None]].float().sigmoid()  # (N, L, M)
    if level is not None:
        category[:, torch.arange(category.shape[1]) != level] = 0
    evidence = None
    if own_point:
        category = category.sqrt()
        evidence = _point_evidence(raw, image, points_xy, candidates, clicks)  # (N, L, M)

    def scores_of(maskness: Tensor) -> Tensor:
        """Scores (N, L, M) by the maskness (T,) of the cells."""
        if evidence is None:
            return category * maskness[candidates]
        return category * maskness[candidates].square() * evidence

    probs, cell, scores = _answers(raw, image, candidates, scores_of, mask_threshold, every_level)
    level_scores = scores.amax(2)  # (N, L)
    score = level_scores.amax(1)  # (N,)
    found = score > 0
    probs.index_fill_(0, (~found).nonzero()[:, 0], 0.0)
    chosen = raw.level_of(cell)
    return Prompted(probs, torch.where(found, chosen, -1), torch.where(found, cell, -1), score, level_scores)


def _first_max(values: Tensor) -> Tensor:
    """The first index of the greatest value over the last dimension (argmax leaves ties open)."""
    index = torch.arange(values.shape[-1], device=values.device)
    return torch.where(values == values.amax(-1, keepdim=True), index, values.shape[-1]).amin(-1)


@torch.no_grad()
def paper_prompt(
    raw: RawMaps,
    image: int,
    points_xy: Tensor,
    labels: Tensor,
    image_hw: tuple[int, int],
    out_hw: tuple[int, int],
    settings: DecodeSettings,
) -> tuple[Instances, Tensor]:
    """What the paper's implementation makes of points, for comparison: it drops some of them.

    A mask goes if its area is at most its level's stride, by NMS, and beyond `max_detections`; the score is
    maskness alone.

    Returns:
        Instances of size `out_hw`, best first, and the point (n,) int64 that each comes from.
    """
    chosen = prompt(raw, image, points_xy, labels, settings.mask_threshold, own_point=False)
    found = (chosen.level >= 0).nonzero()[:, 0]
    cells = chosen.cell[found]
    area, maskness = mask_quality(raw, image, cells, settings.mask_threshold)
    large = area > area_strides(raw, settings, cells)
    found, cells, maskness = found[large], cells[large], maskness[large]
    if not len(found):
        return Instances.empty(out_hw).to(points_xy.device), found
    rows, scores, probs, _ = suppress(raw, image, cells, labels[found], maskness, settings)
    masks = resize_masks(probs, raw.image_size, image_hw, out_hw, settings.mask_threshold)
    index = found[rows]
    return Instances(size=(out_hw[0], out_hw[1]), labels=labels[index], masks=masks, scores=scores), index
