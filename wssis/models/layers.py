"""Layers shared by SOLOv2 and the refiner: conv blocks, coordinate channels, feature pyramid."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_block(in_channels: int, channels: int, size: int) -> list[nn.Module]:
    """Convolution, GroupNorm, ReLU; groups of at least 8 channels, at most 32 groups."""
    conv = nn.Conv2d(in_channels, channels, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    groups = math.gcd(channels, max(1, min(32, channels // 8)))
    return [conv, nn.GroupNorm(groups, channels), nn.ReLU(inplace=True)]


def tower(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    """`depth` blocks of conv3x3, GroupNorm, ReLU."""
    widths = [in_channels, *[channels] * depth]
    return nn.Sequential(*(layer for i in range(depth) for layer in conv_block(widths[i], channels, 3)))


def with_coordinates(x: Tensor) -> Tensor:
    """Append two channels to (B, C, H, W): column and row position in -1..1."""
    batch, _, height, width = x.shape
    rows = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)
    columns = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1])  # (2, H, W)
    return torch.cat([x, grid.expand(batch, 2, height, width)], 1)


class FPN(nn.Module):
    """Feature pyramid network (Lin et al., arXiv 1612.03144), optionally with one coarser level.

    Args:
        in_channels: channels of the backbone's maps, fine to coarse.
        out_channels: channels of every returned map.
        extra: append a map of twice the last stride (P6, max pooling of the last map).
    """

    def __init__(self, in_channels: tuple[int, ...], out_channels: int, extra: bool) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, out_channels, 1) for c in in_channels)
        self.smooth = nn.ModuleList(nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in in_channels)
        self.extra = extra
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Maps (B, C_s, H/s, W/s) to maps (B, out_channels, H/s, W/s), fine to coarse."""
        maps = [lateral(x) for lateral, x in zip(self.lateral, features, strict=True)]
        # Top-down: each map adds the next coarser one.
        for fine in range(len(maps) - 2, -1, -1):
            size = maps[fine].shape[-2:]
            maps[fine] = maps[fine] + F.interpolate(maps[fine + 1], size=size, mode="nearest")
        maps = [smooth(x) for smooth, x in zip(self.smooth, maps, strict=True)]
        if self.extra:
            maps.append(F.max_pool2d(maps[-1], 1, stride=2))
        return maps
