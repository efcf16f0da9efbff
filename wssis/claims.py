"""Which cells each object claims, at each level, and who gets a cell that several claim."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def levels_of(sizes: Tensor, ranges: Sequence[tuple[float, float]], strict: bool) -> Tensor:
    """Which levels take objects of sqrt(box area) `sizes` (N,): (L, N) bool."""
    bounds = torch.tensor([tuple(pair) for pair in ranges], dtype=torch.float32, device=sizes.device)
    low, high = bounds[:, :1], bounds[:, 1:]
    taken = (low <= sizes) & (sizes < high)
    if strict:
        return taken
    # No object is dropped: one that fits no range goes to the level whose range is nearest.
    gap = (low - sizes).clamp(min=0) + (sizes - high).clamp(min=0)
    level = torch.arange(len(bounds), device=sizes.device)[:, None]
    nearest = torch.where(gap == gap.amin(0), level, len(bounds)).amin(0)
    return torch.where(taken.any(0), taken, level == nearest)


def claims_of(
    centres: Tensor,
    boxes: Tensor,
    levels: Tensor,
    grids: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    centre_scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The 3 x 3 cells round each centre at each level: claimed or not, cell number, squared distance.

    Args:
        centres: (N, 2) xy. boxes: (N, 4). levels: (L, N) bool.

    Returns:
        (L, N, 9) bool, int64 (clamped to the grid), and float32 in pixels.
    """
    device = centres.device
    grid = torch.tensor(list(grids), device=device)[:, None]  # (L, 1, 2) rows, columns
    scale = grid / torch.tensor(image_size, device=device)
    centre = centres.flip(1)  # (N, 2) y, x
    reach = (boxes[:, 2:] - boxes[:, :2]).flip(1) * (centre_scale / 2)

    def cell_at(yx: Tensor) -> Tensor:
        return torch.minimum((yx * scale).floor().long().clamp(min=0), grid - 1)

    middle, first, last = cell_at(centre), cell_at(centre - reach), cell_at(centre + reach)  # (L, N, 2)
    step = torch.tensor([(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)], device=device)
    place = middle[:, :, None] + step  # (L, N, 9, 2)
    claims = ((place >= first[:, :, None]) & (place <= last[:, :, None])).all(3) & levels[:, :, None]
    offset = torch.tensor([0] + [rows * columns for rows, columns in grids[:-1]], device=device).cumsum(0)
    place = torch.minimum(place.clamp(min=0), grid[:, None] - 1)
    cells = offset[:, None, None] + place[..., 0] * grid[:, :, 1:] + place[..., 1]
    distance = ((place + 0.5) / scale[:, None] - centre[:, None]).square().sum(3)
    return claims, cells, distance


def nearest_claims(claims: Tensor, slots: Tensor, num_slots: int, distance: Tensor, area: Tensor) -> Tensor:
    """Of several claims on one cell only the nearest object's stays; ties: the smaller, then the first.

    Args:
        claims: (L, N, 9) bool. slots: (L, N, 9) cell numbers in the batch. distance: (L, N, 9) squared
            distance of the object's centre to the cell's middle. area: (N,) pixels.
    """
    order = torch.arange(claims.shape[1], device=claims.device, dtype=torch.float64)
    for key in (distance.double(), area.double()[:, None], order[:, None]):
        cost = torch.where(claims, key, torch.inf)
        best = cost.new_full((num_slots,), torch.inf).scatter_reduce(
            0, slots.flatten(), cost.flatten(), "amin"
        )
        claims = claims & (cost == best[slots])
    return claims
