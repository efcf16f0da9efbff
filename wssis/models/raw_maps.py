"""What SOLOv2 returns: raw maps, flat over pyramid levels, before any decision.

A mask is sigmoid(kernel . features + position term, where the head has one). Losses, decoding and prompting
ask here, so that the formula is known once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wssis.models.position_term import (
    Factors,
    add_position,
    cell_frames,
    folded_position,
    position_at,
    position_basis,
    position_factors,
)


@dataclass(frozen=True, slots=True)
class RawMaps:
    """Raw maps of a batch. Cells are numbered level by level, in a level row by row.

    Attributes:
        category: (B, T, K) float32 class logits of the T cells of all levels.
        kernels: (B, T, C) float32.
        features: (B, C, Hm, Wm) float32, mask features (1/4 or 1/2 of the input).
        grids: (rows, columns) of each level; T is the sum of their products.
        image_size: (H, W) of the padded network input in pixels.
        position: (B, T, 6) float32, about each cell's middle (see wssis/models/position_term.py); None: no
        such term.
        frames: (T, 3) float32, middle and reach of each cell, where there is such a term. By `cell_frames`;
            kept since making it takes as long as asking a few masks.
    """

    category: Tensor
    kernels: Tensor
    features: Tensor
    grids: tuple[tuple[int, int], ...]
    image_size: tuple[int, int]
    position: Tensor | None = None
    frames: Tensor | None = None

    @classmethod
    def from_levels(
        cls,
        category: Sequence[Tensor],
        kernels: Sequence[Tensor],
        features: Tensor,
        image_size: tuple[int, int],
        position: Sequence[Tensor] = (),
    ) -> RawMaps:
        """Flatten per-level maps (B, K, rows, columns), (B, C, rows, columns) and (B, 6, rows, columns)."""

        def flat(levels: Sequence[Tensor]) -> Tensor:
            return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)

        grids = tuple((level.shape[2], level.shape[3]) for level in category)
        return cls(
            category=flat(category),
            kernels=flat(kernels),
            features=features,
            grids=grids,
            image_size=image_size,
            position=flat(position) if position else None,
            frames=cell_frames(grids, image_size, features.device) if position else None,
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
        """Mask logits (N, Hm, Wm) float32 of the cells (N,) of one image of the batch."""
        ((_, logits),) = self.mask_strips(image, cells, self.features.shape[-2])
        return logits

    def mask_strips(self, image: int, cells: Tensor, step: int) -> Iterator[tuple[slice, Tensor]]:
        """`mask_logits`, `step` rows of all masks at a time: which rows, and their logits (N, rows, Wm)."""
        # A product of one row is another routine, whose last bits differ: what a cell says must not hang on
        # how many others are asked with it.
        asked = cells.repeat(2) if len(cells) == 1 else cells
        features, kernels = self.features[image].float(), self.kernels[image, asked].float()
        factors = None if self.position is None else self._factors(self.position[image, asked], asked)
        for top in range(0, features.shape[1], step):
            rows = slice(top, top + step)
            logits = _product(features[:, rows], kernels)
            if factors is not None:
                add_position(logits, factors, rows)
            yield rows, logits[: len(cells)]

    def logits_of(self, kernels: Tensor, position: Tensor | None, cells: Tensor) -> Tensor:
        """Mask logits (B, N, Hm, Wm) float32 of what cells (B, N) of each image say: (B, N, C), (B, N, 6)."""
        logits = _product(self.features.float(), kernels.float())
        return logits if position is None else add_position(logits, self._factors(position, cells))

    def _factors(self, position: Tensor, cells: Tensor) -> Factors:
        assert self.frames is not None, "they come with the position term"
        height, width = self.features.shape[-2:]
        return position_factors(position.float(), self.frames[cells], (height, width), self.image_size)

    def logits_at(self, image: int, cells: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Mask logits (..., M, P) of cells (..., M) at pixels (..., P) of the masks, without the masks."""
        height, width = self.features.shape[-2:]
        picked = self.features[image][:, rows, columns].float().movedim(0, -2)  # (..., C, P)
        logits = self.kernels[image][cells].float() @ picked
        if self.position is None or self.frames is None:
            return logits
        x = (columns + 0.5) * (self.image_size[1] / width)
        y = (rows + 0.5) * (self.image_size[0] / height)
        return logits + position_at(self.position[image][cells].float(), self.frames[cells], x, y)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Kernels (B, T, C') and features (B, C', Hm, Wm) whose product alone is the masks' logits."""
        if self.position is None or self.frames is None:
            return self.kernels, self.features
        coefficients = folded_position(self.position.float(), self.frames, self.image_size)
        height, width = self.features.shape[-2:]
        basis = position_basis((height, width), self.image_size, self.features.device)
        features = self.features.float()
        basis = basis.expand(len(features), *basis.shape)
        return torch.cat([self.kernels.float(), coefficients], 2), torch.cat([features, basis], 1)


def _product(features: Tensor, kernels: Tensor) -> Tensor:
    """(..., C, h, w) float32 and (..., N, C): (..., N, h, w)."""
    with torch.autocast(features.device.type, enabled=False):
        return (kernels @ features.flatten(-2)).unflatten(-1, features.shape[-2:])
