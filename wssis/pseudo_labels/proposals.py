"""Proposals: what teacher and refiner said of the points of one image, before any rule is applied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wssis.ops.crops import paste

CHUNK = 32  # objects whose full-size maps and crops are in memory at once


@dataclass(frozen=True)
class Proposals:
    """What the networks said of the N points of one image; compact enough to keep for a whole data set.

    Attributes:
        points, labels, ids: (N, 2) xy pixels, (N,), (N,) or None, as given.
        size: (H, W) of the image in pixels.
        rough: (N, h, w) float16 probabilities at mask resolution, over `rough_size` (H, W) pixels from the
            image's top left corner: the image and the padding that the network saw.
        score: (N,) float32 of pyramid-level selection, in 0..1.
        refined: (N, S, S) float16 probabilities in the windows; None without a refiner.
        windows: (N, 4) x0, y0, x1, y1 pixels.
        crops: (N, 3, S, S) uint8, the image in the windows; None without a refiner.
        views: (N,) how far the teacher's masks of flipped images agree: mean IoU of each with what all make
            together, 0..1; None: it was asked once.
    """

    points: Tensor
    labels: Tensor
    ids: Tensor | None
    size: tuple[int, int]
    rough: Tensor
    rough_size: tuple[float, float]
    score: Tensor
    refined: Tensor | None
    windows: Tensor
    crops: Tensor | None = None
    views: Tensor | None = None


def spread(rough: Tensor, rough_size: tuple[float, float], size: tuple[int, int], rows: Tensor) -> Tensor:
    """Rough probabilities (n, H, W) float32 of some of the points, bilinear."""
    windows = torch.tensor([[0.0, 0.0, rough_size[1], rough_size[0]]], device=rough.device)
    return paste(rough[rows], windows.expand(len(rows), 4), size)


def full_size(proposals: Proposals, rows: Tensor) -> Tensor:
    """Rough probabilities (n, H, W) float32 of some of the points of an image."""
    return spread(proposals.rough, proposals.rough_size, proposals.size, rows)


def pasted(refined: Tensor, windows: Tensor, size: tuple[int, int], rows: Tensor) -> Tensor:
    """Refined probabilities (n, H, W) float32 of some of the points; 0 outside their windows."""
    return paste(refined[rows], windows[rows], size)
