"""Augmentation of training images, and the one resize that prediction undoes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from wssis.instances import Instances

MIN_AREA = 4  # pixels; what a crop leaves of an object below this is no longer an object


@dataclass(frozen=True)
class ResizeSettings:
    """How an image is brought to the network's scale, in training and in prediction.

    Attributes:
        scale: factor, where `short` is 0.
        short: length in pixels that the short side is brought to; 0: use `scale`.
        long: the long side's limit in pixels where `short` is used.
    """

    scale: float = 1.0
    short: int = 0
    long: int = 1333

    def __post_init__(self) -> None:
        if not 0.1 <= self.scale <= 10:
            raise ValueError("scale must be between 0.1 and 10")
        if self.short < 0 or self.long < 32:
            raise ValueError("short must be 0 or more and long at least 32 (pixels)")

    def factor(self, height: int, width: int) -> float:
        """The factor for an image of this size."""
        if not self.short:
            return self.scale
        return min(self.short / min(height, width), self.long / max(height, width))

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the network's input for an image of this size."""
        factor = self.factor(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))

    def image(self, image: Tensor) -> Tensor:
        """uint8 (3, H, W) at the network's scale."""
        size = self.size(image.shape[1], image.shape[2])
        return image if size == tuple(image.shape[1:]) else TF.resize(image, list(size), antialias=True)

    def points(self, points: Tensor, height: int, width: int) -> Tensor:
        """(N, 2) xy pixels of the image to pixels of the network's input."""
        new_h, new_w = self.size(height, width)
        return points * points.new_tensor([new_w / width, new_h / height])


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes of a training image.

    Attributes:
        crop: side in pixels of the square that is cut at the network's scale; 0: the whole image.
        scale: range of the random scale, times the network's scale.
        flips: "horizontal", or "all" (both flips and quarter turns: scenes without an up), or "none".
        brightness, contrast, saturation: strength of the colour jitter.
        hue: likewise, 0 to 0.5; costs more than the rest together.
    """

    crop: int = 96
    scale: tuple[float, float] = (0.75, 1.4)
    flips: str = "all"
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.0

    def __post_init__(self) -> None:
        if self.flips not in ("none", "horizontal", "all"):
            raise ValueError(f"flips must be none, horizontal or all, not {self.flips!r}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError("scale must be [low, high] with 0 < low <= high")
        if self.crop < 0:
            raise ValueError("crop must be 0 or more pixels")


@dataclass(frozen=True)
class Window:
    """A part of an image in pixels, and the (H, W) that it is scaled to."""

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]


class TrainTransform:
    """Resize, scale jitter, crop, flips and colour jitter of an image and its masks.

    Randomness comes from torch's global generator; seed it a sample to repeat one.
    """

    def __init__(self, resize: ResizeSettings, augment: AugmentSettings) -> None:
        self.resize, self.augment = resize, augment
        jitter = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
        self.colour = v2.ColorJitter(*jitter) if any(jitter) else v2.Identity()

    def __call__(self, image: Tensor, instances: Instances) -> tuple[Tensor, Instances]:
        """uint8 (3, H, W) and its objects (with masks) to a changed image and the objects still in it."""
        window = self.window(int(image.shape[1]), int(image.shape[2]))
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        cut = Instances(
            size=(window.height, window.width),
            labels=instances.labels,
            masks=None if instances.masks is None else instances.masks[:, rows, columns],
            ignore=None if instances.ignore is None else instances.ignore[rows, columns],
        )
        return self.warp(image[:, rows, columns], cut, window.size)

    def window(self, height: int, width: int) -> Window:
        """A random scale, and the random window that is the whole image or becomes `crop` pixels at it.

        The window is cut first and scaled then: large images are never resized whole.
        """
        low, high = self.augment.scale
        factor = self.resize.factor(height, width) * (low + (high - low) * torch.rand(()).item())
        crop = self.augment.crop
        if not crop:
            return Window(
                0, 0, height, width, (max(1, round(height * factor)), max(1, round(width * factor)))
            )
        window_h, window_w = min(height, round(crop / factor)), min(width, round(crop / factor))
        top = int(torch.randint(height - window_h + 1, ()))
        left = int(torch.randint(width - window_w + 1, ()))
        size = (min(crop, max(1, round(window_h * factor))), min(crop, max(1, round(window_w * factor))))
        return Window(top, left, window_h, window_w, size)

    def warp(self, image: Tensor, instances: Instances, size: tuple[int, int]) -> tuple[Tensor, Instances]:
        """Scale a window to `size` (H, W), turn it, colour it; objects of too few pixels are left out."""
        masks, ignore = instances.masks, instances.ignore
        if masks is None:
            masks = torch.zeros((0, *instances.size), dtype=torch.bool)
        regions = masks.new_zeros((1, *instances.size)) if ignore is None else ignore[None]
        layers = torch.cat([masks, regions]).to(torch.uint8)
        picture: Tensor = tv_tensors.Image(image)
        if size != instances.size:
            picture, layers = TF.resize(picture, list(size), antialias=True), resize_masks(layers, list(size))
        picture, turned = self._turn(picture, tv_tensors.Mask(layers))
        picture = self.colour(picture)
        boolean = turned.as_subclass(Tensor).bool()
        keep = boolean[:-1].flatten(1).sum(1) >= MIN_AREA
        changed = Instances(
            size=(int(boolean.shape[1]), int(boolean.shape[2])),
            labels=instances.labels[keep],
            masks=boolean[:-1][keep],
            ignore=boolean[-1] if ignore is not None else None,
        )
        return picture.as_subclass(Tensor), changed

    def _turn(self, picture: Tensor, layers: Tensor) -> tuple[Tensor, Tensor]:
        if self.augment.flips != "none" and torch.rand(()) < 0.5:
            picture, layers = TF.horizontal_flip(picture), TF.horizontal_flip(layers)
        if self.augment.flips == "all":
            turns = int(torch.randint(4, ()))
            picture = tv_tensors.Image(torch.rot90(picture, turns, (-2, -1)))
            layers = tv_tensors.Mask(torch.rot90(layers, turns, (-2, -1)))
        return picture, layers


def resize_masks(masks: Tensor, size: list[int]) -> Tensor:
    """Masks (N, h, w) uint8 at another size [H, W]: each pixel takes the one under its middle.

    Only masks with a pixel are touched: an image of 369 nuclei has few in a crop.
    """
    resized = torch.zeros((len(masks), *size), dtype=torch.uint8)
    inside = masks.flatten(1).bool().any(1)
    if inside.any():
        # torchvision's own resize of a Mask takes the pixel under the corner: half a pixel off the image.
        resized[inside] = F.interpolate(masks[inside][None], size, mode="nearest-exact")[0]
    return resized
