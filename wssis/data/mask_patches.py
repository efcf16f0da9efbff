"""Masks of one image, each stored inside its box, from which training crops are cut.

Decoding all 369 masks of a nuclei image at full size took 90 % of a training step; a crop needs few.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wssis.data import rle as rle_api
from wssis.data.records import ImageRecord
from wssis.instances import Instances
from wssis.ops.masks import mask_boxes

CHUNK = 16  # masks at full size in memory at once


@dataclass(frozen=True)
class MaskPatches:
    """Objects with a mask and ignore regions of one image.

    Attributes:
        size: (H, W) pixels.
        labels: (N,) int64.
        scores: (N,) float32, expected quality of the mask in 0..1; 1 of a drawn one.
        boxes: (N + R, 4) int64 x0, y0, x1, y1 with exclusive ends: N objects, then R regions to ignore.
        patches: N + R bool masks of the size of their boxes.
    """

    size: tuple[int, int]
    labels: Tensor
    scores: Tensor
    boxes: Tensor
    patches: tuple[Tensor, ...]

    @classmethod
    def of(cls, record: ImageRecord) -> MaskPatches:
        """Decode the masks of a record."""
        objects = [item for item in record.objects if item.rle is not None]
        regions = [item for item in record.annotations if item.ignored and item.rle is not None]
        rles = [item.rle for item in objects + regions if item.rle is not None]
        boxes, patches = [torch.zeros((0, 4), dtype=torch.int64)], []
        for start in range(0, len(rles), CHUNK):
            masks = rle_api.decode(rles[start : start + CHUNK], record.size)
            boxes.append(mask_boxes(masks).long())
            for mask, (x0, y0, x1, y1) in zip(masks, boxes[-1].tolist(), strict=True):
                patches.append(mask[y0:y1, x0:x1].clone())
        labels = torch.tensor([item.label for item in objects], dtype=torch.int64)
        scores = torch.tensor([float(item.extra.get("quality", 1.0)) for item in objects])
        return cls(record.size, labels, scores, torch.cat(boxes), tuple(patches))

    @property
    def nbytes(self) -> int:
        """Memory of the masks."""
        return sum(patch.numel() for patch in self.patches)

    def crop(self, top: int, left: int, height: int, width: int) -> Instances:
        """The objects that overlap a window, with masks of the window's size.

        `ignore` is None if the image has no region to ignore, else (height, width).
        """
        x0, y0, x1, y1 = (self.boxes - torch.tensor([left, top, left, top])).unbind(1)
        reaches = (x0 < width) & (x1 > 0) & (y0 < height) & (y1 > 0)
        rows = reaches.nonzero()[:, 0].tolist()
        masks = torch.zeros((len(rows), height, width), dtype=torch.bool)
        for mask, row in zip(masks, rows, strict=True):
            ax, ay = max(0, int(x0[row])), max(0, int(y0[row]))
            bx, by = min(width, int(x1[row])), min(height, int(y1[row]))
            mask[ay:by, ax:bx] = self.patches[row][ay - y0[row] : by - y0[row], ax - x0[row] : bx - x0[row]]
        count = sum(row < len(self.labels) for row in rows)
        has_regions = len(self.patches) > len(self.labels)
        return Instances(
            size=(height, width),
            labels=self.labels[rows[:count]],
            scores=self.scores[rows[:count]],
            masks=masks[:count],
            ignore=masks[count:].any(0) if has_regions else None,
        )
