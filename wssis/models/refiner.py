"""MaskRefineNet, a U-Net over a timm encoder with ASPP: crop, rough mask and points to a better mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from wssis.models.backbone import Backbone
from wssis.models.layers import conv_block
from wssis.settings import RefinerSettings


class Refiner(nn.Module):
    """U-Net over a timm encoder. Its input is RGB, rough mask, points by class, and other points.

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
        # DDP waits for the gradient of every parameter that requires one.
        self.trust.requires_grad_(settings.residual)

    def forward(self, images: Tensor, rough: Tensor, points: Tensor, labels: Sequence[int]) -> Tensor:
        """Refined mask logits.

        Args:
            images: (N, 3, S, S) normalized RGB crops.
            rough: (N, S, S) rough masks in 0..1.
            points: (N, 2, S, S) own point and other objects' points, see `crops.point_maps`.
            labels: classes of the N objects.

        Returns:
            (N, S, S) float32 logits.
        """
        # Encoder: the class of each crop selects the weights of its own point's channel.
        mask = rough[:, None] * 2 - 1  # (N, 1, S, S) in -1..1
        first = self.encoder.net.get_submodule(self._first)
        assert isinstance(first, ClassConv)
        features = self.encoder(first.convolve(torch.cat([images, mask, points], 1), labels))

        # Decoder: from the coarsest map up, each step joined by the encoder's map of that size.
        x = self.aspp(features[-1])
        for step, skip in zip(self.decoder, reversed(features[:-1]), strict=True):
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = step(torch.cat([x, skip], 1))
        x = F.interpolate(x, size=images.shape[-2:], mode="bilinear", align_corners=False)
        logits = self.out(self.last(torch.cat([x, images, mask], 1)))[:, 0].float()  # (N, S, S)
        return logits + self.trust * mask[:, 0] if self.settings.residual else logits

    @staticmethod
    def loss(logits: Tensor, target: Tensor, dice_share: float = 0.5) -> dict[str, Tensor]:
        """Loss terms `bce` and `dice`, means over N crops.

        2 (1 - dice_share) BCE + 2 dice_share (1 - (2 sum(p t) + 1) / (sum(p + t) + 1)), sums over a crop.

        Args:
            logits, target: (N, S, S); targets are in 0..1.
            dice_share: 0..1, weight of Dice.
        """
        p = logits.sigmoid().flatten(1)  # (N, S * S)
        t = target.flatten(1)
        dice = 1 - (2 * (p * t).sum(1) + 1) / ((p + t).sum(1) + 1)  # (N,)
        bce = F.binary_cross_entropy_with_logits(logits, target)
        return {"bce": 2 * (1 - dice_share) * bce, "dice": 2 * dice_share * dice.mean()}

    def normalize(self, image: Tensor) -> Tensor:
        """uint8 (3, H, W) to float32 with the encoder's mean and deviation, on the image's device."""
        mean, std = self.encoder.mean.to(image.device), self.encoder.std.to(image.device)
        return (image.float() - mean) / std


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (arXiv 1706.05587): parallel dilated convolutions and the mean."""

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


class ClassConv(nn.Module):
    """A network's first convolution, widened by a rough mask, K points by class, and other points.

    It has K + 5 input channels, but a crop's own point fills only the channel of its class. `convolve`
    therefore takes six channels and selects the weights of each crop's class: the same sums without the
    zeros, which at 80 classes are a quarter of a ResNet-101's work and most of a crop's memory.

    Attributes:
        weight: (out, K + 5, kernel, kernel): RGB, rough mask, classes, other points.
        bias: (out,) or None.
    """

    def __init__(self, first: nn.Conv2d, num_classes: int) -> None:
        super().__init__()
        wide = type(first)(
            first.in_channels + num_classes + 2,
            first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            first.stride,  # type: ignore[arg-type]
            first.padding,  # type: ignore[arg-type]
            bias=first.bias is not None,
        )
        with torch.no_grad():
            wide.weight[:, :3] = first.weight
            wide.weight[:, 3:] *= 0.5
            if first.bias is not None and wide.bias is not None:
                wide.bias.copy_(first.bias)
        wide.weight.requires_grad_(first.weight.requires_grad)
        self.weight, self.bias = wide.weight, wide.bias
        # The convolution itself, since some of timm's pad on their own. In a tuple to hide its parameters.
        self._conv = (wide.to("meta"),)

    def forward(self, convolved: Tensor) -> Tensor:
        """Pass on the output of `convolve` to the rest of the network."""
        return convolved

    def convolve(self, crops: Tensor, labels: Sequence[int]) -> Tensor:
        """Features (N, out, s, s) of crops.

        Args:
            crops: (N, 6, S, S): RGB, rough mask, own point, other points.
            labels: classes of the N own points, 0 to K - 1; on the host, to avoid waiting for a GPU.
        """
        classes = sorted(set(labels))
        if len(classes) < 2:
            return self._of_class(crops, classes[0] if classes else 0)
        # Sort the crops by class, convolve each class with its weights, restore the order.
        order = torch.tensor(labels).argsort(stable=True)  # (N,)
        there, back = (index.to(crops.device, non_blocking=True) for index in (order, order.argsort()))
        parts = crops[there].split([labels.count(label) for label in classes])
        return torch.cat([self._of_class(part, label) for part, label in zip(parts, classes, strict=True)])[
            back
        ]

    def _of_class(self, crops: Tensor, label: int) -> Tensor:
        own = 4 + label
        channels = [self.weight[:, :4], self.weight[:, own : own + 1], self.weight[:, -1:]]
        weights = {"weight": torch.cat(channels, 1)}  # (out, 6, kernel, kernel)
        if self.bias is not None:
            weights["bias"] = self.bias
        return functional_call(self._conv[0], weights, (crops,))


def with_class_conv(net: nn.Module, num_classes: int) -> str:
    """Replace a network's first convolution by a `ClassConv`; returns its name in the network."""
    name, first = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    parent, _, leaf = name.rpartition(".")
    setattr(net.get_submodule(parent), leaf, ClassConv(first, num_classes))
    return name
