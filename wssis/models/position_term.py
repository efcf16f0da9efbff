"""The local quadratic position term of the dynamic mask head (docs/method.md, "The network").

With the center (u, v) of a cell and dx = (x - u) / s, dy = (y - v) / s, it adds

    a1 dx + a2 dy + a3 dx^2 + a4 dy^2 + a5 dx dy + b

to the logits of the cell's mask. s is two cells, the radius of the disc that every cell starts as.

The term has two forms. Folded into a quadratic of the whole image, its terms are six more feature channels
and a mask is one product, which suits training; but terms of about 1000 cancel, and float32 rounding moves
edges. Inference therefore evaluates the term about the cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

POSITION_TERMS = 6  # of x, y, x^2, y^2, xy, 1
POSITION_UNIT = 32.0  # pixels; keeps the folded coefficients near 1
# dx (..., 1, Wm), its factor (..., Hm, 1), the terms of the row (..., Hm, 1) and of the column (..., 1, Wm).
Factors: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


def cell_frames(
    grids: Sequence[tuple[int, int]], image_size: tuple[int, int], device: torch.device
) -> Tensor:
    """(T, 3) float32: u, v, s of each cell of all levels, in pixels of the padded input (H, W)."""
    height, width = image_size
    frames = []
    for rows, columns in grids:
        cell_h, cell_w = height / rows, width / columns
        v, u = torch.meshgrid(
            (torch.arange(rows, device=device) + 0.5) * cell_h,
            (torch.arange(columns, device=device) + 0.5) * cell_w,
            indexing="ij",
        )
        scale = torch.full_like(u, cell_h + cell_w)
        frames.append(torch.stack([u, v, scale], 2).flatten(0, 1))  # (rows * columns, 3)
    return torch.cat(frames)


def pixel_centers(count: int, length: int, device: torch.device) -> Tensor:
    """(count,) float32: centers of `count` mask pixels on a side of `length` input pixels."""
    return (torch.arange(count, device=device) + 0.5) * (length / count)


def position_factors(
    local: Tensor, frames: Tensor, size: tuple[int, int], image_size: tuple[int, int]
) -> Factors:
    """Factors from which `add_position` builds the term of the masks (..., Hm, Wm) of some cells.

    Args:
        local: (..., 6) float32 a1..a5, b of each cell. frames: (..., 3), see `cell_frames`.
        size: (Hm, Wm). image_size: (H, W) of the padded input in pixels.
    """
    u, v, s = frames[..., None].unbind(-2)  # (..., 1)
    dx = (pixel_centers(size[1], image_size[1], local.device) - u) / s  # (..., Wm)
    dy = (pixel_centers(size[0], image_size[0], local.device) - v) / s  # (..., Hm)
    a1, a2, a3, a4, a5, b = local[..., None].unbind(-2)
    return (
        dx[..., None, :],
        (a1 + a5 * dy)[..., :, None],
        (b + (a2 + a4 * dy) * dy)[..., :, None],
        (a3 * dx * dx)[..., None, :],
    )


def add_position(logits: Tensor, factors: Factors, rows: slice = slice(None)) -> Tensor:
    """Add the term to the logits (..., R, Wm) of some rows of the masks, in place."""
    dx, dx_factor, row_term, column_term = factors
    logits.addcmul_(dx_factor[..., rows, :], dx)
    logits += row_term[..., rows, :]
    logits += column_term
    return logits


def position_at(local: Tensor, frames: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The term (..., M, P) of cells (..., M) at positions (..., P); x, y in pixels of the padded input.

    Args:
        local: (..., M, 6). frames: (..., M, 3). x, y: (..., P).
    """
    u, v, s = frames[..., None].unbind(-2)  # (..., M, 1)
    dx, dy = (x[..., None, :] - u) / s, (y[..., None, :] - v) / s  # (..., M, P)
    a1, a2, a3, a4, a5, b = local[..., None].unbind(-2)
    return (a1 + a3 * dx + a5 * dy) * dx + (a2 + a4 * dy) * dy + b


def folded_position(local: Tensor, frames: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Coefficients (..., 6) for `position_basis`: the same quadratic, in coordinates of the whole image.

    Args:
        local: (..., 6) float32. frames: (..., 3). image_size: (H, W) of the padded input in pixels.
    """
    height, width = image_size
    u, v, s = frames.unbind(-1)
    u, v, s = (u - width / 2) / POSITION_UNIT, (v - height / 2) / POSITION_UNIT, s / POSITION_UNIT
    a1, a2, a3, a4, a5, b = local.unbind(-1)
    a1, a2, a3, a4, a5 = a1 / s, a2 / s, a3 / s**2, a4 / s**2, a5 / s**2
    return torch.stack(
        [
            a1 - 2 * a3 * u - a5 * v,
            a2 - 2 * a4 * v - a5 * u,
            a3,
            a4,
            a5,
            b - a1 * u - a2 * v + a3 * u**2 + a4 * v**2 + a5 * u * v,
        ],
        -1,
    )


def position_basis(size: tuple[int, int], image_size: tuple[int, int], device: torch.device) -> Tensor:
    """(6, Hm, Wm) float32: x, y, x^2, y^2, xy, 1 at the centers of mask pixels, from the image center."""
    height, width = image_size
    y = ((pixel_centers(size[0], height, device) - height / 2) / POSITION_UNIT)[:, None].expand(size)
    x = ((pixel_centers(size[1], width, device) - width / 2) / POSITION_UNIT)[None, :].expand(size)
    return torch.stack([x, y, x * x, y * y, x * y, torch.ones_like(x)])
