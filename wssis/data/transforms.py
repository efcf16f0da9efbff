"""Augmentation of training images, and the one resize that prediction undoes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from wssis.errors import InputError
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


def mirrored_labels(pairs: Sequence[tuple[str, str]], class_names: Sequence[str]) -> Tensor | None:
    """The label (K,) int64 that each label has in a mirror image; None without pairs.

    Raises:
        InputError: a pair names a class that is not among `class_names`.
    """
    if not pairs:
        return None
    place = {name: label for label, name in enumerate(class_names)}
    mirrored = torch.arange(len(class_names))
    for pair in pairs:
        unknown = [name for name in pair if name not in place]
        if unknown:
            raise InputError(
                f"expected one of {', '.join(class_names)}, found {unknown[0]}",
                where="augment.flip_pairs",
                remedy="Name classes of the data set",
            )
        left, right = (place[name] for name in pair)
        mirrored[left], mirrored[right] = right, left
    return mirrored


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

    Args:
        resize, augment: see those classes.
        class_names: names of the K classes, in the order of their labels; needed for `flip_pairs`.
    """

    def __init__(
        self, resize: ResizeSettings, augment: AugmentSettings, class_names: Sequence[str] = ()
    ) -> None:
        self.resize, self.augment = resize, augment
        self.mirrored = mirrored_labels(augment.flip_pairs, class_names)
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
            scores=instances.scores,
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

    def scaled(self, size: tuple[int, int], factor: float) -> tuple[int, int]:
        """(H, W) of an object at the network's scale times a random one."""
        low, high = self.augment.scale
        factor *= low + (high - low) * torch.rand(()).item()
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))

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
        picture, layers, labels = self._flip(picture, layers, instances.labels)
        picture = self.color(picture)
        boolean = layers.bool()
        keep = boolean[:-1].flatten(1).sum(1) >= MIN_AREA
        changed = Instances(
            size=(int(boolean.shape[1]), int(boolean.shape[2])),
            labels=labels[keep],
            scores=None if instances.scores is None else instances.scores[keep],
            masks=boolean[:-1][keep],
            ignore=boolean[-1] if ignore is not None else None,
        )
        return picture.as_subclass(Tensor), changed

    def _flip(self, picture: Tensor, layers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mirror or turn the picture (3, h, w) and its masks (N, h, w); mirrored objects change class."""
        if self.augment.flips != "none" and torch.rand(()) < 0.5:
            picture, layers = TF.horizontal_flip(picture), TF.horizontal_flip(layers)
            labels = labels if self.mirrored is None else self.mirrored[labels]
        if self.augment.flips == "all":
            turns = int(torch.randint(4, ()))
            picture = tv_tensors.Image(torch.rot90(picture, turns, (-2, -1)))
            layers = torch.rot90(layers, turns, (-2, -1))
        return picture, layers, labels


def paste_object(
    image: Tensor, objects: Instances, piece: Tensor, pasted: Instances
) -> tuple[Tensor, Instances]:
    """Put one object at a random place of an image, in front of all others.

    Args:
        image: uint8 (3, H, W). objects: its objects, with masks.
        piece: uint8 (3, h, w). pasted: its object, with one mask (1, h, w), or none.

    Returns:
        The image with the object, cut where it leaves the image; objects of too few visible pixels are left
        out.
    """
    (height, width), (h, w) = objects.size, pasted.size
    if not len(pasted):
        return image, objects
    top = int(torch.randint(-(h // 2), height - (h + 1) // 2 + 1, ()))
    left = int(torch.randint(-(w // 2), width - (w + 1) // 2 + 1, ()))
    rows, columns = slice(max(0, top), top + h), slice(max(0, left), left + w)
    inside = (slice(max(0, -top), height - top), slice(max(0, -left), width - left))
    mask = torch.zeros(objects.size, dtype=torch.bool)  # (H, W)
    mask[rows, columns] = pasted.get_masks()[0][inside]
    layer = torch.zeros_like(image)  # (3, H, W)
    layer[:, rows, columns] = piece[:, *inside]
    masks = torch.cat([objects.get_masks() & ~mask, mask[None]])  # (N + 1, H, W)
    keep = masks.flatten(1).sum(1) >= MIN_AREA
    scores = objects.scores if objects.scores is not None else torch.ones(len(objects))
    changed = Instances(
        size=objects.size,
        labels=torch.cat([objects.labels, pasted.labels])[keep],
        scores=torch.cat([scores, torch.ones(1)])[keep],
        masks=masks[keep],
        ignore=None if objects.ignore is None else objects.ignore & ~mask,
    )
    return torch.where(mask, layer, image), changed


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
