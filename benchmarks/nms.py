"""Suppression of masks: Matrix NMS and greedy NMS as matrix products, beside pairs one by one.

    python -m benchmarks.nms [--device cuda] [--out FILE]

Masks of 160 x 160: 100 and 500 of 20 classes, and 300 of one class. The other side takes IoUs of run-length
codes from pycocotools, class by class, and loops over masks; the run ends with an error if scores differ.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

import numpy as np
import torch
from pycocotools import mask as mask_api
from torch import Tensor

from benchmarks.bench import Bench, main_of
from benchmarks.scenes import ellipses
from wssis.data import rle
from wssis.ops.nms import mask_nms, matrix_nms

SIDE = 160
SIGMA = 2.0
LOOP_ROUNDS = 3


def pairwise(masks: Tensor, labels: Tensor) -> np.ndarray:
    """IoU (N, N) of masks of one class, 0 elsewhere."""
    codes = rle.encode(masks)
    iou = np.zeros((len(codes), len(codes)))
    for label in labels.unique().tolist():
        rows = (labels == label).nonzero()[:, 0].tolist()
        some = [codes[row] for row in rows]
        iou[np.ix_(rows, rows)] = mask_api.iou(some, some, [0] * len(some))
    return iou


def matrix_loop(masks: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
    """Matrix NMS (Gaussian), a mask after the other."""
    iou, decayed = pairwise(masks, labels), scores.clone()
    worst = [max(iou[:i, i], default=0.0) for i in range(len(iou))]
    for j in range(len(iou)):
        for i in range(j):
            if labels[i] == labels[j]:
                factor = np.exp(SIGMA * (worst[i] ** 2 - iou[i, j] ** 2))
                decayed[j] = min(float(decayed[j]), float(scores[j]) * float(factor))
    return decayed


def greedy_loop(masks: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
    """Greedy NMS, the kept masks one after the other, their overlap with all that follow."""
    keep = torch.ones(len(masks), dtype=torch.bool)
    areas = masks.flatten(1).sum(1)
    for row in range(len(masks)):
        if not keep[row]:
            continue
        for later in range(row + 1, len(masks)):
            if keep[later] and labels[later] == labels[row]:
                both = (masks[row] & masks[later]).sum()
                keep[later] = both / (areas[row] + areas[later] - both) <= 0.5
    return keep


def candidates(count: int, classes: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Masks with near copies among them, as cells that found the same object have; scores descend."""
    found = ellipses(count, (side, side), classes, large=1.0)
    copies = torch.arange(count) % 3 > 0  # two of three are a neighbor's mask, moved by a pixel
    source = torch.arange(count) // 3 * 3
    masks, labels = found.get_masks()[source], found.labels[source]
    masks[copies] = masks[copies].roll(1, 2)
    masks[:, 0, 0] = True  # none is empty
    return masks, labels, torch.linspace(0.9, 0.1, count)


def check(ours: Tensor, plain: Tensor) -> float:
    """Largest difference of a score.

    Raises:
        RuntimeError: it is more than rounding.
    """
    off = float((ours.cpu().float() - plain.float()).abs().max())
    if off > 1e-4:
        raise RuntimeError(f"the loop disagrees: scores differ by {off:.2g}")
    return off


def run(bench: Bench, given: argparse.Namespace) -> None:
    side = SIDE // 4 if bench.tiny else SIDE
    cases = [(100, 20), (500, 20), (300, 1)]
    for count, classes in [(40, 5), (30, 1)] if bench.tiny else cases:
        inputs = candidates(count, classes, side)
        masks, labels, scores = (value.to(bench.device) for value in inputs)
        fast, plain = partial(matrix_nms, masks, labels, scores), partial(matrix_loop, *inputs)
        name = f"{count} masks, {'one class' if classes == 1 else f'{classes} classes'}"
        bench.notes[f"Matrix NMS, {name}: largest difference"] = check(fast(), plain())
        row = bench.compare(f"Matrix NMS, {name}", {"wssis": fast, "pairs": plain}, others=LOOP_ROUNDS)[0]
        if (count, classes) == (500, 20):
            bench.bar("Matrix NMS of 500 masks, 20 classes, ms", 60, row.time.median)
        if classes == 1:
            greedy, one_by_one = partial(mask_nms, masks, labels, scores), partial(greedy_loop, *inputs)
            bench.notes[f"greedy NMS, {name}: largest difference"] = check(greedy(), one_by_one())
            ways = {"wssis": greedy, "pairs": one_by_one}
            kept = bench.compare(f"greedy NMS, {name}", ways, others=LOOP_ROUNDS)[0]
            bench.bar("Matrix NMS of 300 masks of one class, ms", 160, row.time.median)
            bench.bar("greedy NMS of 300 masks of one class, ms", 160, kept.time.median)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return main_of("nms", __doc__, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
