"""torchvision's antialiased resize of 8-bit images in integers, identical in every runtime."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Resample(nn.Module):
    """`resize_image` for images of one size, as look-ups and int32 sums.

    Args:
        size: (H, W) of the images; out: (H, W) of the result.
    """

    def __init__(self, size: tuple[int, int], out: tuple[int, int]) -> None:
        super().__init__()
        self.size, self.out = size, out
        for axis, name in enumerate(("row", "column")):
            taps, weights, bits = filter_taps(size[axis], out[axis])
            self.register_buffer(f"{name}_taps", taps, persistent=False)
            self.register_buffer(f"{name}_weights", weights, persistent=False)
            setattr(self, f"{name}_bits", bits)

    row_taps: Tensor
    row_weights: Tensor
    row_bits: int
    column_taps: Tensor
    column_weights: Tensor
    column_bits: int

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) to int32 values 0..255 (B, 3, H', W')."""
        x = images.int()
        if self.size[1] != self.out[1]:
            x = weighted(x, self.column_taps, self.column_weights, self.column_bits)
        if self.size[0] != self.out[0]:
            x = weighted(x.mT, self.row_taps, self.row_weights, self.row_bits).mT
        return x


def weighted(x: Tensor, taps: Tensor, weights: Tensor, bits: int) -> Tensor:
    """Weighted sums (…, m) of x (…, n) int32 at `taps` (t, m) with `weights` (t, m), rounded to 0..255."""
    total = torch.full_like(x[..., taps[0]], 1 << (bits - 1))
    for places, share in zip(taps, weights, strict=True):
        total = total + x[..., places] * share
    # All values are positive, so truncation rounds down, as a shift does.
    return torch.div(total, 1 << bits, rounding_mode="trunc").clamp(0, 255)


def filter_taps(size: int, out: int) -> tuple[Tensor, Tensor, int]:
    """The triangle filter of torch's antialiased resize of uint8 along one axis.

    Returns:
        taps (t, out) int64, weights (t, out) int32 whose sums are about 1 << bits, and bits.
    """
    scale = size / out
    support = max(scale, 1.0)
    centers = scale * (np.arange(out) + 0.5)
    first = np.maximum((centers - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centers + support + 0.5).astype(np.int64), size)
    steps = np.arange((last - first).max())[:, None]
    weights = (1 - np.abs((steps + first - centers + 0.5) / support)).clip(min=0)
    weights = np.where(steps < last - first, weights, 0)
    weights /= weights.sum(0)
    bits = 0  # the most that keep the largest weight in 16 bits
    while bits < 22 and int(0.5 + weights.max() * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    whole = np.floor(weights * (1 << bits) + 0.5).astype(np.int32)
    return torch.from_numpy((steps + first).clip(max=size - 1)), torch.from_numpy(whole), bits
