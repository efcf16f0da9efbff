"""Losses of SOLOv2: focal loss on the cells' classes, Dice on the masks of positive cells."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wssis.models.raw_maps import RawMaps
from wssis.training.target_assignment import Targets

ALPHA, GAMMA = 0.25, 2  # RetinaNet (arXiv 1708.02002)
_SMOOTH = 0.002  # 0.001 for each of the two squares in the denominator
_CHUNK_CPU, _CHUNK_GPU = 1 << 22, 1 << 26  # mask values held at once


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


def focal_loss_of_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """`focal_loss_sum` of one-hot labels, without making them: at half the time and memory.

    Args:
        logits: (..., K).
        labels: (...) int64; K (or more) = all targets 0, negative = the row does not count.
    """
    num_classes = logits.shape[-1]
    negative = (1 - ALPHA) * (logits.sigmoid().square() * F.softplus(logits)).sum(-1)
    own = logits.gather(-1, labels.clamp(0, num_classes - 1)[..., None])[..., 0]  # (...)
    p = own.sigmoid()
    as_negative = (1 - ALPHA) * p.square() * F.softplus(own)
    as_positive = ALPHA * (1 - p).square() * F.softplus(-own)
    loss = torch.where(labels < num_classes, negative - as_negative + as_positive, negative)
    return torch.where(labels < 0, 0.0, loss).sum()


class _KernelDice(torch.autograd.Function):
    """Sum of `dice_loss` over masks sigmoid(kernel . features), in memory that their number leaves alone.

    A mask's gradient depends on no other mask, so that it is made on the way and no mask is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        kernels: Tensor,
        features: Tensor,
        masks: Tensor,
        instance: Tensor,
        weight: Tensor,
        valid: Tensor | None,
        wants_grad: bool,
    ) -> Tensor:
        """(P, C), (C, hw), (n, hw), (P,) into n, (P,), (hw,) bool."""
        total = features.new_zeros(())
        of_kernels, of_features = [], torch.zeros_like(features) if wants_grad else None
        keep = None if valid is None else valid.to(features.dtype)
        chunk = _CHUNK_CPU if features.device.type == "cpu" else _CHUNK_GPU
        count = max(1, chunk // features.shape[1])
        parts = zip(kernels.split(count), instance.split(count), weight.split(count), strict=True)
        for part, rows, factor in parts:
            p, t = (part @ features).sigmoid_(), masks[rows].to(features.dtype)  # (p, hw) both
            slope = p * (1 - p) if of_features is not None else p  # dp / dlogit
            if keep is not None:
                p, t = p * keep, t * keep  # so that the slope counts for nothing there
            both = torch.linalg.vecdot(p, t)  # (p,)
            squares = torch.linalg.vecdot(p, p) + torch.linalg.vecdot(t, t) + _SMOOTH  # (p,)
            total += (factor * (1 - 2 * both / squares)).sum()
            if of_features is not None:
                # d/dp of -2 both / squares
                slope *= p.mul_((4 * both / squares.square())[:, None]).addcmul_(
                    t, (1 / squares)[:, None], value=-2
                )
                slope *= factor[:, None]
                of_kernels.append(slope @ features.T)
                of_features.addmm_(part.T, slope)
        if of_features is not None:
            ctx.save_for_backward(torch.cat(of_kernels), of_features)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        of_kernels, of_features = ctx.saved_tensors
        return grad * of_kernels, grad * of_features, None, None, None, None, None


def solov2_loss(
    raw: RawMaps,
    targets: Targets,
    mask_weight: float = 3.0,
    cells: float | None = None,
    pairs: float | None = None,
) -> dict[str, Tensor]:
    """Category and mask loss of a batch, or of a part of one.

    category = focal sum over all cells and classes / (positive cells + 1), without cells of target -1;
    mask = `mask_weight` x mean Dice over all positive (cell, mask) pairs of the batch, weighted by
    `targets.weight`; 0 without pairs.

    Args:
        raw, targets: of the given images.
        mask_weight: see above.
        cells, pairs: `num_cells` and `num_pairs` of the whole batch; None: these images are the whole.

    Returns:
        dict(category=scalar, mask=scalar) float32; both always carry a gradient graph.
    """
    focal = focal_loss_of_labels(raw.category.float(), targets.category)  # (B, T, K) and (B, T)
    of_cells, maps = raw.folded()  # (B, T, C'), (B, C', Hm, Wm)
    dice = maps.new_zeros((), dtype=torch.float32)
    if not len(targets.cell):  # sums over nothing keep the graph whole
        dice = of_cells[:, :0].float().sum() + maps[:, :0].float().sum()
    order = targets.image.argsort(stable=True)  # (P,) pairs grouped by image
    counts = targets.per_image
    kernels = of_cells[targets.image[order], targets.cell[order]].float().split(list(counts))
    instances = targets.instance[order].split(list(counts))
    weights = targets.weight[order].split(list(counts))
    with torch.autocast(maps.device.type, enabled=False):
        for image, features in enumerate(maps.unbind()):
            if not counts[image]:
                continue
            valid = targets.valid[image]
            dice = dice + _KernelDice.apply(
                kernels[image],
                features.float().flatten(1),
                targets.masks[image].flatten(1),
                instances[image],
                weights[image],
                None if valid is None else valid.flatten(),
                torch.is_grad_enabled(),
            )
    return {
        "category": focal / ((targets.num_cells if cells is None else cells) + 1),
        "mask": mask_weight / max(targets.num_pairs if pairs is None else pairs, 1) * dice,
    }


def paper_refiner_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Two-class Dice of the paper's code for its refiner, kept for parity and comparison.

    1 - mean over classes and *columns* of 2 sum(p t) / (sum(p + t) + 1e-7), sums over batch and rows only;
    p = softmax, t = one-hot. The refiner here learns from the usual form, over all pixels of a crop: by
    columns a mask's width weighs as much as its area, and every empty column counts as wholly wrong.

    Args:
        logits: (N, 2, H, W).
        labels: (N, H, W) int64 in {0, 1, 255}; 255 counts as 0 (it is not ignored).
    """
    p = logits.softmax(1)
    t = F.one_hot((labels == 1).long(), 2).movedim(3, 1).to(p.dtype)  # (N, 2, H, W)
    overlap = 2 * (p * t).sum((0, 2))  # (2, W)
    return 1 - (overlap / ((p + t).sum((0, 2)) + 1e-7)).mean()
