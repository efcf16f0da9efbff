"""The refiner on the objects of an image: in batches, beside one by one, and the crops alone.

    python -m benchmarks.refiner [--device cuda] [--crops 1 8 64] [--network paper default] [--out FILE]

`paper`: R-101, crops of 256 px, 80 classes, an image of 640 x 640. `default`: EfficientNet-Lite0, 64 px, 4
classes, 96 x 96. Random weights. The run ends with an error if both ways give other masks.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor

import wssis.pseudo_labels.labeler
from benchmarks.bench import Bench, main_of
from benchmarks.scenes import CLASSES, SIDE, TINY_SIDE, ellipses, paper_refiner, preset, refiner_of, scene
from wssis.models.refiner import Refiner
from wssis.ops.crops import crop_windows, cut, cut_each, point_maps
from wssis.pseudo_labels.labeler import crops_at_once, refine

SLOW_ROUNDS = 3
Objects = tuple[Tensor, Tensor, Tensor]  # rough masks (N, H, W), points (N, 2), labels (N,)


def objects_of(count: int, side: int, classes: int, device: str) -> Objects:
    """Rough masks, each with its point."""
    found = ellipses(count, (side, side), classes, large=0.7)
    masks = found.get_masks().clone()
    masks[:, side // 2, side // 2] |= ~masks.flatten(1).any(1)
    y, x = zip(*(mask.nonzero().float().mean(0).tolist() for mask in masks), strict=True)
    points = torch.tensor([x, y]).T + 0.5
    return masks.float().to(device), points.to(device), found.labels.to(device)


@torch.inference_mode()
def batched(refiner: Refiner, image: Tensor, objects: Objects) -> Tensor:
    """What labeling calls."""
    masks, points, labels = objects
    return refine(refiner, image, lambda rows: masks[rows], points, labels)[0]


def one_by_one(refiner: Refiner, image: Tensor, objects: Objects) -> Tensor:
    """The same, a crop a pass."""
    with patch.object(wssis.pseudo_labels.labeler, "crops_at_once", lambda *given: 1):
        return batched(refiner, image, objects)


@torch.inference_mode()
def crops_alone(refiner: Refiner, image: Tensor, objects: Objects) -> None:
    """What is cut and drawn for the network, without it."""
    masks, points, _ = objects
    settings, rows = refiner.settings, torch.arange(len(points), device=points.device)
    for part in rows.split(crops_at_once(refiner, image)):
        inside = masks[part] > 0.5
        windows = crop_windows(inside, points[part], settings.scale, settings.smallest)
        point_maps(points, part, windows, settings.crop, settings.sigma)
        cut(image, windows, settings.crop)
        cut_each(inside, windows, settings.crop)


def networks(bench: Bench) -> dict[str, tuple[Refiner, int]]:
    """Refiners and the side of the image that each is asked about."""
    default = replace(preset("shapes").refiner.model, pretrained=False)
    return {
        "default": (refiner_of(default, 4, bench.device), 96),
        "paper": (paper_refiner(bench.tiny, bench.device), TINY_SIDE if bench.tiny else SIDE),
    }


def run(bench: Bench, given: argparse.Namespace) -> None:
    for name, (refiner, side) in networks(bench).items():
        if name not in given.network:
            continue
        image = refiner.normalize(scene(side)[0].to(bench.device))
        for count in given.crops:
            objects = objects_of(count, side, min(refiner.num_classes, CLASSES), bench.device)
            ways = {
                "batched": partial(batched, refiner, image, objects),
                "one by one": partial(one_by_one, refiner, image, objects),
            }
            off = float((ways["batched"]() - ways["one by one"]()).abs().max())
            if off > 1e-3:
                raise RuntimeError(f"one by one gives other masks: {off:.2g}")
            bench.notes[f"{name}, {count} crops: largest difference"] = off
            rounds = SLOW_ROUNDS if name == "paper" else None
            ratio = bench.compare(f"{name}, {count} crops", ways, rounds)[1].ratio.median
            alone = bench.compare(
                f"{name}, {count} crops, without the network",
                {"crops": partial(crops_alone, refiner, image, objects)},
            )
            if count == 8:
                bench.bar(f"{name}, 8 crops: one by one / batched", 1.2, ratio, most=False)
                bench.bar(f"{name}, a crop without the network, ms", 8, alone[0].time.median / count)


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--crops", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--network", nargs="+", choices=("default", "paper"), default=["default", "paper"])


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return main_of("refiner", __doc__, run, arguments, extend)


if __name__ == "__main__":
    sys.exit(main())
