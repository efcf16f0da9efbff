"""SOLOv2 (Wang et al., NeurIPS 2020) with a local quadratic position term: images to raw maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wssis.models.backbone import Backbone
from wssis.models.layers import FPN, conv_block, tower, with_coordinates
from wssis.models.position_term import POSITION_TERMS
from wssis.models.raw_maps import RawMaps
from wssis.settings import SOLOv2Settings

PAD_TO = 32  # coarsest stride of the supported backbones


class InstanceHead(nn.Module):
    """Category logits, mask kernels and position terms from the pyramid maps, resized to each level's
    grid."""

    def __init__(self, settings: SOLOv2Settings, num_classes: int) -> None:
        super().__init__()
        width = settings.head_channels
        self.settings = settings
        self.category_tower = tower(settings.fpn_channels, width, settings.head_depth)
        self.kernel_tower = tower(settings.fpn_channels + 2, width, settings.head_depth)
        self.category = nn.Conv2d(width, num_classes, 3, padding=1)
        self.kernel = nn.Conv2d(width, settings.mask_channels, 3, padding=1)
        nn.init.normal_(self.category.weight, std=0.01)
        # Every cell starts with a probability of 1 %.
        self.category.bias = nn.Parameter(torch.full((num_classes,), -math.log(99)))
        nn.init.normal_(self.kernel.weight, std=0.01 if settings.parity else 0.02)
        self.kernel.bias = nn.Parameter(torch.zeros(settings.mask_channels))
        if not settings.parity:
            self.position = nn.Conv2d(width, POSITION_TERMS, 3, padding=1)
            nn.init.normal_(self.position.weight, std=0.02)
            # Every cell starts as a disc of the level's radius: logit 1 - dx^2 - dy^2.
            self.position.bias = nn.Parameter(torch.tensor([0.0, 0.0, -1.0, -1.0, 0.0, 1.0]))

    def forward(
        self, maps: list[Tensor], image_size: tuple[int, int]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Lists over levels: category logits (B, K, rows, columns), kernels (B, C, …), position (B, 6, …).

        The last list is empty under `parity`.
        """
        categories, kernels, positions = [], [], []
        grids = self.settings.grid_sizes(*image_size)
        for source, grid in zip(self.settings.sources, grids, strict=True):
            # Coordinates are appended before the resize, as in the paper; only the kernel tower sees them.
            x = with_coordinates(self._level_map(maps, source))  # (B, fpn_channels + 2, h, w)
            if x.shape[-2:] != grid:
                x = F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
            categories.append(self.category(self.category_tower(x[:, :-2])))
            tower_out = self.kernel_tower(x)
            kernels.append(self.kernel(tower_out))
            if not self.settings.parity:
                positions.append(self.position(tower_out))
        return categories, kernels, positions

    def _level_map(self, maps: list[Tensor], source: int) -> Tensor:
        """Map of one level. With fixed grids the finest map is halved and P6 enlarged first, as in the
        paper."""
        x = maps[source]
        if self.settings.grids and source == 0:
            return F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
        if self.settings.grids and self.settings.extra_level and source == len(maps) - 1:
            return F.interpolate(x, size=maps[-2].shape[-2:], mode="bilinear", align_corners=False)
        return x


class MaskBranch(nn.Module):
    """Mask features at the finest stride from the pyramid maps."""

    def __init__(self, settings: SOLOv2Settings) -> None:
        super().__init__()
        width = settings.fpn_channels if not settings.parity else settings.fpn_channels // 2
        self.last = len(settings.strides) - 1
        self.finest = nn.Sequential(*conv_block(settings.fpn_channels, width, 3))
        self.coarser = nn.ModuleList()  # per level, one convolution per doubling
        for level in range(1, self.last + 1):
            entry = settings.fpn_channels + (2 if level == self.last else 0)
            self.coarser.append(
                nn.ModuleList(tower(entry if i == 0 else width, width, 1) for i in range(level))
            )
        self.out = nn.Sequential(*conv_block(width, settings.mask_channels, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, D, H/s, W/s) with s the finest stride."""
        # Convolve and upsample every map to the finest stride, then sum.
        total = self.finest(maps[0])  # (B, width, H/s, W/s)
        for level, convs in enumerate(self.coarser, 1):
            assert isinstance(convs, nn.ModuleList)
            x = with_coordinates(maps[level]) if level == self.last else maps[level]
            for i, conv in enumerate(convs, 1):
                size = maps[level - i].shape[-2:]
                x = F.interpolate(conv(x), size=size, mode="bilinear", align_corners=False)
            total = total + x
        return self.out(total)


def padded_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(H, W) of a network input that holds images of `sizes` (H, W); multiples of 32."""
    height, width = (math.ceil(max(side) / PAD_TO) * PAD_TO for side in zip(*sizes, strict=True))
    return height, width


class SOLOv2(nn.Module):
    """Images to raw maps, without targets, thresholds or points.

    Example:
        >>> model = SOLOv2(SOLOv2Settings(pretrained=False), num_classes=4).eval()
        >>> batch = model.preprocess([torch.zeros((3, 60, 90), dtype=torch.uint8)])
        >>> batch.shape
        torch.Size([1, 3, 64, 96])
        >>> model(batch).features.shape
        torch.Size([1, 32, 32, 48])

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
        """uint8 (3, H_i, W_i) images to one normalized float32 batch (B, 3, H, W).

        Each image is at the top left, padded with the mean color. H and W are multiples of 32.
        """
        device = self.backbone.mean.device
        height, width = padded_size([(image.shape[1], image.shape[2]) for image in images])
        batch = torch.zeros((len(images), 3, height, width), device=device)
        for row, image in zip(batch, images, strict=True):
            pixels = image.to(device, non_blocking=True).float()
            row[:, : image.shape[1], : image.shape[2]] = (pixels - self.backbone.mean) / self.backbone.std
        return batch.contiguous(memory_format=torch.channels_last)

    def forward(self, batch: Tensor) -> RawMaps:
        """(B, 3, H, W) normalized, H and W multiples of 32, to raw maps in float32."""
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
