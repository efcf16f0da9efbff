"""The local quadratic position term of the dynamic mask head (DESIGN, section 2)."""

from __future__ import annotations

import torch
from torch import Tensor

POSITION_TERMS = 6  # x, y, x^2, y^2, xy, 1
POSITION_UNIT = 32.0  # pixels; keeps the absolute coefficients near 1


def absolute_position(local: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Turn position terms relative to each cell into ones of the whole image, exactly.

    With cell centre (u, v), dx = (x - u) / s, dy = (y - v) / s, the kernel's position part
    a1 dx + a2 dy + a3 dx^2 + a4 dy^2 + a5 dx dy + b is a quadratic in (x, y) whose coefficients are
    returned, so that a mask stays one dot product of a kernel with the mask features (DESIGN, section 2).
    s, the radius of the disc that a cell begins as, is two cells.

    Args:
        local: (B, 6, rows, columns) float32: a1..a5, b.
        image_size: (H, W) of the padded input in pixels.

    Returns:
        (B, 6, rows, columns) float32, for `position_basis`.
    """
    height, width = image_size
    rows, columns = local.shape[-2:]
    cell_h, cell_w = height / rows, width / columns
    scale = (cell_h + cell_w) / POSITION_UNIT
    device = local.device
    v = ((torch.arange(rows, device=device) + 0.5) * cell_h - height / 2)[:, None] / POSITION_UNIT
    u = ((torch.arange(columns, device=device) + 0.5) * cell_w - width / 2)[None, :] / POSITION_UNIT
    a1, a2, a3, a4, a5, b = local.float().unbind(1)
    a1, a2, a3, a4, a5 = a1 / scale, a2 / scale, a3 / scale**2, a4 / scale**2, a5 / scale**2
    return torch.stack(
        [
            a1 - 2 * a3 * u - a5 * v,
            a2 - 2 * a4 * v - a5 * u,
            a3,
            a4,
            a5,
            b - a1 * u - a2 * v + a3 * u**2 + a4 * v**2 + a5 * u * v,
        ],
        1,
    )


def position_basis(
    size: tuple[int, int], stride: float, image_size: tuple[int, int], device: torch.device
) -> Tensor:
    """(6, Hm, Wm) float32: x, y, x^2, y^2, xy, 1 at the middles of mask pixels, from the image's middle."""
    height, width = image_size
    y = ((torch.arange(size[0], device=device) + 0.5) * stride - height / 2)[:, None] / POSITION_UNIT
    x = ((torch.arange(size[1], device=device) + 0.5) * stride - width / 2)[None, :] / POSITION_UNIT
    y, x = y.expand(size), x.expand(size)
    return torch.stack([x, y, x * x, y * y, x * y, torch.ones_like(x)])
