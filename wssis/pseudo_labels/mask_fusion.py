"""Rough and refined mask of each point put together, looked at only where either has pixels.

An object covers a small part of its image: maps of whole images took two thirds of the time of the rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from wssis.ops.crops import interpolation
from wssis.ops.masks import mask_boxes
from wssis.pseudo_labels.proposals import Proposals
from wssis.pseudo_labels.rules import PseudoRules

Window = tuple[slice, slice]  # rows and columns of the image


class Blend(NamedTuple):
    """The probabilities of one point's mask.

    Attributes:
        window: rows and columns of the image outside of which no probability is above the threshold.
        probs: (h, w) float32 in the window.
        mask: (h, w) bool, probabilities above the threshold.
        area: pixels of the mask.
        maskness: mean probability inside the mask, 0..1; 0 of an empty one.
        at_point: probability at the point's pixel, 0..1.
        agreement: IoU of rough and refined mask, 0..1; 1 without a refiner.
    """

    window: Window
    probs: Tensor
    mask: Tensor
    area: int
    maskness: float
    at_point: float
    agreement: float


@torch.inference_mode()
def blends(proposals: Proposals, rules: PseudoRules) -> Iterator[Blend]:
    """One for each point, in their order. Where the refined mask is empty the rough one is kept."""
    size, span = proposals.size, proposals.rough_size
    zero = torch.zeros(1)
    rows, columns = (
        interpolation(zero, zero + span[side], proposals.rough.shape[1 + side], size[side])[0]
        for side in (0, 1)
    )
    pixels = own_pixels(proposals)
    places = zip(pixels.tolist(), reaches(proposals, pixels, rules).tolist(), strict=True)
    for index, ((x, y), (x0, y0, x1, y1)) in enumerate(places):
        window = slice(y0, y1), slice(x0, x1)
        rough = rows[window[0]] @ proposals.rough[index].float() @ columns[window[1]].T  # (h, w)
        probs, agreement = rough, 1.0
        if proposals.refined is not None:
            refined = _refined(proposals, index, window)
            hard_rough, hard_refined = (
                rough > rules.mask_threshold,
                refined > rules.mask_threshold,
            )  # (h, w) both
            both, either = int((hard_rough & hard_refined).sum()), int((hard_rough | hard_refined).sum())
            agreement = both / max(1, either)
            if hard_refined.any():
                probs = rough + rules.refined_weight * (refined - rough)
        mask = probs > rules.mask_threshold
        area = int(mask.sum())
        maskness = float((probs * mask).sum(dtype=torch.float64)) / max(1, area)
        yield Blend(window, probs, mask, area, maskness, float(probs[y - y0, x - x0]), agreement)


def _refined(proposals: Proposals, index: int, window: Window) -> Tensor:
    """Refined probabilities in a window of the image; 0 outside the crop."""
    assert proposals.refined is not None
    crop, (x0, y0, x1, y1) = proposals.refined[index].float(), proposals.windows[index, :, None]
    rows, columns = (
        interpolation(start, end, crop.shape[side], part.stop, part.start)[0]
        for side, (start, end, part) in enumerate(((y0, y1, window[0]), (x0, x1, window[1])))
    )
    return rows @ crop @ columns.T


def reaches(proposals: Proposals, pixels: Tensor, rules: PseudoRules) -> Tensor:
    """(N, 4) int64 x0, y0, x1, y1: the points' `pixels` (N, 2), and all that either mask can hold."""
    whole = torch.tensor([0.0, 0.0, proposals.rough_size[1], proposals.rough_size[0]])
    boxes = [
        torch.cat([pixels, pixels + 1], 1),
        _reach(proposals.rough, whole.expand(len(pixels), 4), rules),
    ]
    if proposals.refined is not None:
        boxes.append(_reach(proposals.refined, proposals.windows, rules))
    low = torch.stack([box[:, :2] for box in boxes]).amin(0)
    high = torch.stack([box[:, 2:] for box in boxes]).amax(0)
    return torch.cat([low.clamp(min=0), torch.minimum(high, torch.tensor(proposals.size).flip(0))], 1)


def own_pixels(proposals: Proposals) -> Tensor:
    """(N, 2) int64 x, y of the pixel that each point lies in; of one outside the image, the nearest."""
    limits = torch.tensor(proposals.size).flip(0)
    return torch.minimum(proposals.points.long().clamp(min=0), limits - 1)


def _reach(maps: Tensor, windows: Tensor, rules: PseudoRules) -> Tensor:
    """(N, 4) pixels that bilinear interpolation of maps (N, h, w) in windows can put above the threshold."""
    # Not "above": between equal samples rounding may end a little higher.
    boxes = mask_boxes(maps >= rules.mask_threshold).to(windows.dtype)
    step = (windows[:, 2:] - windows[:, :2]) / torch.tensor([maps.shape[2], maps.shape[1]])
    # Sample s lies at s + 1/2 steps and counts up to one step away.
    low = (windows[:, :2] + (boxes[:, :2] - 0.5) * step - 0.5).floor()
    high = (windows[:, :2] + (boxes[:, 2:] + 0.5) * step + 0.5).ceil()
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(1, keepdim=True)
    nothing = torch.tensor([torch.inf, torch.inf, -torch.inf, -torch.inf])
    found = torch.where(empty, nothing, torch.cat([low, high], 1))
    return found.clamp(-(2**30), 2**30).long()
