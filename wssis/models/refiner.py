"""MaskRefineNet, a U-Net over a timm encoder with ASPP: crop, rough mask and points to a better mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wssis.models.backbone import Backbone
from wssis.models.class_conv import ClassConv, with_class_conv
from wssis.models.layers import conv_block
from wssis.settings import RefinerSettings


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., 2017): several reaches side by side and the mean."""

    def __init__(self, in_channels: int, out_channels: int, rates: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        for rate in rates:
            conv, norm, relu = conv_block(in_channels, out_channels, 3)
            assert isinstance(conv, nn.Conv2d)
            conv.dilation, conv.padding = (rate, rate), (rate, rate)
            self.branches.append(nn.Sequential(conv, norm, relu))
        self.pooled = nn.Conv2d(in_channels, out_channels, 1)
        self.out = nn.Sequential(*conv_block(out_channels * (len(rates) + 1), out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, out_channels, h, w)."""
        mean = self.pooled(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return self.out(torch.cat([*(branch(x) for branch in self.branches), mean], 1))


class Refiner(nn.Module):
    """U-Net over a timm encoder, which sees RGB, rough mask, points of K classes and other points.

    Args:
        settings: see `RefinerSettings`.
        num_classes: K.
    """

    def __init__(self, settings: RefinerSettings, num_classes: int) -> None:
        super().__init__()
        self.settings, self.num_classes = settings, num_classes
        self.encoder = Backbone(
            settings.backbone, settings.strides, settings.pretrained, settings.frozen_stages
        )
        self._first = with_class_conv(self.encoder.net, num_classes)
        channels, width = self.encoder.channels, settings.width
        self.aspp = ASPP(channels[-1], width)
        self.decoder = nn.ModuleList(
            nn.Sequential(*conv_block(width + skip, width, 3)) for skip in reversed(channels[:-1])
        )
        self.last = nn.Sequential(*conv_block(width + 4, width // 2, 3))
        self.out = nn.Conv2d(width // 2, 1, 1)
        self.out.bias = nn.Parameter(torch.zeros(1))
        self.trust = nn.Parameter(torch.tensor(2.0))
        self.trust.requires_grad_(settings.residual)  # DDP waits for gradients of all that can have one

    def forward(self, images: Tensor, rough: Tensor, points: Tensor, labels: Sequence[int]) -> Tensor:
        """Refined mask logits.

        Args:
            images: (N, 3, S, S) normalised RGB crops.
            rough: (N, S, S) rough masks in 0..1.
            points: (N, 2, S, S) own and other points, see `crops.point_maps`.
            labels: classes of the N objects.

        Returns:
            (N, S, S) float32 logits.
        """
        mask = rough[:, None] * 2 - 1
        first = self.encoder.net.get_submodule(self._first)
        assert isinstance(first, ClassConv)
        features = self.encoder(first.convolve(torch.cat([images, mask, points], 1), labels))
        x = self.aspp(features[-1])
        for step, skip in zip(self.decoder, reversed(features[:-1]), strict=True):
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = step(torch.cat([x, skip], 1))
        x = F.interpolate(x, size=images.shape[-2:], mode="bilinear", align_corners=False)
        logits = self.out(self.last(torch.cat([x, images, mask], 1)))[:, 0].float()
        return logits + self.trust * mask[:, 0] if self.settings.residual else logits

    def normalise(self, image: Tensor) -> Tensor:
        """uint8 (3, H, W) to float32 of the encoder's mean and deviation, on the image's own device."""
        mean, std = self.encoder.mean.to(image.device), self.encoder.std.to(image.device)
        return (image.float() - mean) / std
