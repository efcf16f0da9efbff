"""A trained SOLOv2 with its decoding as one network: uint8 images in, padded instances out."""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wssis.errors import InputError
from wssis.inference.decode import enlarge, peaks
from wssis.inference.predictor import Predictor
from wssis.models.raw_maps import RawMaps
from wssis.models.solov2 import padded_size
from wssis.ops.nms import matrix_decay, pairwise_iou
from wssis.ops.uint8_resize import Resample

OUTPUTS = ("scores", "labels", "masks", "counts")
Padded: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


class Deployable(nn.Module):
    """What `Predictor.predict` does with images of one size, in operations that can be exported.

    Sizes that depend on the images (candidates, objects) are those of the fullest image of the batch, so that
    an image with little in it costs little.

    The outputs, of B images, best first, in N rows: as many as the fullest image needs, at least 1:

    - scores: (B, N) float32, 0 in the rows behind an image's last instance;
    - labels: (B, N) int64, -1 there;
    - masks: (B, N, H, W) bool at the images' own size, false there;
    - counts: (B,) int64, instances of each image.

    Args:
        predictor: network, scale and thresholds.
        size: (H, W) of the images.
        candidates: most cells of an image that masks are computed of, the likeliest; `predict` has no limit.

    Raises:
        InputError: the thresholds ask for greedy mask NMS, which is no fixed sequence of operations.
    """

    def __init__(self, predictor: Predictor, size: tuple[int, int], candidates: int = 2000) -> None:
        super().__init__()
        self.model, self.settings, self.size = predictor.model, predictor.settings, size
        if self.settings.nms == "mask":
            raise InputError(
                "expected matrix or linear, found mask, which cannot be exported",
                where="decode.nms",
                remedy="Set evaluate.decode.nms to matrix, or export with the defaults",
            )
        self.image_hw = predictor.resize.size(*size)
        self.padded = padded_size([self.image_hw])
        self.grids = self.model.settings.grid_sizes(*self.padded)
        self.resample = Resample(size, self.image_hw)
        cells = [rows * columns for rows, columns in self.grids]
        areas = torch.tensor(self.settings.area_strides or (0.0,) * len(cells), dtype=torch.float32)
        self.register_buffer("least", areas.repeat_interleave(torch.tensor(cells)), persistent=False)
        self.candidates = min(candidates, sum(cells))

    least: Tensor

    def forward(self, images: Tensor) -> Padded:
        """uint8 RGB (B, 3, H, W) to scores, labels, masks and counts."""
        raw = self.model(self.preprocess(images))
        heat = peaks(raw.category, self.grids)
        probs, scores = self.scored(raw, heat)
        return self.placed(*self.suppressed(probs, scores))

    def preprocess(self, images: Tensor) -> Tensor:
        """As `SOLOv2.preprocess`, of images at their own scale."""
        pixels = self.resample(images).float()
        normalized = (pixels - self.model.backbone.mean) / self.model.backbone.std
        below, right = self.padded[0] - self.image_hw[0], self.padded[1] - self.image_hw[1]
        padded = F.pad(normalized, (0, right, 0, below))
        return padded.contiguous(memory_format=torch.channels_last)

    def scored(self, raw: RawMaps, heat: Tensor) -> tuple[Tensor, Tensor]:
        """Mask probabilities (B, n, h, w) of the likeliest cells, and scores (B, n, K), -1: no candidate."""
        likely = heat > self.settings.score_threshold
        best, order = torch.where(likely, heat, 0.0).amax(2).topk(self.candidates, 1)
        count = most((best > 0).sum(1), self.candidates)
        cells = order[:, :count].sort(1).values  # in their order, as equal scores are ranked by it
        heat, likely = pick(heat, cells), pick(likely, cells)
        position = None if raw.position is None else pick(raw.position, cells)
        logits = raw.logits_of(pick(raw.kernels, cells), position, cells)
        probs = logits.sigmoid().flatten(2)
        inside = probs > self.settings.mask_threshold
        area = inside.float().sum(2)
        maskness = torch.where(inside, probs, 0.0).sum(2) / area.clamp(min=1)
        large = area > self.least[cells]
        scores = torch.where(likely & large[..., None], heat * maskness[..., None], -1.0)
        return probs.unflatten(2, raw.features.shape[2:]), scores

    def suppressed(self, probs: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Matrix NMS: scores (B, N), -1 for none, labels (B, N) and mask probabilities (B, N, h, w)."""
        settings, classes = self.settings, scores.shape[2]
        scores, rows = scores.flatten(1).sort(dim=1, descending=True, stable=True)
        count = most((scores >= 0).sum(1), settings.pre_nms)
        scores, rows = scores[:, :count], rows[:, :count]
        cells, labels = rows // classes, rows % classes
        masks = pick((probs > settings.mask_threshold).flatten(2), cells).float()
        same = labels[:, :, None] == labels[:, None, :]
        iou = (pairwise_iou(masks) * same).triu(1)
        decayed = scores * matrix_decay(
            iou, "gaussian" if settings.nms == "matrix" else "linear", settings.sigma
        )
        kept = (scores >= 0) & (decayed >= settings.keep_threshold)
        scores, order = torch.where(kept, decayed, -1.0).sort(dim=1, descending=True, stable=True)
        count = most(kept.sum(1), settings.max_detections)
        order = order[:, :count]
        return scores[:, :count], pick(labels, order), pick(probs, pick(cells, order))

    def placed(self, scores: Tensor, labels: Tensor, probs: Tensor) -> Padded:
        """Masks at the images' own size; what has no pixel there is no object."""
        masks = enlarge(probs, self.padded, self.image_hw, self.size) > self.settings.mask_threshold
        found = (scores >= 0) & masks.flatten(2).any(2)
        order = (~found).int().sort(dim=1, stable=True).indices
        found = pick(found, order)
        return (
            torch.where(found, pick(scores, order), 0.0),
            torch.where(found, pick(labels, order), -1),
            pick(masks, order) & found[..., None, None],
            found.sum(1),
        )


def pick(values: Tensor, rows: Tensor) -> Tensor:
    """values (B, N, …) at rows (B, n): (B, n, …). One look-up of whole rows, which is faster than gather."""
    first = torch.arange(values.shape[0], device=rows.device) * values.shape[1]
    return values.flatten(0, 1)[rows + first[:, None]]


def most(counts: Tensor, limit: int) -> int:
    """The greatest of counts (B,), at least 1 and at most `limit`; a size of its own in an exported graph."""
    size = counts.max().clamp(1, limit).item()
    assert not isinstance(size, float)
    torch._check(size >= 1)
    torch._check(size <= limit)
    return size
