"""Losses of SOLOv2: focal loss on the cells' classes, Dice on the masks of positive cells."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wssis.rawmaps import RawMaps
from wssis.targets import Targets

ALPHA, GAMMA = 0.25, 2.0  # RetinaNet (arXiv 1708.02002)
_SMOOTH = 0.002  # 0.001 for each of the two squares in the denominator


def dice_loss(pred: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """1 - 2 sum(p t) / (sum(p^2) + sum(t^2) + 0.002) of each mask (V-Net's Dice, arXiv 1606.04797).

    Args:
        pred: (P, h, w) probabilities.
        target: (P, h, w) bool, or float in 0..1.
        valid: (h, w) or (P, h, w) bool; False = the pixel does not count.

    Returns:
        (P,) in 0..1; 1 for an empty target.
    """
    p, t = pred.flatten(1), target.to(pred.dtype).flatten(1)
    if valid is not None:
        keep = valid.to(pred.dtype).flatten(-2)
        p, t = p * keep, t * keep
    return 1 - 2 * (p * t).sum(1) / (p.square().sum(1) + t.square().sum(1) + _SMOOTH)


def focal_loss_sum(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Sum of a_t (1 - p_t)^2 BCE over all elements; a_t = 0.25 where the target is 1, 0.75 where 0.

    Args:
        logits: any shape.
        target: the same shape, bool, or float in 0..1 (a_t and p_t are then interpolated).
        weight: broadcastable factor of each element.
    """
    t = target.to(logits.dtype)
    p = logits.sigmoid()
    loss = F.binary_cross_entropy_with_logits(logits, t, reduction="none")
    loss = loss * (1 - p * t - (1 - p) * (1 - t)).pow(GAMMA) * (ALPHA * t + (1 - ALPHA) * (1 - t))
    return (loss if weight is None else loss * weight).sum()


def solov2_loss(raw: RawMaps, targets: Targets, mask_weight: float = 3.0) -> dict[str, Tensor]:
    """Category and mask loss of a batch.

    category = focal sum over all cells and classes / (positive cells + 1), cells with target -1 left out;
    mask = `mask_weight` x mean Dice over all positive (cell, mask) pairs of the batch, 0 if there is none.

    Returns:
        dict(category=scalar, mask=scalar) float32; both always carry a gradient graph.
    """
    logits = raw.category.float()
    classes = torch.arange(logits.shape[2], device=logits.device)
    weight = (targets.category >= 0).to(logits.dtype)[..., None]
    focal = focal_loss_sum(logits, targets.category[..., None] == classes, weight)
    dice = []
    for image, (masks, valid) in enumerate(zip(targets.masks, targets.valid, strict=True)):
        rows = targets.image == image
        pred = raw.mask_logits(image, targets.cell[rows]).sigmoid()
        dice.append(dice_loss(pred, masks[targets.instance[rows]], valid))
    count = max(len(targets.cell), 1)
    return {"category": focal / (targets.num_cells + 1), "mask": mask_weight / count * torch.cat(dice).sum()}
