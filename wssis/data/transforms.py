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
from wssis.settings import AugmentSettings, ResizeSettings

MIN_AREA = 4  # pixels; what a crop leaves of an object below this is no longer an object


def resize_image(image: Tensor, resize: ResizeSettings) -> Tensor:
    """uint8 (3, H, W) at the network's scale."""
    size = resize.size(image.shape[1], image.shape[2])
    return image if size == tuple(image.shape[1:]) else TF.resize(image, list(size), antialias=True)


def resize_points(points: Tensor, resize: ResizeSettings, height: int, width: int) -> Tensor:
    """(N, 2) xy pixels of an image of this size to pixels of the network's input."""
    new_h, new_w = resize.size(height, width)
    return points * points.new_tensor([new_w / width, new_h / height])


@dataclass(frozen=True)
class Window:
    """A part of an image in pixels, and the (H, W) that it is scaled to."""

    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]


class TrainTransform:
    """Resize, scale jitter, crop, flips and color jitter of an image and its masks.

    Randomness comes from torch's global generator; seed it a sample to repeat one.
    """

    def __init__(self, resize: ResizeSettings, augment: AugmentSettings) -> None:
        self.resize, self.augment = resize, augment
        jitter = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
        self.color = v2.ColorJitter(*jitter) if any(jitter) else v2.Identity()

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
        """Scale a window to `size` (H, W), turn it, color it; objects of too few pixels are left out."""
        masks, ignore = instances.masks, instances.ignore
        if masks is None:
            masks = torch.zeros((0, *instances.size), dtype=torch.bool)
        regions = masks.new_zeros((1, *instances.size)) if ignore is None else ignore[None]
        layers = torch.cat([masks, regions]).to(torch.uint8)
        picture: Tensor = tv_tensors.Image(image)
        if size != instances.size:
            picture, layers = (
                TF.resize(picture, list(size), antialias=True),
                resize_mask_stack(layers, list(size)),
            )
        picture, turned = self._turn(picture, tv_tensors.Mask(layers))
        picture = self.color(picture)
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


def resize_mask_stack(masks: Tensor, size: list[int]) -> Tensor:
    """Masks (N, h, w) uint8 at another size [H, W]: each pixel takes the one under its middle.

    Only masks with a pixel are touched: an image of 369 nuclei has few in a crop.
    """
    resized = torch.zeros((len(masks), *size), dtype=torch.uint8)
    inside = masks.flatten(1).bool().any(1)
    if inside.any():
        # torchvision's own resize of a Mask takes the pixel under the corner: half a pixel off the image.
        resized[inside] = F.interpolate(masks[inside][None], size, mode="nearest-exact")[0]
    return resized
