"""The antialiased resize of 8-bit images in whole numbers: any runtime gets torchvision's pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Resample(nn.Module):
    """`resize_image` of images of one size, as look-ups and sums of int32.

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
    """Sums of an int32 (…, n)'s values at `taps` (t, m) times `weights` (t, m), rounded to 0..255: (…, m)."""
    total = torch.full_like(x[..., taps[0]], 1 << (bits - 1))
    for places, share in zip(taps, weights, strict=True):
        total = total + x[..., places] * share
    # Nothing is negative, so that cutting off is rounding down, as a shift does.
    return torch.div(total, 1 << bits, rounding_mode="trunc").clamp(0, 255)


def filter_taps(size: int, out: int) -> tuple[Tensor, Tensor, int]:
    """The triangle filter of torch's antialiased resize of uint8 along one axis.

    Returns:
        places (t, out) int64, weights (t, out) int32 of which a sum is about 1 << bits, and bits.
    """
    scale = size / out
    support = max(scale, 1.0)
    centres = scale * (np.arange(out) + 0.5)
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + support + 0.5).astype(np.int64), size)
    steps = np.arange((last - first).max())[:, None]
    weights = (1 - np.abs((steps + first - centres + 0.5) / support)).clip(min=0)
    weights = np.where(steps < last - first, weights, 0)
    weights /= weights.sum(0)
    bits = 0  # as many as keep the largest weight in 16 bits
    while bits < 22 and int(0.5 + weights.max() * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    whole = np.floor(weights * (1 << bits) + 0.5).astype(np.int32)
    return torch.from_numpy((steps + first).clip(max=size - 1)), torch.from_numpy(whole), bits
