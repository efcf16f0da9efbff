"""The refiner's first convolution: channels of classes, of which each crop fills one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call


class ClassConv(nn.Module):
    """A network's first convolution, widened by a rough mask, K points by class, and other points.

    It has K + 5 input channels, and a crop's own point lies in that of its class: the K - 1 others are 0. So
    `convolve` is given six channels, and takes the weights of each crop's class: the same sums without their
    zeros, which at 80 classes are a quarter of a ResNet-101's work and most of a crop's memory.

    Attributes:
        weight: (out, K + 5, kernel, kernel): colours, rough mask, classes, other points.
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
        # How it convolves, for some of timm's pad by themselves; in a tuple, as its weights are not ours.
        self._kind = (wide.to("meta"),)

    def forward(self, convolved: Tensor) -> Tensor:
        """What `convolve` made, as it is: the network that the convolution is part of goes on from there."""
        return convolved

    def convolve(self, crops: Tensor, labels: Sequence[int]) -> Tensor:
        """Features of crops.

        Args:
            crops: (N, 6, S, S): colours, rough mask, own point, other points.
            labels: classes of the N own points, 0 to K - 1; on the host, so that a GPU is not waited for.

        Returns:
            (N, out, s, s).
        """
        kinds = sorted(set(labels))
        if len(kinds) < 2:
            return self._of_class(crops, kinds[0] if kinds else 0)
        order = torch.tensor(labels).argsort(stable=True)
        there, back = (index.to(crops.device, non_blocking=True) for index in (order, order.argsort()))
        parts = crops[there].split([labels.count(kind) for kind in kinds])
        return torch.cat([self._of_class(part, kind) for part, kind in zip(parts, kinds, strict=True)])[back]

    def _of_class(self, crops: Tensor, label: int) -> Tensor:
        own = 4 + label
        channels = [self.weight[:, :4], self.weight[:, own : own + 1], self.weight[:, -1:]]
        weights = {"weight": torch.cat(channels, 1)}
        if self.bias is not None:
            weights["bias"] = self.bias
        return functional_call(self._kind[0], weights, (crops,))


def with_class_conv(net: nn.Module, num_classes: int) -> str:
    """Put a `ClassConv` in the place of a network's first convolution; returns its name in the network."""
    name, first = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    parent, _, leaf = name.rpartition(".")
    setattr(net.get_submodule(parent), leaf, ClassConv(first, num_classes))
    return name
