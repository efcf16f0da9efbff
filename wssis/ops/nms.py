"""Non-maximum suppression of neighboring cells, and of overlapping masks of one class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def point_nms(heat: Tensor) -> Tensor:
    """Keep a value unless its upper, left or upper-left neighbor is greater; others become 0.

    Args:
        heat: (B, K, rows, columns) probabilities.
    """
    highest = F.max_pool2d(heat, 2, stride=1, padding=1)[..., :-1, :-1]
    return heat * (highest == heat)


def overlaps(masks: Tensor, labels: Tensor, by_class: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """IoU of each mask (row) with each later mask (column) of its class, else 0, in blocks.

    Args:
        masks: (N, h, w) bool or 0/1 float. labels: (N,) int64.
        by_class: one block per class, which is less work; else one block, without a round trip to the host.

    Yields:
        rows (n,) int64 and strictly upper triangular IoU (n, n) float32.
    """
    if not len(labels):
        return
    flat = masks.flatten(1)
    if by_class:
        order = labels.argsort(stable=True)  # (N,) rows grouped by class
        sizes = labels.unique(return_counts=True)[1].tolist()
        blocks = list(order.split(sizes))
    else:
        blocks = [torch.arange(len(labels), device=labels.device)]
    for rows in blocks:
        iou = pairwise_iou(flat[rows].float())  # (n, n)
        if len(blocks) == 1:
            iou = iou * (labels[rows][:, None] == labels[rows])
        yield rows, iou.triu(1)


def pairwise_iou(masks: Tensor, others: Tensor | None = None) -> Tensor:
    """IoU (…, N, M) of masks (…, N, pixels), 0/1 float32, with `others` or with each other."""
    area = masks.sum(-1)
    other = area if others is None else others.sum(-1)
    both = masks @ (masks if others is None else others).mT
    return both / (area[..., :, None] + other[..., None, :] - both).clamp(min=1)


def matrix_decay(iou: Tensor, kernel: Literal["gaussian", "linear"], sigma: float) -> Tensor:
    """Factor (…, N) in 0..1 of each score in Matrix NMS.

    Args:
        iou: (…, N, N) strictly upper triangular, of a higher mask (row) with a lower one (column) of
            its class.
    """
    worst = iou.amax(-2)[..., :, None]  # (…, N, 1) greatest overlap of each suppressor
    if kernel == "gaussian":
        decay = (sigma * (worst.square() - iou.square())).exp()
    else:
        decay = torch.where(worst < 1, (1 - iou) / (1 - worst), torch.inf)
    below = torch.ones_like(iou, dtype=torch.bool).triu(1)
    return torch.where(below, decay, 1.0).amin(-2).clamp(max=1)


def matrix_nms(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    kernel: Literal["gaussian", "linear"] = "gaussian",
    sigma: float = 2.0,
) -> Tensor:
    """Scores decayed by overlap with higher masks of the same class (SOLOv2, section 3.3).

    With u_ij = IoU of a higher i and a lower j, c_i = max_h u_hi: score_j times the least d_ij (at most 1),
    d = exp(-sigma (u^2 - c^2)) or (1 - u) / (1 - c). A suppressor with c_i = 1 (a copy of a higher mask)
    does not count under the linear kernel.

    Args:
        masks: (N, h, w) bool or 0/1 float. labels: (N,) int64.
        scores: (N,) float32 *in descending order*.

    Returns:
        (N,) float32 scores in the given order.
    """
    decayed = scores.clone()
    for rows, iou in overlaps(masks, labels, by_class=masks.device.type == "cpu"):
        decayed[rows] *= matrix_decay(iou, kernel, sigma)
    return decayed


def mask_nms(masks: Tensor, labels: Tensor, scores: Tensor, threshold: float = 0.5) -> Tensor:
    """Greedy NMS: drop a mask whose IoU with a kept, higher mask of its class is > threshold.

    Args:
        masks: (N, h, w) bool or 0/1 float. labels: (N,) int64. scores: (N,) *in descending order*.

    Returns:
        keep: (N,) bool.
    """
    keep = torch.ones_like(scores, dtype=torch.bool)
    for rows, iou in overlaps(masks, labels, by_class=masks.device.type == "cpu"):
        beats = (iou > threshold).float()
        kept = keep[rows].float()
        # A mask depends only on higher ones, so each repetition settles at least one more row.
        for _ in range(len(rows)):
            again = (kept @ beats == 0).float()
            if torch.equal(again, kept):
                break
            kept = again
        keep[rows] = kept > 0
    return keep
