"""Measure and downscale hundreds of masks at once.

Sums add eight pixels at a time by reading eight bool pixels as one 64-bit integer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK = 32  # masks at once
_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def row_column_sums(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Foreground pixels of each row (N, H) and of each column (N, W) of bool masks (N, H, W), int64."""
    count, height, width = masks.shape
    if masks.numel() == 0:
        zeros = masks.new_zeros((count, height + width), dtype=torch.int64)
        return zeros[:, :height], zeros[:, height:]
    # A byte holds sums up to 255: add at most 255 words before splitting them into bytes.
    packed = _packed(masks, 8)  # (N, H, ceil(W / 8)) int64
    rows: Tensor = sum(
        part.sum(2).view(torch.uint8).view(count, height, 8).sum(2) for part in packed.split(255, 2)
    )  # type: ignore[assignment]
    columns: Tensor = sum(part.sum(1).view(torch.uint8).long() for part in packed.split(255, 1))  # type: ignore[assignment]
    return rows, columns[:, :width]


def mask_areas(masks: Tensor) -> Tensor:
    """Foreground pixels (N,) int64 of bool masks (N, H, W)."""
    if masks.numel() == 0:
        return masks.new_zeros(len(masks), dtype=torch.int64)
    words = _packed(masks, 8).flatten(1)  # (N, H * ceil(W / 8)) int64
    total: Tensor = sum(part.sum(1).view(torch.uint8).view(-1, 8).sum(1) for part in words.split(255, 1))  # type: ignore[assignment]
    return total


def mask_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of a[i] with b[i]: (N, H, W) bool both -> (N,) float32; 0 where both are empty."""
    return mask_areas(a & b).to(torch.float32) / mask_areas(a | b).clamp(min=1)


def _packed(masks: Tensor, size: int) -> Tensor:
    """Bool masks (N, H, W) as integers (N, H, ceil(W / size)) of `size` pixels each, zero padded."""
    if masks.shape[2] % size:
        masks = F.pad(masks, (0, -masks.shape[2] % size))
    masks = masks.contiguous()
    if masks.storage_offset() % size:
        masks = masks.clone()
    return masks.view(_WORDS[size])


def center_of_mass(masks: Tensor) -> Tensor:
    """Mean column and row index of the foreground.

    Args:
        masks: (N, H, W) bool.

    Returns:
        (N, 2) float32 xy, pixel *indices* (add 0.5 for pixel coordinates); (0, 0) for an empty mask.
    """
    return centers_of(*row_column_sums(masks))


def mask_boxes(masks: Tensor) -> Tensor:
    """Tight boxes (N, 4) float32 x0, y0, x1, y1, exclusive ends, of bool masks (N, H, W); zeros if empty."""
    return boxes_of(*row_column_sums(masks))


def centers_of(rows: Tensor, columns: Tensor) -> Tensor:
    """`center_of_mass` from the sums of `row_column_sums`."""
    area = rows.sum(1).clamp(min=1)
    y = (rows * torch.arange(rows.shape[1], device=rows.device)).sum(1)
    x = (columns * torch.arange(columns.shape[1], device=rows.device)).sum(1)
    return torch.stack([x.double() / area, y.double() / area], 1).float()


def boxes_of(rows: Tensor, columns: Tensor) -> Tensor:
    """`mask_boxes` from the sums of `row_column_sums`."""
    ends = []
    for sums in (columns, rows):
        length = sums.shape[1]
        index = torch.arange(length, device=sums.device)
        present = sums > 0  # (N, length)
        last = torch.where(present, index + 1, 0).amax(1)
        ends += [torch.minimum(torch.where(present, index, length).amin(1), last), last]
    return torch.stack([ends[0], ends[2], ends[1], ends[3]], 1).float()


def downscale_masks(masks: Tensor, size: tuple[int, int], exact: bool = False) -> Tensor:
    """Masks at a lower resolution: foreground where the bilinearly resized mask is >= 0.5.

    Args:
        masks: (N, H, W) bool.
        size: (h, w) of the result.
        exact: the same in the 8-bit fixed point of OpenCV's resize, as in the reference implementation;
        differs in
            fewer than 1 pixel in 3000, and only for sizes that do not divide H and W.

    Returns:
        (N, h, w) bool.
    """
    if masks.numel() == 0:
        return masks.new_zeros((masks.shape[0], *size))
    stride = masks.shape[1] // size[0]
    if stride % 2 == 0 and masks.shape[1:] == (size[0] * stride, size[1] * stride):
        # Both rules reduce to: at least 2 of the 4 pixels in the middle of a block.
        first, second, pixels = stride // 2 - 1, stride // 2, masks.view(torch.uint8)
        rows = pixels[:, first::stride] + pixels[:, second::stride]
        return rows[..., first::stride] + rows[..., second::stride] >= 2
    if not exact:
        parts = [
            F.interpolate(part[None].float(), size, mode="bilinear", align_corners=False)[0] >= 0.5
            for part in masks.split(_CHUNK)
        ]
        return torch.cat(parts)
    top, bottom, upper, lower = _fixed_point_samples(masks.shape[1], size[0], masks.device)
    left, right, west, east = _fixed_point_samples(masks.shape[2], size[1], masks.device)

    def along_row(lines: Tensor) -> Tensor:
        return (lines[:, :, left] * west + lines[:, :, right] * east) >> 4

    value = (along_row(masks[:, top]) * upper[:, None] >> 16) + (
        along_row(masks[:, bottom]) * lower[:, None] >> 16
    )
    return value >= 2


def _fixed_point_samples(source: int, target: int, device: torch.device) -> tuple[Tensor, ...]:
    """First and second source index, and their weights in 1/2048, of each of `target` samples."""
    position = (
        (torch.arange(target, device=device, dtype=torch.float64) + 0.5) * source / target - 0.5
    ).float()
    position = position.clamp(0, source - 1)
    first = position.floor()
    second_weight = position - first
    weights = [(weight * 2048).round().int() for weight in (1 - second_weight, second_weight)]
    return first.long(), (first.long() + 1).clamp(max=source - 1), weights[0], weights[1]


def area_average(masks: Tensor, image_size: tuple[int, int], mask_size: tuple[int, int]) -> Tensor:
    """Share of foreground in each cell of the mask grid.

    Args:
        masks: (N, h, w) bool at the top left of an image padded to `image_size` (H, W).
        mask_size: (Hm, Wm). Strides H / Hm = W / Wm of 1, 2, 4 and 8 are fast.

    Returns:
        (N, Hm, Wm) float32. A cell cut by the edge of (h, w) is averaged over its inside.
    """
    sums, pixels = _block_sums(masks, image_size, mask_size)
    return sums.float() / pixels


def _block_sums(
    masks: Tensor, image_size: tuple[int, int], mask_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Foreground of each cell of the mask grid (N, Hm, Wm), and pixels of a full cell (Hm, Wm)."""
    count, height, width = masks.shape
    stride = image_size[0] // mask_size[0]
    if masks.numel() == 0:
        return masks.new_zeros((count, *mask_size), dtype=torch.int32), torch.ones((), device=masks.device)
    if (mask_size[0] * stride, mask_size[1] * stride) != tuple(image_size) or stride not in (1, *_WORDS):
        padding = (0, image_size[1] - width, 0, image_size[0] - height)
        shares = [
            F.adaptive_avg_pool2d(F.pad(part.float(), padding), mask_size) for part in masks.split(_CHUNK)
        ]
        return torch.cat(shares), torch.ones((), device=masks.device)
    if stride == 1:
        sums = masks.view(torch.uint8)
    else:
        packed = _packed(masks, stride)
        if height % stride:
            packed = F.pad(packed, (0, 0, 0, -height % stride))
        sums = packed.view(count, -1, stride, packed.shape[2]).sum(2, dtype=packed.dtype)
        # Multiplying by 0x0101... puts the sum of all bytes, at most 64, into the top byte.
        sums = (sums * sum(1 << 8 * i for i in range(stride))) >> 8 * (stride - 1)
    down, right = (
        torch.arange(cells, device=masks.device).mul(-stride).add(length).clamp(1, stride)
        for cells, length in zip(mask_size, (height, width), strict=True)
    )
    padding = (0, mask_size[1] - sums.shape[2], 0, mask_size[0] - sums.shape[1])
    return F.pad(sums, padding) if any(padding) else sums, (down[:, None] * right).to(sums.dtype)


def loss_masks(
    masks: Tensor,
    area: Tensor,
    centers: Tensor,
    image_size: tuple[int, int],
    mask_size: tuple[int, int],
    exact: bool,
    soft: bool,
) -> Tensor:
    """Target masks of one image at mask resolution, in the frame of the padded image.

    Args:
        masks: (n, h, w) bool. area: (n,) pixels. centers: (n, 2) xy, pixel indices.
        exact: downscale as the reference implementation does; objects may vanish.
        soft: return shares of foreground.

    Returns:
        (n, Hm, Wm) float32 in 0..1 if soft, else bool: at least half foreground, or, if that
        leaves nothing of an object, the pixel of its center.
    """
    if len(masks) > _CHUNK:  # keeps intermediate results in the cache
        pieces = zip(masks.split(_CHUNK), area.split(_CHUNK), centers.split(_CHUNK), strict=True)
        return torch.cat([loss_masks(*piece, image_size, mask_size, exact, soft) for piece in pieces])
    if soft:
        return area_average(masks, image_size, mask_size)
    if exact:
        size = [int(masks.shape[1 + i] * mask_size[i] / image_size[i] + 0.5) for i in (0, 1)]
        small = downscale_masks(masks, (size[0], size[1]), exact=True)
        return F.pad(small, (0, mask_size[1] - size[1], 0, mask_size[0] - size[0]))
    sums, pixels = _block_sums(masks, image_size, mask_size)
    small = sums * 2 >= pixels  # (n, Hm, Wm)

    # An object that vanishes keeps the pixel of its center.
    scale = centers.new_tensor([mask_size[1] / image_size[1], mask_size[0] / image_size[0]])
    x, y = ((centers + 0.5) * scale).long().unbind(1)
    objects = torch.arange(masks.shape[0], device=masks.device)
    vanished = (area > 0) & ~small.flatten(1).any(1)
    small[objects, y.clamp(max=mask_size[0] - 1), x.clamp(max=mask_size[1] - 1)] |= vanished
    return small
