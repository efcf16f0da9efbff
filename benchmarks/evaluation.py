"""COCO's mask AP: pycocotools beside faster-coco-eval, where that is installed.

    python -m benchmarks.evaluation [--images 200] [--objects 20] [--out FILE]

Made truth of 240 x 320 pixels, 80 classes, and predictions near it, with wrong ones among them. The run ends
with an error if the figures differ by more than 1e-9.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.bench import Bench, main_of
from benchmarks.scenes import CLASSES, ellipses, numbered_classes, record_of
from wssis.data.records import CocoData
from wssis.evaluation.coco_ap import Backend, results_ap, to_coco_results
from wssis.instances import Instances

SIZE = (240, 320)
ROUNDS = 3


def made(images: int, objects: int, size: tuple[int, int]) -> tuple[CocoData, list[dict[str, Any]]]:
    """Truth and result records."""
    categories, records, results = numbered_classes(), [], []
    for index in range(images):
        truth = ellipses(objects, size, CLASSES, seed=index)
        records.append(record_of(truth, index, f"{index}.png"))
        generator = torch.Generator().manual_seed(index)
        moved = truth.get_masks().roll((index % 4, index % 3), (1, 2))
        wrong = torch.rand(objects, generator=generator) < 0.2
        labels = torch.where(wrong, (truth.labels + 1) % CLASSES, truth.labels)
        found = Instances(size, labels, masks=moved, scores=torch.rand(objects, generator=generator))
        results += to_coco_results(found, index, categories)
    return CocoData(categories, tuple(records), "."), results


def run(bench: Bench, given: argparse.Namespace) -> None:
    images, objects, size = (6, 4, (64, 64)) if bench.tiny else (given.images, given.objects, SIZE)
    truth, results = made(images, objects, size)
    backends: dict[str, Backend] = {"pycocotools": "pycocotools"}
    if find_spec("faster_coco_eval"):
        backends["faster-coco-eval"] = "faster"
    else:
        bench.notes["faster-coco-eval"] = "not installed"
    calls = {name: partial(results_ap, truth, results, 100, backend) for name, backend in backends.items()}
    scores = {name: call() for name, call in calls.items()}
    usual = scores["pycocotools"]
    for name, other in scores.items():
        if any(abs(usual[key] - other[key]) > 1e-9 for key in usual):
            raise RuntimeError(f"{name} says {other}, pycocotools {usual}")
    bench.notes["AP of both"] = round(usual["AP"], 4)
    bench.compare(f"{images} images, {objects} objects each", calls, ROUNDS, work=images)


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--objects", type=int, default=20)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return main_of("evaluation", __doc__, run, arguments, extend)


if __name__ == "__main__":
    sys.exit(main())
