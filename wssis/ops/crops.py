"""The one crop round an object, for training the refiner and for using it: all objects at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align

from wssis.ops.masks import mask_boxes

NEIGHBOURS = 8  # other points drawn in a crop; farther ones lie outside it or tell nothing


def crop_windows(masks: Tensor, points: Tensor, scale: float | Tensor, smallest: float) -> Tensor:
    """Square windows round rough masks, widened to contain the points.

    Args:
        masks: (N, H, W) bool; an empty one counts as its point alone.
        points: (N, 2) xy pixels.
        scale: side of the window in longer sides of the mask's box; a number or (N,).
        smallest: least side in pixels.

    Returns:
        (N, 4) float32 x0, y0, x1, y1 pixels; windows may reach over the image's border.
    """
    boxes = crop_boxes(masks, points)
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    half = (sides * scale).clamp(min=smallest) / 2
    centres = (boxes[:, 2:] + boxes[:, :2]) / 2
    reach = (points - centres).abs().amax(1) + smallest / 4
    half = torch.maximum(half, reach)
    return torch.cat([centres - half[:, None], centres + half[:, None]], 1)


def crop_boxes(masks: Tensor, points: Tensor) -> Tensor:
    """(N, 4) tight boxes x0, y0, x1, y1 with exclusive ends; an empty mask has its point's pixel."""
    boxes = mask_boxes(masks).to(points.dtype)
    pixel = torch.cat([points.floor(), points.floor() + 1], 1)
    return torch.where((boxes[:, 2] > boxes[:, 0])[:, None], boxes, pixel)


def cut(image: Tensor, windows: Tensor, size: int) -> Tensor:
    """Crops (N, C, size, size) of one image (C, H, W) float32; outside the image 0."""
    rows = torch.zeros((len(windows), 1), device=windows.device)
    return roi_align(image[None], torch.cat([rows, windows], 1), size, sampling_ratio=2, aligned=True)


def cut_each(masks: Tensor, windows: Tensor, size: int) -> Tensor:
    """Crops (N, size, size) of each object's own map (N, H, W), bool or float."""
    if not len(masks):
        return torch.zeros((0, size, size), device=windows.device)
    rows = torch.arange(len(windows), device=windows.device)[:, None].to(windows.dtype)
    boxes = torch.cat([rows, windows], 1)
    return roi_align(masks[:, None].float(), boxes, size, sampling_ratio=2, aligned=True)[:, 0]


def paste(crops: Tensor, windows: Tensor, size: tuple[int, int]) -> Tensor:
    """Put crops (N, h, w) back into maps (N, H, W); 0 outside each window. Bilinear.

    Windows have sides along the axes, so that bilinear interpolation is a product of a matrix a column and
    one a row: several times as fast as sampling each pixel for itself.
    """
    rows = interpolation(windows[:, 1], windows[:, 3], crops.shape[1], size[0])
    columns = interpolation(windows[:, 0], windows[:, 2], crops.shape[2], size[1])
    return rows @ crops.float() @ columns.transpose(1, 2)


def interpolation(start: Tensor, end: Tensor, source: int, target: int, first: int = 0) -> Tensor:
    """(N, target - first, source) weights of `source` samples, spread from `start` to `end` (N,) pixels, at
    each of the pixels `first` to `target`; 0 for pixels whose middle lies outside."""
    pixels = torch.arange(first, target, device=start.device) + 0.5
    place = (pixels - start[:, None]) / (end - start)[:, None] * source - 0.5
    inside = (place >= -0.5) & (place <= source - 0.5)
    samples = torch.arange(source, device=start.device)
    weights = (1 - (place.clamp(0, source - 1)[..., None] - samples).abs()).clamp(min=0)
    return weights * inside[..., None]


def gaussian_maps(points: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """One Gaussian a point, cut at 3 sigma + 1 pixels as in the paper's code.

    exp(-((X - x)^2 + (Y - y)^2) / (2 sigma^2)) where both distances are at most 3 sigma + 1, else 0.

    Args:
        points: (..., 2) xy in pixel *indices* (the middle of pixel 3 is 3.0).
        size: (H, W).
        sigma: pixels.

    Returns:
        (..., H, W) float32 in 0..1.
    """
    reach = 3 * sigma + 1

    def line(centre: Tensor, length: int) -> Tensor:
        distance = torch.arange(length, device=points.device) - centre[..., None]
        return torch.exp(-(distance**2) / (2 * sigma**2)) * (distance.abs() <= reach)

    return line(points[..., 1], size[0])[..., :, None] * line(points[..., 0], size[1])[..., None, :]


def point_maps(points: Tensor, rows: Tensor, windows: Tensor, size: int, sigma: float) -> Tensor:
    """What a crop is told of points: its own, and those of the nearest other objects.

    Args:
        points: (M, 2) xy pixels of all objects of the image.
        rows: (N,) which of the objects the crops are of.
        windows: (N, 4), one a crop.
        size: side of the crops in pixels.
        sigma: of the Gaussians, in pixels of the crop.

    Returns:
        (N, 2, size, size) float32 in 0..1.
    """
    count = len(rows)
    maps = torch.zeros((count, 2, size, size), device=points.device)
    if not count:
        return maps
    side = (windows[:, 2] - windows[:, 0])[:, None]
    own = (points[rows] - windows[:, :2]) / side * size - 0.5
    maps[:, 0] = gaussian_maps(own, (size, size), sigma)
    nearest = min(NEIGHBOURS, len(points) - 1)
    if nearest:
        distance = torch.cdist(points[rows], points)
        distance[torch.arange(count, device=points.device), rows] = float("inf")
        others = points[distance.topk(nearest, largest=False).indices]
        local = (others - windows[:, None, :2]) / side[:, None] * size - 0.5
        maps[:, 1] = gaussian_maps(local, (size, size), sigma).amax(1)
    return maps
