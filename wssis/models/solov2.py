"""SOLOv2 (Wang et al., NeurIPS 2020) with a local quadratic position term: images to raw maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wssis.models.backbone import Backbone
from wssis.models.fpn import FPN
from wssis.models.layers import conv_block, tower, with_coordinates
from wssis.models.position_term import POSITION_TERMS
from wssis.models.raw_maps import RawMaps
from wssis.settings import SOLOv2Settings

PAD_TO = 32  # coarsest stride of any backbone used


class InstanceHead(nn.Module):
    """Pyramid maps, resized to each level's grid, to category logits and mask kernels."""

    def __init__(self, settings: SOLOv2Settings, num_classes: int) -> None:
        super().__init__()
        width = settings.head_channels
        self.settings = settings
        self.category_tower = tower(settings.fpn_channels, width, settings.head_depth)
        self.kernel_tower = tower(settings.fpn_channels + 2, width, settings.head_depth)
        self.category = nn.Conv2d(width, num_classes, 3, padding=1)
        self.kernel = nn.Conv2d(width, settings.mask_channels, 3, padding=1)
        nn.init.normal_(self.category.weight, std=0.01)
        # Every cell starts at a probability of 1 %.
        self.category.bias = nn.Parameter(torch.full((num_classes,), -math.log(99)))
        nn.init.normal_(self.kernel.weight, std=0.01 if settings.parity else 0.02)
        self.kernel.bias = nn.Parameter(torch.zeros(settings.mask_channels))
        if not settings.parity:
            self.position = nn.Conv2d(width, POSITION_TERMS, 3, padding=1)
            nn.init.normal_(self.position.weight, std=0.02)
            # Every cell begins as a disc of the level's radius: logit 1 - dx^2 - dy^2.
            self.position.bias = nn.Parameter(torch.tensor([0.0, 0.0, -1.0, -1.0, 0.0, 1.0]))

    def forward(
        self, maps: list[Tensor], image_size: tuple[int, int]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Per level: category logits (B, K, rows, columns), kernels (B, C, …), position (B, 6, …) or none."""
        categories, kernels, positions = [], [], []
        grids = self.settings.grid_sizes(*image_size)
        for source, grid in zip(self.settings.sources, grids, strict=True):
            x = with_coordinates(self._level_map(maps, source))
            if x.shape[-2:] != grid:
                x = F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
            categories.append(self.category(self.category_tower(x[:, :-2])))
            tower_out = self.kernel_tower(x)
            kernels.append(self.kernel(tower_out))
            if not self.settings.parity:
                positions.append(self.position(tower_out))
        return categories, kernels, positions

    def _level_map(self, maps: list[Tensor], source: int) -> Tensor:
        """The paper halves its finest map and enlarges its coarsest before the grids; cells need neither."""
        x = maps[source]
        if self.settings.grids and source == 0:
            return F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
        if self.settings.grids and self.settings.extra_level and source == len(maps) - 1:
            return F.interpolate(x, size=maps[-2].shape[-2:], mode="bilinear", align_corners=False)
        return x


class MaskBranch(nn.Module):
    """Pyramid maps to one map of mask features at the finest stride."""

    def __init__(self, settings: SOLOv2Settings) -> None:
        super().__init__()
        width = settings.fpn_channels if not settings.parity else settings.fpn_channels // 2
        self.last = len(settings.strides) - 1
        self.finest = nn.Sequential(*conv_block(settings.fpn_channels, width, 3))
        self.coarser = nn.ModuleList()  # for each level, a convolution for each doubling
        for level in range(1, self.last + 1):
            entry = settings.fpn_channels + (2 if level == self.last else 0)
            self.coarser.append(
                nn.ModuleList(tower(entry if i == 0 else width, width, 1) for i in range(level))
            )
        self.out = nn.Sequential(*conv_block(width, settings.mask_channels, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, D, H/s, W/s) with s the finest stride."""
        total = self.finest(maps[0])
        for level, convs in enumerate(self.coarser, 1):
            assert isinstance(convs, nn.ModuleList)
            x = with_coordinates(maps[level]) if level == self.last else maps[level]
            for i, conv in enumerate(convs, 1):
                size = maps[level - i].shape[-2:]
                x = F.interpolate(conv(x), size=size, mode="bilinear", align_corners=False)
            total = total + x
        return self.out(total)


def padded_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(H, W) of the network's input, multiples of 32, for images of `sizes` (H, W) together."""
    height, width = (math.ceil(max(side) / PAD_TO) * PAD_TO for side in zip(*sizes, strict=True))
    return height, width


class SOLOv2(nn.Module):
    """Images to raw maps. Knows nothing of targets, thresholds or points.

    Args:
        settings: see `SOLOv2Settings`.
        num_classes: K.
    """

    def __init__(self, settings: SOLOv2Settings, num_classes: int) -> None:
        super().__init__()
        self.settings, self.num_classes = settings, num_classes
        self.backbone = Backbone(
            settings.backbone, settings.strides, settings.pretrained, settings.frozen_stages
        )
        self.fpn = FPN(self.backbone.channels, settings.fpn_channels, settings.extra_level)
        self.head = InstanceHead(settings, num_classes)
        self.masks = MaskBranch(settings)

    def preprocess(self, images: list[Tensor]) -> Tensor:
        """uint8 (3, H_i, W_i) images to one normalised float32 batch (B, 3, H, W).

        Images lie in the top left corner, the rest is the mean colour. H and W are multiples of 32.
        """
        device = self.backbone.mean.device
        height, width = padded_size([(image.shape[1], image.shape[2]) for image in images])
        batch = torch.zeros((len(images), 3, height, width), device=device)
        for row, image in zip(batch, images, strict=True):
            pixels = image.to(device, non_blocking=True).float()
            row[:, : image.shape[1], : image.shape[2]] = (pixels - self.backbone.mean) / self.backbone.std
        return batch.contiguous(memory_format=torch.channels_last)

    def forward(self, batch: Tensor) -> RawMaps:
        """(B, 3, H, W) normalised, H and W multiples of 32, to raw maps in float32."""
        image_size = (batch.shape[2], batch.shape[3])
        maps = self.fpn(self.backbone(batch))
        category, kernels, position = self.head(maps, image_size)
        features = self.masks(maps[: len(self.settings.strides)])
        return RawMaps.from_levels(
            [x.float() for x in category],
            [x.float() for x in kernels],
            features.float(),
            image_size,
            [x.float() for x in position],
        )
