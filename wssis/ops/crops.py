"""Crops around objects, for the refiner in training and prediction, vectorized over objects."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align

from wssis.ops.masks import mask_boxes

NEIGHBORS = 8  # other points drawn in a crop; farther ones lie outside it or add nothing


def crop_windows(masks: Tensor, points: Tensor, scale: float | Tensor, smallest: float) -> Tensor:
    """Square windows around rough masks, widened to contain the points.

    Args:
        masks: (N, H, W) bool; an empty one is treated as its point.
        points: (N, 2) xy pixels.
        scale: window side / longer side of the mask's box; a number or (N,).
        smallest: minimum side in pixels.

    Returns:
        (N, 4) float32 x0, y0, x1, y1 pixels; windows may extend beyond the image.
    """
    boxes = boxes_with_points(masks, points)
    sides = (boxes[:, 2:] - boxes[:, :2]).amax(1)  # (N,)
    half = (sides * scale).clamp(min=smallest) / 2
    centers = (boxes[:, 2:] + boxes[:, :2]) / 2
    reach = (points - centers).abs().amax(1) + smallest / 4
    half = torch.maximum(half, reach)  # (N,)
    return torch.cat([centers - half[:, None], centers + half[:, None]], 1)


def boxes_with_points(masks: Tensor, points: Tensor) -> Tensor:
    """(N, 4) tight boxes x0, y0, x1, y1 with exclusive ends; an empty mask gets its point's pixel."""
    boxes = mask_boxes(masks).to(points.dtype)
    pixel = torch.cat([points.floor(), points.floor() + 1], 1)
    return torch.where((boxes[:, 2] > boxes[:, 0])[:, None], boxes, pixel)


def cut(image: Tensor, windows: Tensor, size: int) -> Tensor:
    """Crops (N, C, size, size) of one image (C, H, W) float32; 0 outside the image."""
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
    """Paste crops (N, h, w) into maps (N, H, W), bilinearly; 0 outside each window.

    Windows are axis-aligned, so bilinear interpolation is a matrix product per axis: several times faster
    than sampling every pixel.
    """
    rows = interpolation(windows[:, 1], windows[:, 3], crops.shape[1], size[0])  # (N, H, h)
    columns = interpolation(windows[:, 0], windows[:, 2], crops.shape[2], size[1])  # (N, W, w)
    return rows @ crops.float() @ columns.transpose(1, 2)


def interpolation(start: Tensor, end: Tensor, source: int, target: int, first: int = 0) -> Tensor:
    """Weights (N, target - first, source) that interpolate `source` samples linearly.

    The samples span `start` to `end` (N,) in pixels. Pixels `first` to `target` whose center lies outside
    get weight 0.
    """
    pixels = torch.arange(first, target, device=start.device) + 0.5  # (target - first,)
    place = (pixels - start[:, None]) / (end - start)[:, None] * source - 0.5  # (N, target - first)
    inside = (place >= -0.5) & (place <= source - 0.5)
    samples = torch.arange(source, device=start.device)
    weights = (1 - (place.clamp(0, source - 1)[..., None] - samples).abs()).clamp(min=0)
    return weights * inside[..., None]


def gaussian_maps(points: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
    """One Gaussian per point, cut at 3 sigma + 1 pixels as in the paper's code.

    exp(-((X - x)^2 + (Y - y)^2) / (2 sigma^2)) where both distances are at most 3 sigma + 1, else 0.

    Args:
        points: (..., 2) xy in pixel *indices* (the center of pixel 3 is 3.0).
        size: (H, W).
        sigma: pixels.

    Returns:
        (..., H, W) float32 in 0..1.
    """
    reach = 3 * sigma + 1

    def profile(center: Tensor, length: int) -> Tensor:
        distance = torch.arange(length, device=points.device) - center[..., None]  # (..., length)
        return torch.exp(-(distance**2) / (2 * sigma**2)) * (distance.abs() <= reach)

    return profile(points[..., 1], size[0])[..., :, None] * profile(points[..., 0], size[1])[..., None, :]


def point_maps(
    points: Tensor,
    rows: Tensor,
    windows: Tensor,
    size: int,
    sigma: float,
    clicks: Tensor | None = None,
) -> Tensor:
    """Point channels of each crop: its own point, and those of the nearest other objects.

    Args:
        points: (M, 2) xy pixels of all objects of the image.
        rows: (N,) int64, the object of each crop.
        windows: (N, 4), one per crop.
        size: side of the crops in pixels.
        sigma: of the Gaussians, in pixels of the crop.
        clicks: (C, 4) object (of M), x, y, and 1 on the object or 0 beside it: the former join the own point,
            the latter the others.

    Returns:
        (N, 2, size, size) float32 in 0..1.
    """
    count = len(rows)
    maps = torch.zeros((count, 2, size, size), device=points.device)
    if not count:
        return maps

    # Own point, in pixel indices of the crop.
    side = (windows[:, 2] - windows[:, 0])[:, None]  # (N, 1)
    own = (points[rows] - windows[:, :2]) / side * size - 0.5  # (N, 2)
    maps[:, 0] = gaussian_maps(own, (size, size), sigma)

    # Nearest other points, at most `NEIGHBORS`, merged into one channel.
    nearest = min(NEIGHBORS, len(points) - 1)
    if nearest:
        distance = torch.cdist(points[rows], points)  # (N, M)
        distance[torch.arange(count, device=points.device), rows] = float("inf")
        others = points[distance.topk(nearest, largest=False).indices]  # (N, nearest, 2)
        local = (others - windows[:, None, :2]) / side[:, None] * size - 0.5
        maps[:, 1] = gaussian_maps(local, (size, size), sigma).amax(1)

    # Further clicks.
    if clicks is not None and len(clicks):
        crop, click = (clicks[:, 0] == rows[:, None]).nonzero(as_tuple=True)  # (P,) pairs
        local = (clicks[click, 1:3] - windows[crop, :2]) / side[crop] * size - 0.5  # (P, 2)
        drawn = gaussian_maps(local, (size, size), sigma)  # (P, size, size)
        channel = (clicks[click, 3] == 0).long()
        index = (crop * 2 + channel)[:, None, None].expand_as(drawn)
        flat = maps.view(-1, size, size)
        flat.scatter_reduce_(0, index, drawn, "amax")
    return maps
