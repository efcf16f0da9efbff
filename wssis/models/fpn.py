"""Feature pyramid network (Lin et al., 2017)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class FPN(nn.Module):
    """Lateral 1x1 convolutions, a top-down sum, a 3x3 convolution a level; optionally one coarser level.

    Args:
        in_channels: channels of the backbone's maps, fine to coarse.
        out_channels: channels of every map returned.
        extra: append a map of twice the last stride (P6: max pooling of the last).
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
        for fine in range(len(maps) - 2, -1, -1):
            maps[fine] = maps[fine] + F.interpolate(
                maps[fine + 1], size=maps[fine].shape[-2:], mode="nearest"
            )
        maps = [smooth(x) for smooth, x in zip(self.smooth, maps, strict=True)]
        if self.extra:
            maps.append(F.max_pool2d(maps[-1], 1, stride=2))
        return maps
