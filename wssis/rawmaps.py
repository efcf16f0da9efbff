"""What SOLOv2 returns: raw maps, flat over pyramid levels, before any decision.

Whatever the head is, a mask is sigmoid(kernel . features): position terms are already folded in, so
that losses, decoding and prompting know one formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class RawMaps:
    """Raw maps of a batch. Cells are numbered level by level, in a level row by row.

    Attributes:
        category: (B, T, K) float32 class logits of the T cells of all levels.
        kernels: (B, T, C) float32.
        features: (B, C, Hm, Wm) float32, mask features (1/4 or 1/2 of the input).
        grids: (rows, columns) of each level; T is the sum of their products.
        image_size: (H, W) of the padded network input in pixels.
    """

    category: Tensor
    kernels: Tensor
    features: Tensor
    grids: tuple[tuple[int, int], ...]
    image_size: tuple[int, int]

    @classmethod
    def from_levels(
        cls,
        category: Sequence[Tensor],
        kernels: Sequence[Tensor],
        features: Tensor,
        image_size: tuple[int, int],
    ) -> RawMaps:
        """Flatten per-level maps (B, K, rows, columns) and (B, C, rows, columns)."""
        return cls(
            category=torch.cat([level.flatten(2).transpose(1, 2) for level in category], 1),
            kernels=torch.cat([level.flatten(2).transpose(1, 2) for level in kernels], 1),
            features=features,
            grids=tuple((level.shape[2], level.shape[3]) for level in category),
            image_size=image_size,
        )

    def level_offsets(self) -> list[int]:
        """Number of the first cell of each level, and T at the end: L + 1 values."""
        offsets = [0]
        for rows, columns in self.grids:
            offsets.append(offsets[-1] + rows * columns)
        return offsets

    def cells_of(self, points: Tensor) -> Tensor:
        """Cell that holds each point at each level.

        Args:
            points: (N, 2) xy in pixels of the padded input.

        Returns:
            (N, L) int64 cell numbers; a point outside the input takes the nearest cell.
        """
        height, width = self.image_size
        cells = []
        for (rows, columns), offset in zip(self.grids, self.level_offsets(), strict=False):
            row = (points[:, 1] * rows / height).floor().long().clamp(0, rows - 1)
            column = (points[:, 0] * columns / width).floor().long().clamp(0, columns - 1)
            cells.append(offset + row * columns + column)
        return torch.stack(cells, 1)

    def level_of(self, cells: Tensor) -> Tensor:
        """Level index (…) int64 of cell numbers (…)."""
        bounds = torch.tensor(self.level_offsets()[1:], device=cells.device)
        return torch.bucketize(cells, bounds, right=True)

    def mask_logits(self, image: int, cells: Tensor) -> Tensor:
        """Mask logits (N, Hm, Wm) of the cells (N,) of one image of the batch, in float32."""
        features = self.features[image]
        # A product of one row is another routine, whose last bits differ: what a cell says must not hang on
        # how many others are asked with it.
        rows = cells.repeat(2) if len(cells) == 1 else cells
        with torch.autocast(features.device.type, enabled=False):
            flat = self.kernels[image, rows].float() @ features.float().flatten(1)
        return flat[: len(cells)].view(-1, *features.shape[1:])
