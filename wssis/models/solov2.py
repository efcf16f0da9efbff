"""SOLOv2 (Wang et al., NeurIPS 2020) with a local quadratic position term: images to raw maps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wssis.models.backbone import Backbone
from wssis.models.fpn import FPN
from wssis.rawmaps import RawMaps

POSITION_TERMS = 6  # x, y, x^2, y^2, xy, 1
POSITION_UNIT = 32.0  # pixels; keeps the absolute coefficients near 1
PAD_TO = 32  # coarsest stride of any backbone used


@dataclass(frozen=True)
class SOLOv2Settings:
    """Everything that decides the shape of the network, and how its maps are read.

    Attributes:
        backbone: a timm name.
        pretrained: true (ImageNet), false, or a path to a state dict.
        frozen_stages: 0 trains all, 1 freezes the stem, n the stem and n - 1 stages.
        strides: backbone maps that the pyramid is made of; the first is the stride of the masks.
        extra_level: append a map of twice the last stride (P6).
        fpn_channels, head_channels, head_depth, mask_channels: widths and depth.
        sources: which pyramid map each instance level reads.
        cells: cell size of each level in pixels (a grid follows the image's size), or
        grids: number of cells a side of each level (the paper); one of the two is empty.
        ranges: sqrt(box width x height) in pixels that each level answers for, low <= size < high.
        parity: the paper's head and rules: no position term, hard targets, every claim on a cell kept,
            points answered without regard to whether the mask holds the point.
    """

    backbone: str = "efficientnet_lite0"
    pretrained: bool | str = True
    frozen_stages: int = 2
    strides: tuple[int, ...] = (4, 8, 16)
    extra_level: bool = False
    fpn_channels: int = 48
    head_channels: int = 64
    head_depth: int = 2
    mask_channels: int = 32
    sources: tuple[int, ...] = (0, 1, 2)
    cells: tuple[int, ...] = (4, 8, 16)
    grids: tuple[int, ...] = ()
    ranges: tuple[tuple[float, float], ...] = ((0, 20), (14, 40), (28, 4096))
    parity: bool = False

    def __post_init__(self) -> None:
        if bool(self.cells) == bool(self.grids):
            raise ValueError("give cells (pixels a cell) or grids (cells a side), and leave the other empty")
        if not len(self.sources) == len(self.ranges) == len(self.cells or self.grids):
            raise ValueError(
                f"sources ({len(self.sources)}), ranges ({len(self.ranges)}) and "
                f"{'cells' if self.cells else 'grids'} ({len(self.cells or self.grids)}) must have a value a level each"
            )
        maps = len(self.strides) + self.extra_level
        if any(not 0 <= source < maps for source in self.sources):
            raise ValueError(f"sources must be 0 to {maps - 1}, the number of pyramid maps less one")
        if any(low >= high or low < 0 for low, high in self.ranges):
            raise ValueError("each of ranges must be [low, high] with 0 <= low < high")

    @property
    def mask_stride(self) -> int:
        """Input pixels a mask-feature pixel."""
        return self.strides[0]

    def grid_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each level for a padded input of this size."""
        if self.grids:
            return tuple((grid, grid) for grid in self.grids)
        return tuple((math.ceil(height / cell), math.ceil(width / cell)) for cell in self.cells)


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
        nn.init.constant_(self.category.bias, -math.log(99))  # every cell starts at probability 1 %
        nn.init.normal_(self.kernel.weight, std=0.01 if settings.parity else 0.02)
        nn.init.zeros_(self.kernel.bias)
        if not settings.parity:
            self.position = nn.Conv2d(width, POSITION_TERMS, 3, padding=1)
            nn.init.normal_(self.position.weight, std=0.02)
            # Every cell begins as a disc of the level's radius: logit 1 - dx^2 - dy^2.
            self.position.bias = nn.Parameter(torch.tensor([0.0, 0.0, -1.0, -1.0, 0.0, 1.0]))

    def forward(self, maps: list[Tensor], image_size: tuple[int, int]) -> tuple[list[Tensor], list[Tensor]]:
        """Per level: category logits (B, K, rows, columns) and kernels (B, C, rows, columns)."""
        categories, kernels = [], []
        grids = self.settings.grid_sizes(*image_size)
        for source, grid in zip(self.settings.sources, grids, strict=True):
            x = with_coordinates(self._level_map(maps, source))
            if x.shape[-2:] != grid:
                x = F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
            categories.append(self.category(self.category_tower(x[:, :-2])))
            tower_out = self.kernel_tower(x)
            kernel = self.kernel(tower_out)
            if not self.settings.parity:
                local = self.position(tower_out).float()
                kernel = torch.cat([kernel.float(), absolute_position(local, image_size)], 1)
            kernels.append(kernel)
        return categories, kernels

    def _level_map(self, maps: list[Tensor], source: int) -> Tensor:
        """The paper halves its finest map and enlarges its coarsest before the grids; cells need neither."""
        x = maps[source]
        if self.settings.grids and source == 0:
            return F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
        if self.settings.grids and self.settings.extra_level and source == len(maps) - 1:
            return F.interpolate(x, size=maps[-2].shape[-2:], mode="bilinear", align_corners=False)
        return x


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


class MaskBranch(nn.Module):
    """Pyramid maps to one map of mask features at the finest stride."""

    def __init__(self, settings: SOLOv2Settings) -> None:
        super().__init__()
        width = settings.fpn_channels if not settings.parity else settings.fpn_channels // 2
        last = len(settings.strides) - 1
        self.steps = nn.ModuleList()
        for level in range(len(settings.strides)):
            convs = nn.ModuleList()
            for i in range(max(1, level)):
                coordinates = 2 if level == last and i == 0 else 0
                convs.append(
                    nn.Sequential(
                        *conv_block((settings.fpn_channels if i == 0 else width) + coordinates, width, 3)
                    )
                )
            self.steps.append(convs)
        self.out = nn.Sequential(*conv_block(width, settings.mask_channels, 1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, D, H/s, W/s) with s the finest stride."""
        total = self.steps[0][0](maps[0])
        for level in range(1, len(self.steps)):
            x = with_coordinates(maps[level]) if level == len(self.steps) - 1 else maps[level]
            for i, conv in enumerate(self.steps[level]):
                size = maps[level - i - 1].shape[-2:]
                x = F.interpolate(conv(x), size=size, mode="bilinear", align_corners=False)
            total = total + x
        return self.out(total)


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

        Images lie in the top left corner; the rest is the backbone's mean colour. H and W are multiples of 32.
        """
        device = self.backbone.mean.device
        height = math.ceil(max(image.shape[1] for image in images) / PAD_TO) * PAD_TO
        width = math.ceil(max(image.shape[2] for image in images) / PAD_TO) * PAD_TO
        batch = torch.zeros((len(images), 3, height, width), device=device)
        for row, image in zip(batch, images, strict=True):
            pixels = image.to(device, non_blocking=True).float()
            row[:, : image.shape[1], : image.shape[2]] = (pixels - self.backbone.mean) / self.backbone.std
        return batch.contiguous(memory_format=torch.channels_last)

    def forward(self, batch: Tensor) -> RawMaps:
        """(B, 3, H, W) normalised, H and W multiples of 32, to raw maps in float32."""
        image_size = (batch.shape[2], batch.shape[3])
        maps = self.fpn(self.backbone(batch))
        category, kernels = self.head(maps, image_size)
        features = self.masks(maps[: len(self.settings.strides)]).float()
        if not self.settings.parity:
            basis = position_basis(
                features.shape[-2:], self.settings.mask_stride, image_size, features.device
            )
            features = torch.cat([features, basis.expand(len(batch), *basis.shape)], 1)
        return RawMaps.from_levels(
            [c.float() for c in category], [k.float() for k in kernels], features, image_size
        )
