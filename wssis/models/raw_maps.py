"""What SOLOv2 returns: raw maps, flat over pyramid levels, before any decision.

Mask of a cell = sigmoid(kernel . features + position term, if the head has one). Losses, decoding and
prompting all get their masks here.
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
    """Raw maps of a batch. Cells are numbered level by level, row by row in each level.

    Attributes:
        category: (B, T, K) float32 class logits of the T cells of all levels.
        kernels: (B, T, C) float32.
        features: (B, C, Hm, Wm) float32, mask features (1/4 or 1/2 of the input).
        grids: (rows, columns) of each level; T is the sum of their products.
        image_size: (H, W) of the padded network input in pixels.
        position: (B, T, 6) float32 position term about each cell's center (`position_term`), or None.
        frames: (T, 3) float32 center and reach of each cell (`cell_frames`), if there is a position term.
            Cached: computing it takes as long as a few masks.
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
            return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)  # (B, T, channels)

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
            (N, L) int64 cell numbers; a point outside the input gets the nearest cell.
        """
        height, width = self.image_size
        cells = []
        for (rows, columns), offset in zip(self.grids, self.level_offsets(), strict=False):
            row = (points[:, 1] * rows / height).floor().long().clamp(0, rows - 1)
            column = (points[:, 0] * columns / width).floor().long().clamp(0, columns - 1)
            cells.append(offset + row * columns + column)  # (N,)
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
        """`mask_logits` in strips of `step` rows: yields the rows and their logits (N, rows, Wm)."""
        # A product of one row uses another routine with other last bits. Repeat a single cell, since its
        # mask must not depend on how many cells are computed with it.
        batch = cells.repeat(2) if len(cells) == 1 else cells
        features, kernels = self.features[image].float(), self.kernels[image, batch].float()  # (C, Hm, Wm)
        factors = None if self.position is None else self._factors(self.position[image, batch], batch)
        for top in range(0, features.shape[1], step):
            rows = slice(top, top + step)
            logits = _product(features[:, rows], kernels)  # (N, rows, Wm)
            if factors is not None:
                add_position(logits, factors, rows)
            yield rows, logits[: len(cells)]

    def logits_of(self, kernels: Tensor, position: Tensor | None, cells: Tensor) -> Tensor:
        """Mask logits (B, N, Hm, Wm) float32 from kernels (B, N, C) and position (B, N, 6) of cells (B,
        N)."""
        logits = _product(self.features.float(), kernels.float())
        return logits if position is None else add_position(logits, self._factors(position, cells))

    def logits_at(self, image: int, cells: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Mask logits (..., M, P) of cells (..., M) at mask pixels (..., P), without computing the masks."""
        height, width = self.features.shape[-2:]
        picked = self.features[image][:, rows, columns].float().movedim(0, -2)  # (..., C, P)
        logits = self.kernels[image][cells].float() @ picked  # (..., M, P)
        if self.position is None or self.frames is None:
            return logits
        x = (columns + 0.5) * (self.image_size[1] / width)
        y = (rows + 0.5) * (self.image_size[0] / height)
        return logits + position_at(self.position[image][cells].float(), self.frames[cells], x, y)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Kernels (B, T, C') and features (B, C', Hm, Wm) whose product alone gives the mask logits."""
        if self.position is None or self.frames is None:
            return self.kernels, self.features
        height, width = self.features.shape[-2:]
        coefficients = folded_position(self.position.float(), self.frames, self.image_size)  # (B, T, 6)
        basis = position_basis((height, width), self.image_size, self.features.device)  # (6, Hm, Wm)
        features = self.features.float()
        basis = basis.expand(len(features), *basis.shape)
        return torch.cat([self.kernels.float(), coefficients], 2), torch.cat([features, basis], 1)

    def _factors(self, position: Tensor, cells: Tensor) -> Factors:
        assert self.frames is not None, "set together with `position`"
        height, width = self.features.shape[-2:]
        return position_factors(position.float(), self.frames[cells], (height, width), self.image_size)


def _product(features: Tensor, kernels: Tensor) -> Tensor:
    """(..., C, h, w) float32 and (..., N, C): (..., N, h, w)."""
    with torch.autocast(features.device.type, enabled=False):
        return (kernels @ features.flatten(-2)).unflatten(-1, features.shape[-2:])
