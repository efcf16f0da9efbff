"""From raw maps to instances: point NMS, mask scores, Matrix NMS (SOLOv2, arXiv 2003.10152)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wssis.instances import Instances
from wssis.rawmaps import RawMaps

_CHUNK = 1 << 21  # mask values held at once while cells are scored: 8 MB, about a cache
_RESIZE_CHUNK = 1 << 24  # pixels held at once by each step of a resize: 64 MB


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How raw maps become instances.

    Attributes:
        score_threshold: least class probability of a candidate cell.
        mask_threshold: a pixel with a greater probability belongs to the mask.
        area_strides: per level, a mask of at most so many pixels (of the mask features) is dropped; empty: 0.
        pre_nms: most candidates before NMS.
        keep_threshold: least score after Matrix NMS.
        max_detections: most instances of an image.
        nms: "matrix" (Gaussian), "linear" (Matrix NMS with linear decay) or "mask" (greedy, IoU > 0.5).
        sigma: of the Gaussian decay exp(-sigma (iou^2 - compensation^2)).
    """

    score_threshold: float = 0.1
    mask_threshold: float = 0.5
    area_strides: tuple[float, ...] = ()
    pre_nms: int = 500
    keep_threshold: float = 0.05
    max_detections: int = 100
    nms: Literal["matrix", "linear", "mask"] = "matrix"
    sigma: float = 2.0


def point_nms(heat: Tensor) -> Tensor:
    """Keep a value only if none of its upper, left and upper-left neighbours is greater; others become 0.

    Args:
        heat: (B, K, rows, columns) probabilities.
    """
    highest = F.max_pool2d(heat, 2, stride=1, padding=1)[..., :-1, :-1]
    return heat * (highest == heat)


@torch.no_grad()
def mask_quality(raw: RawMaps, image: int, cells: Tensor, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Size and certainty of the masks of some cells, in bounded memory.

    Args:
        cells: (N,) int64 cells of one image of the batch.
        threshold: mask = probability > threshold.

    Returns:
        area: (N,) float32, pixels of the mask features. maskness: (N,) float32, mean probability inside the
        mask, 0 for an empty one.
    """
    pixels = raw.features.shape[-2] * raw.features.shape[-1]
    areas, sums = [], []
    for part in cells.split(max(1, _CHUNK // pixels)):
        inside = F.threshold_(raw.mask_logits(image, part).flatten(1).sigmoid_(), threshold, 0.0)
        areas.append(inside.count_nonzero(1))
        sums.append(inside.sum(1))
    if not areas:
        return raw.features.new_zeros(0), raw.features.new_zeros(0)
    area, total = torch.cat(areas).float(), torch.cat(sums)
    return area, total / area.clamp(min=1)


def _ious(masks: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Strictly upper triangular IoU (n, n), 0 between classes, in blocks: (rows (n,), IoU).

    On a CPU each class is a block of its own; elsewhere one block of all saves the round trips.
    """
    flat = masks.flatten(1)
    if flat.device.type == "cpu":
        order = labels.argsort(stable=True)
        sizes = labels.unique(return_counts=True)[1].tolist()
        blocks = list(order.split(sizes))
    else:
        blocks = [torch.arange(len(labels), device=labels.device)]
    for rows in blocks:
        part = flat[rows].float()
        area = part.sum(1)
        both = part @ part.T
        iou = both / (area[:, None] + area - both).clamp(min=1)
        if len(blocks) == 1:
            iou = iou * (labels[rows][:, None] == labels[rows])
        yield rows, iou.triu(1)


def matrix_nms(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    kernel: Literal["gaussian", "linear"] = "gaussian",
    sigma: float = 2.0,
) -> Tensor:
    """Scores decayed by overlap with higher masks of the same class (SOLOv2, section 3.3).

    With u_ij = IoU of a higher i and a lower j, c_i = max_h u_hi: score_j times the least d_ij (at most 1),
    d = exp(-sigma (u^2 - c^2)) or (1 - u) / (1 - c). A suppressor with c_i = 1 (a copy of a higher mask)
    has no say under the linear kernel.

    Args:
        masks: (N, h, w) bool or 0/1 float. labels: (N,) int64.
        scores: (N,) float32 *in descending order*.

    Returns:
        (N,) float32 scores in the given order.
    """
    decayed = scores.clone()
    for rows, iou in _ious(masks, labels):
        worst = iou.amax(0)[:, None]
        if kernel == "gaussian":
            decay = (sigma * (worst.square() - iou.square())).exp()
        else:
            decay = torch.where(worst < 1, (1 - iou) / (1 - worst), torch.inf)
        below = torch.ones_like(iou, dtype=torch.bool).triu(1)
        decayed[rows] *= torch.where(below, decay, 1.0).amin(0).clamp(max=1)
    return decayed


def mask_nms(masks: Tensor, labels: Tensor, scores: Tensor, threshold: float = 0.5) -> Tensor:
    """Greedy NMS: a mask goes if its IoU with a kept, higher one of its class is > threshold.

    Args:
        masks: (N, h, w) bool or 0/1 float. labels: (N,) int64. scores: (N,) *in descending order*.

    Returns:
        keep: (N,) bool.
    """
    keep = torch.ones_like(scores, dtype=torch.bool)
    for rows, iou in _ious(masks, labels):
        beats = (iou > threshold).float()
        kept = keep[rows].float()
        # Who is beaten depends only on higher masks, so that repeating this settles row by row.
        for _ in range(len(rows)):
            again = (kept @ beats == 0).float()
            if torch.equal(again, kept):
                break
            kept = again
        keep[rows] = kept > 0
    return keep


def resize_masks(
    probs: Tensor,
    image_size: tuple[int, int],
    image_hw: tuple[int, int],
    out_hw: tuple[int, int],
    threshold: float | None = None,
) -> Tensor:
    """Masks from feature resolution to an image's own size, bilinearly, in bounded memory.

    Args:
        probs: (N, Hm, Wm) float32 probabilities.
        image_size: (H, W) of the padded network input; image_hw: the part of it that is the image, top left.
        out_hw: size of the result.
        threshold: None returns probabilities, else `probability > threshold`.

    Returns:
        (N, *out_hw) float32 or bool.
    """
    out = probs.new_empty((len(probs), *out_hw), dtype=torch.float32 if threshold is None else torch.bool)
    count = max(1, _RESIZE_CHUNK // max(image_size[0] * image_size[1], out_hw[0] * out_hw[1]))
    for part, into in zip(probs.split(count), out.split(count), strict=True):
        large = F.interpolate(part[None], image_size, mode="bilinear", align_corners=False)
        large = large[:, :, : image_hw[0], : image_hw[1]]
        if tuple(out_hw) != tuple(image_hw):
            large = F.interpolate(large, out_hw, mode="bilinear", align_corners=False)
        into.copy_(large[0] if threshold is None else large[0] > threshold)
    return out


def suppress(
    raw: RawMaps,
    image: int,
    cells: Tensor,
    labels: Tensor,
    scores: Tensor,
    settings: DecodeSettings,
) -> tuple[Tensor, Tensor, Tensor]:
    """The best candidates, NMS among them, and the best of what is left.

    Args:
        cells, labels, scores: (N,) candidates of one image, in any order.

    Returns:
        rows (n,) int64 into the candidates, scores (n,) descending, mask probabilities (n, Hm, Wm).
    """
    scores, rows = scores.sort(descending=True, stable=True)
    scores, rows = scores[: settings.pre_nms], rows[: settings.pre_nms]
    probs = raw.mask_logits(image, cells[rows]).sigmoid_()
    masks = probs > settings.mask_threshold
    if settings.nms == "mask":
        keep = mask_nms(masks, labels[rows], scores)
    else:
        kernel: Literal["gaussian", "linear"] = "gaussian" if settings.nms == "matrix" else "linear"
        scores = matrix_nms(masks, labels[rows], scores, kernel, settings.sigma)
        keep = scores >= settings.keep_threshold
    kept = keep.nonzero()[:, 0]
    scores, order = scores[kept].sort(descending=True, stable=True)
    order = kept[order[: settings.max_detections]]
    return rows[order], scores[: settings.max_detections], probs[order]


def area_strides(raw: RawMaps, settings: DecodeSettings, cells: Tensor) -> Tensor:
    """(N,) area that the mask of each cell (N,) has to exceed, by its level."""
    strides = settings.area_strides or (0.0,) * len(raw.grids)
    if len(strides) != len(raw.grids):
        raise ValueError(
            f"area_strides: expected one for each of {len(raw.grids)} levels, got {len(strides)}"
        )
    return torch.tensor(strides, dtype=torch.float32, device=cells.device)[raw.level_of(cells)]


@torch.no_grad()
def decode(
    raw: RawMaps, image: int, image_hw: tuple[int, int], out_hw: tuple[int, int], settings: DecodeSettings
) -> Instances:
    """Instances of one image of the batch.

    Args:
        image_hw: (H, W) of the image in the padded input. out_hw: size that the masks shall have.

    Returns:
        Instances of size `out_hw` with masks, labels and scores, best first.
    """
    heat = raw.category[image].sigmoid()
    levels = heat.split([rows * columns for rows, columns in raw.grids])
    peaks = [
        point_nms(level.T.reshape(1, -1, *grid)).flatten(2)[0].T
        for level, grid in zip(levels, raw.grids, strict=True)
    ]
    heat = torch.cat(peaks)
    cells, labels = (heat > settings.score_threshold).nonzero(as_tuple=True)
    # One cell can be a candidate of several classes: its mask is looked at once.
    distinct, which = cells.unique(return_inverse=True)
    area, maskness = mask_quality(raw, image, distinct, settings.mask_threshold)
    large = (area > area_strides(raw, settings, distinct))[which]
    cells, labels, which = cells[large], labels[large], which[large]
    if not len(cells):
        return Instances.empty(out_hw).to(heat.device)
    scores = heat[cells, labels] * maskness[which]
    rows, scores, probs = suppress(raw, image, cells, labels, scores, settings)
    masks = resize_masks(probs, raw.image_size, image_hw, out_hw, settings.mask_threshold)
    return Instances(size=tuple(out_hw), labels=labels[rows], masks=masks, scores=scores)
