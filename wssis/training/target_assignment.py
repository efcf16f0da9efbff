"""Which cell learns which object: target assignment of SOLOv2, vectorised over objects and levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wssis.instances import Instances
from wssis.ops.masks import (
    area_average,
    boxes_of,
    center_of_mass,
    centers_of,
    downscale_masks,
    loss_masks,
    mask_boxes,
    row_column_sums,
)


def levels_of(sizes: Tensor, ranges: Sequence[tuple[float, float]], strict: bool) -> Tensor:
    """Which levels take objects of sqrt(box area) `sizes` (N,): (L, N) bool."""
    bounds = torch.tensor(
        [tuple(pair) for pair in ranges], dtype=torch.float32, device=sizes.device
    )  # (L, 2)
    low, high = bounds[:, :1], bounds[:, 1:]
    taken = (low <= sizes) & (sizes < high)  # (L, N)
    if strict:
        return taken
    # No object is dropped: one that fits no range goes to the level whose range is nearest.
    gap = (low - sizes).clamp(min=0) + (sizes - high).clamp(min=0)  # (L, N)
    level = torch.arange(len(bounds), device=sizes.device)[:, None]
    nearest = torch.where(gap == gap.amin(0), level, len(bounds)).amin(0)  # (N,)
    return torch.where(taken.any(0), taken, level == nearest)


def claims_of(
    centers: Tensor,
    boxes: Tensor,
    levels: Tensor,
    grids: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    center_scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The 3 x 3 cells round each center at each level: claimed or not, cell number, squared distance.

    Args:
        centers: (N, 2) xy. boxes: (N, 4). levels: (L, N) bool.

    Returns:
        (L, N, 9) bool, int64 (clamped to the grid), and float32 in pixels.
    """
    device = centers.device
    grid = torch.tensor(list(grids), device=device)[:, None]  # (L, 1, 2) rows, columns
    scale = grid / torch.tensor(image_size, device=device)  # (L, 1, 2) cells a pixel
    center = centers.flip(1)  # (N, 2) y, x
    reach = (boxes[:, 2:] - boxes[:, :2]).flip(1) * (center_scale / 2)  # (N, 2) y, x

    def cell_at(yx: Tensor) -> Tensor:
        return torch.minimum((yx * scale).floor().long().clamp(min=0), grid - 1)

    middle, first, last = cell_at(center), cell_at(center - reach), cell_at(center + reach)  # (L, N, 2)
    step = torch.tensor([(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)], device=device)  # (9, 2)
    place = middle[:, :, None] + step  # (L, N, 9, 2)
    claims = ((place >= first[:, :, None]) & (place <= last[:, :, None])).all(3) & levels[
        :, :, None
    ]  # (L, N, 9)
    offset = torch.tensor([0] + [rows * columns for rows, columns in grids[:-1]], device=device).cumsum(0)
    place = torch.minimum(place.clamp(min=0), grid[:, None] - 1)
    cells = offset[:, None, None] + place[..., 0] * grid[:, :, 1:] + place[..., 1]  # (L, N, 9)
    distance = ((place + 0.5) / scale[:, None] - center[:, None]).square().sum(3)  # (L, N, 9)
    return claims, cells, distance


def nearest_claims(claims: Tensor, slots: Tensor, num_slots: int, distance: Tensor, area: Tensor) -> Tensor:
    """Of several claims on one cell only the nearest object's stays; ties: the smaller, then the first.

    Args:
        claims: (L, N, 9) bool. slots: (L, N, 9) cell numbers in the batch. distance: (L, N, 9) squared
            distance of the object's center to the cell's middle. area: (N,) pixels.
    """
    order = torch.arange(claims.shape[1], device=claims.device, dtype=torch.float64)
    for key in (distance.double(), area.double()[:, None], order[:, None]):
        cost = torch.where(claims, key, torch.inf)  # (L, N, 9)
        best = cost.new_full((num_slots,), torch.inf).scatter_reduce(
            0, slots.flatten(), cost.flatten(), "amin"
        )
        claims = claims & (cost == best[slots])
    return claims


__all__ = ["IGNORED", "Targets", "assign", "center_of_mass", "downscale_masks", "mask_boxes"]

IGNORED = -1


@dataclass(frozen=True, slots=True)
class Targets:
    """What every cell of a batch should say.

    Attributes:
        category: (B, T) int64 class of each cell; K = background, -1 = no loss at this cell.
        image, cell, instance: (P,) int64, one row a positive (cell, mask) pair, in the order level, image,
            instance, row, column; `instance` counts within its image.
        masks: per image (n, Hm, Wm), bool, or float32 in 0..1 if soft; zero in the padding.
        valid: per image (Hm, Wm) bool, False = no loss at this pixel; None = loss everywhere.
        weight: (P,) float32 factor of each pair's mask loss.
        num_cells: number of distinct positive cells of the batch.
        num_pairs: sum of `weight`, the number of pairs where all count alike.
        per_image: number of rows of each image, known on the host: a loss on a GPU need not wait for it.
    """

    category: Tensor
    image: Tensor
    cell: Tensor
    instance: Tensor
    weight: Tensor
    masks: list[Tensor]
    valid: list[Tensor | None]
    num_cells: int
    num_pairs: float
    per_image: tuple[int, ...]

    def to(self, device: torch.device | str) -> Targets:
        """The same on another device; asynchronous to the GPU."""
        device = torch.device(device)

        def sent(value: Tensor) -> Tensor:
            if device.type == "cuda" and value.device.type == "cpu":
                value = value.pin_memory()  # else the copy would wait for what the GPU has before it
            return value.to(device, non_blocking=True)

        return replace(
            self,
            category=sent(self.category),
            image=sent(self.image),
            cell=sent(self.cell),
            instance=sent(self.instance),
            weight=sent(self.weight),
            masks=[sent(value) for value in self.masks],
            valid=[None if value is None else sent(value) for value in self.valid],
        )


def _measures(
    instances: Sequence[Instances],
    image_size: tuple[int, int],
    mask_size: tuple[int, int],
    strict: bool,
    soft: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Centers (N, 2) xy, boxes (N, 4), areas (N,) of the objects of all images, and masks for the loss.

    Centers are pixel coordinates; pixel indices if `strict`, as the reference implementation has them.
    """
    centers, boxes, areas, masks = [], [], [], []
    for item in instances:
        full = item.masks if len(item) else torch.zeros((0, *item.size), dtype=torch.bool)
        if full is None:
            raise ValueError("assign: expected instances with masks, got masks=None")
        if item.size[0] > image_size[0] or item.size[1] > image_size[1]:
            raise ValueError(f"assign: expected masks of at most {image_size}, got {item.size}")
        full = full.to(item.labels.device)
        rows, columns = row_column_sums(full)
        center, area = centers_of(rows, columns), rows.sum(1)
        masks.append(loss_masks(full, area, center, image_size, mask_size, strict, soft))
        centers.append(center if strict else center + 0.5)
        boxes.append(boxes_of(rows, columns))
        areas.append(area)
    return torch.cat(centers), torch.cat(boxes), torch.cat(areas), masks


def _ignored_cells(ignore: Tensor, grids: Sequence[tuple[int, int]], finest: int) -> Tensor:
    """Cells (T,) of which an ignore region (H, W) of the padded image says: nothing is known here.

    Those whose middle lies in the region. At the level of the smallest objects, where an object may lie
    between the middles, those that touch the region.
    """
    height, width = ignore.shape
    cells = []
    for level, (rows, columns) in enumerate(grids):
        if level == finest:
            cells.append(F.adaptive_max_pool2d(ignore[None].float(), (rows, columns))[0].flatten() > 0)
            continue
        y = ((torch.arange(rows, device=ignore.device) + 0.5) * height / rows).long()
        x = ((torch.arange(columns, device=ignore.device) + 0.5) * width / columns).long()
        cells.append(ignore[y[:, None], x].flatten())
    return torch.cat(cells)


def _unclaimed(
    instances: Sequence[Instances],
    masks: list[Tensor],
    grids: Sequence[tuple[int, int]],
    ranges: Sequence[tuple[float, float]],
    image_size: tuple[int, int],
    mask_size: tuple[int, int],
    num_classes: int,
) -> tuple[Tensor, list[Tensor | None]]:
    """Background or ignored, (B, T) int64, for cells that no object takes; and valid pixels of each image."""
    finest = min(range(len(ranges)), key=lambda level: ranges[level][0])
    category, valid = [], []
    for item, small in zip(instances, masks, strict=True):
        labels = small.new_full((sum(r * c for r, c in grids),), num_classes, dtype=torch.int64)
        pixels = None
        if item.ignore is not None:
            padded = F.pad(item.ignore, (0, image_size[1] - item.size[1], 0, image_size[0] - item.size[0]))
            labels[_ignored_cells(padded, grids, finest)] = IGNORED
            pixels = (area_average(item.ignore[None], image_size, mask_size)[0] < 0.5) | (small > 0).any(0)
        category.append(labels)
        valid.append(pixels)
    return torch.stack(category), valid


def assign(
    instances: Sequence[Instances],
    grids: Sequence[tuple[int, int]],
    ranges: Sequence[tuple[float, float]],
    image_size: tuple[int, int],
    mask_size: tuple[int, int],
    num_classes: int,
    shared: Literal["nearest", "all"] = "nearest",
    center_scale: float = 0.2,
    soft: bool = False,
    quality_power: float = 0.0,
) -> Targets:
    """Give every object its cells and every cell its class.

    An object takes, at each level whose range holds sqrt(box area), the cells of the box of `center_scale`
    times its own box around its center of mass, at most one cell to each side of the center's (SOLOv2).

    Args:
        instances: per image, with masks (n, h, w) where h <= H and w <= W (the rest is padding).
        grids: (rows, columns) of each level.
        ranges: (low, high) of each level: low <= sqrt(box area) < high, pixels.
        image_size: (H, W) of the padded network input.
        mask_size: (Hm, Wm) of the mask features, H / Hm = W / Wm = 1, 2, 4 or 8 for the fast way.
        num_classes: K.
        shared: what becomes of a cell that several objects claim. "nearest": it belongs to the one whose
            center is nearest to its middle (ties: the smaller one). "all": the paper's rule, exactly: the
            category of the last one, a mask loss for each; sizes that fit no range are dropped, masks are
            shrunk in OpenCV's fixed point, centers are pixel indices.
        center_scale: share of the box that counts as its center.
        soft: masks are shares 0..1 instead of a majority of pixels.
        quality_power: power of an object's score in the weight of its mask loss; without scores it is 1.

    Returns:
        Targets, on the device of the labels. Objects with an empty mask get no cell.

    Raises:
        ValueError: objects without masks, masks larger than `image_size`, or not a range for each grid.
    """
    strict = shared == "all"
    if len(grids) != len(ranges):
        raise ValueError(f"assign: expected a range for each grid, got {len(ranges)} and {len(grids)}")
    device = instances[0].labels.device
    center, box, area, masks = _measures(instances, image_size, mask_size, strict, soft)
    # All objects of the batch in one list.
    counts = torch.tensor([len(item) for item in instances])  # (B,)
    image = torch.repeat_interleave(counts).to(device)  # (N,) image of each object
    instance = torch.cat([torch.arange(len(item)) for item in instances]).to(device)  # (N,)
    # Which cells each object claims at which levels.
    cells = sum(rows * columns for rows, columns in grids)
    levels = levels_of((box[:, 2:] - box[:, :2]).prod(1).sqrt(), ranges, strict) & (area > 0)
    claims, slots, distance = claims_of(
        center, box, levels, grids, image_size, center_scale
    )  # (L, N, 9) each
    if not strict:
        claims = nearest_claims(claims, slots + image[:, None] * cells, len(counts) * cells, distance, area)
    level, row, which = claims.nonzero(as_tuple=True)  # (P,) each; which: of the 9 cells round the center
    cell = slots[level, row, which]  # (P,)
    # The last claimant names the class (a cell has several only under "all").
    owner = torch.full((len(counts) * cells,), -1, device=device)  # (B * T,) object of each cell
    owner = owner.scatter_reduce(0, image[row] * cells + cell, row, "amax")
    labels = torch.cat([item.labels for item in instances])  # (N,)
    scores = [
        torch.ones(len(item), device=device) if item.scores is None else item.scores for item in instances
    ]
    weight = torch.cat(scores)[row] ** quality_power  # (P,)
    unclaimed, valid = _unclaimed(instances, masks, grids, ranges, image_size, mask_size, num_classes)
    category = torch.where(owner < 0, unclaimed.flatten(), labels[owner]) if len(labels) else unclaimed
    return Targets(
        category=category.view(len(counts), cells),
        image=image[row],
        cell=cell,
        instance=instance[row],
        weight=weight,
        masks=masks,
        valid=valid,
        num_cells=int((owner >= 0).sum()) if strict else len(cell),
        num_pairs=float(weight.sum()) if quality_power else float(len(cell)),
        per_image=tuple(image[row].bincount(minlength=len(counts)).tolist()),
    )
