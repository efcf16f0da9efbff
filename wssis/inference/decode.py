"""From raw maps to instances: point NMS, mask scores, Matrix NMS (SOLOv2, arXiv 2003.10152)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wssis.instances import Instances
from wssis.models.raw_maps import RawMaps
from wssis.ops.nms import mask_nms, matrix_nms, point_nms
from wssis.settings import DecodeSettings

__all__ = [
    "DecodeSettings",
    "area_strides",
    "decode",
    "mask_nms",
    "mask_quality",
    "matrix_nms",
    "point_nms",
    "resize_masks",
    "strips",
    "suppress",
]

# Masks are made in strips: a strip of all of them stays in a processor's cache while it is measured, and the
# product reads each feature once.
_STRIP = 1 << 11  # pixels
_CELLS = 1 << 11  # most masks at a time: 16 MB
_CHUNK_GPU = 1 << 26  # values held at once; there a strip is the whole mask
_RESIZE_CHUNK = 1 << 24  # pixels held at once by each step of a resize: 64 MB


@torch.no_grad()
def mask_quality(
    raw: RawMaps, image: int, cells: Tensor, threshold: float = 0.5, into: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Size and certainty of the masks of some cells, in bounded memory.

    Args:
        cells: (N,) int64 cells of one image of the batch.
        threshold: mask = probability > threshold.
        into: (N, Hm, Wm) float32, where the probabilities are written to, if they are wanted.

    Returns:
        area: (N,) float32, pixels of the mask features. maskness: (N,) float32, mean probability inside the
        mask, 0 for an empty one.
    """
    area, total = (torch.zeros(len(cells), device=cells.device) for _ in range(2))
    for part, rows, probs in strips(raw, image, cells):
        if into is not None:
            into[part, rows] = probs
        inside = F.threshold(probs, threshold, 0.0, inplace=True).flatten(1)  # (n, rows * Wm)
        total[part] += inside.sum(1)
        area[part] += inside.sign_().sum(1)  # several times faster than count_nonzero
    return area, total / area.clamp(min=1)


def strips(raw: RawMaps, image: int, cells: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Mask probabilities of the cells (N,) of one image of the batch, piece by piece.

    Yields:
        which of the cells, which rows of their masks, and the probabilities (n, rows, Wm) float32 there.
    """
    height, width = raw.features.shape[-2:]
    if raw.features.device.type == "cpu":
        most, step = _CELLS, max(1, _STRIP // width)
    else:
        most, step = max(1, _CHUNK_GPU // (height * width)), height
    for start in range(0, len(cells), most):
        part = slice(start, start + most)
        for rows, logits in raw.mask_strips(image, cells[part], step):
            yield part, rows, logits.sigmoid_()


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
    if not len(probs):
        return out
    for part, into in zip(probs.split(count), out.split(count), strict=True):
        large = enlarge(part[None], image_size, image_hw, out_hw)
        into.copy_(large[0] if threshold is None else large[0] > threshold)
    return out


def enlarge(
    probs: Tensor, image_size: tuple[int, int], image_hw: tuple[int, int], out_hw: tuple[int, int]
) -> Tensor:
    """`resize_masks` of a batch (B, N, Hm, Wm) at once: probabilities (B, N, *out_hw)."""
    large = F.interpolate(probs, image_size, mode="bilinear", align_corners=False)
    large = large[:, :, : image_hw[0], : image_hw[1]]
    if tuple(out_hw) != tuple(image_hw):
        large = F.interpolate(large, out_hw, mode="bilinear", align_corners=False)
    return large


def suppress(
    raw: RawMaps,
    image: int,
    cells: Tensor,
    labels: Tensor,
    scores: Tensor,
    settings: DecodeSettings,
    score: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, int]:
    """The best candidates, NMS among them, and the best of what is left.

    Args:
        cells, labels, scores: (N,) candidates of one image, in any order.
        score: minimum score after NMS.

    Returns:
        rows (n,) int64 into the candidates, scores (n,) descending, mask probabilities (n, Hm, Wm), and how
        many more there would be without `max_detections`.
    """
    # The best candidates, and their masks.
    scores, rows = scores.sort(descending=True, stable=True)
    scores, rows = scores[: settings.pre_nms], rows[: settings.pre_nms]
    probs = raw.mask_logits(image, cells[rows]).sigmoid_()  # (n, Hm, Wm)
    masks = probs > settings.mask_threshold
    if settings.nms == "mask":
        keep = mask_nms(masks, labels[rows], scores)
    else:
        kernel: Literal["gaussian", "linear"] = "gaussian" if settings.nms == "matrix" else "linear"
        scores = matrix_nms(masks, labels[rows], scores, kernel, settings.sigma)
        keep = scores >= settings.keep_threshold
    kept = (keep & (scores >= score)).nonzero()[:, 0]  # (m,) into rows
    # Matrix NMS lowers scores, so the order changes.
    scores, order = scores[kept].sort(descending=True, stable=True)
    most = settings.max_detections
    order = kept[order[:most]]
    return rows[order], scores[:most], probs[order], max(0, len(kept) - most)


def area_strides(raw: RawMaps, settings: DecodeSettings, cells: Tensor) -> Tensor:
    """(N,) area that the mask of each cell (N,) has to exceed, by its level."""
    strides = settings.area_strides or (0.0,) * len(raw.grids)
    if len(strides) != len(raw.grids):
        raise ValueError(
            f"area_strides: expected one for each of {len(raw.grids)} levels, got {len(strides)}"
        )
    return torch.tensor(strides, dtype=torch.float32, device=cells.device)[raw.level_of(cells)]


def peaks(category: Tensor, grids: Sequence[tuple[int, int]]) -> Tensor:
    """Class probabilities (B, T, K) after point NMS, of class logits (B, T, K)."""
    levels = category.sigmoid().split([rows * columns for rows, columns in grids], 1)  # L x (B, T_l, K)
    return torch.cat(
        [
            point_nms(level.mT.reshape(level.shape[0], -1, *grid)).flatten(2).mT
            for level, grid in zip(levels, grids, strict=True)
        ],
        1,
    )


@torch.no_grad()
def decode(
    raw: RawMaps,
    image: int,
    image_hw: tuple[int, int],
    out_hw: tuple[int, int],
    settings: DecodeSettings,
    score: float = 0.0,
) -> tuple[Instances, int]:
    """Instances of one image of the batch, and how many more `max_detections` cut off.

    Args:
        image_hw: (H, W) of the image in the padded input. out_hw: size that the masks shall have.
        score: minimum score of an instance, 0 to 1.

    Returns:
        Instances of size `out_hw` with masks, labels and scores, best first; the number cut.
    """
    heat = peaks(raw.category[image : image + 1], raw.grids)[0]  # (T, K)
    cells, labels = (heat > settings.score_threshold).nonzero(as_tuple=True)  # (N,), (N,)
    # One cell can be a candidate of several classes: its mask is looked at once.
    distinct, which = cells.unique(return_inverse=True)  # (M,) cells, (N,) the candidate's place in them
    area, maskness = mask_quality(raw, image, distinct, settings.mask_threshold)
    large = (area > area_strides(raw, settings, distinct))[which]  # (N,)
    cells, labels, which = cells[large], labels[large], which[large]
    if not len(cells):
        return Instances.empty(out_hw).to(heat.device), 0
    scores = heat[cells, labels] * maskness[which]  # (N,)
    rows, scores, probs, left_out = suppress(raw, image, cells, labels, scores, settings, score)
    masks = resize_masks(probs, raw.image_size, image_hw, out_hw, settings.mask_threshold)  # (n, *out_hw)
    instances = Instances(size=(out_hw[0], out_hw[1]), labels=labels[rows], masks=masks, scores=scores)
    # What lies in the padding only is no object of the image.
    return instances[masks.flatten(1).any(1)], left_out
