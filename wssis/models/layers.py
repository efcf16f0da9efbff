"""Layers that heads, mask branch and refiner share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def tower(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    """`depth` times conv3x3, GroupNorm, ReLU."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += conv_block(in_channels if i == 0 else channels, channels, 3)
    return nn.Sequential(*layers)


def conv_block(in_channels: int, channels: int, size: int) -> list[nn.Module]:
    """Convolution, GroupNorm, ReLU; groups of at least 8 channels, at most 32 groups."""
    conv = nn.Conv2d(in_channels, channels, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return [
        conv,
        nn.GroupNorm(math.gcd(channels, max(1, min(32, channels // 8))), channels),
        nn.ReLU(inplace=True),
    ]


def with_coordinates(x: Tensor) -> Tensor:
    """Append two channels: column and row position in -1..1."""
    batch, _, height, width = x.shape
    rows = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)
    columns = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1])
    return torch.cat([x, grid.expand(batch, 2, height, width)], 1)
