"""Images to instances, end to end, beside torchvision's Mask R-CNN.

    python -m benchmarks.inference [--device cuda] [--model default|paper] [--batch N] [--side PIXELS]
                                   [--backbone NAME] [--amp] [--out FILE]

From uint8 images to masks of the image's size. Weights are random, so thresholds are set such that both bring
forth as many instances as they may (100 an image): decoding is at its dearest. `default` and `paper` as in
benchmarks.train_step; `paper` with one image.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks import maskrcnn, train_step
from benchmarks.bench import Bench, main_of
from benchmarks.scenes import scene, solov2
from wssis.inference.predictor import Predictor
from wssis.instances import Instances
from wssis.models.solov2 import SOLOv2
from wssis.settings import DecodeSettings, ResizeSettings

CANDIDATES = 500  # cells that pass the threshold, of an image, about


@torch.inference_mode()
def threshold_for(model: SOLOv2, image: Tensor) -> float:
    """The class probability that `CANDIDATES` (cell, class) pairs of an image exceed."""
    heat = model(model.preprocess([image])).category.sigmoid().flatten()
    return float(heat.topk(min(CANDIDATES, len(heat))).values[-1])


def under(device: str, amp: bool, call: Callable[[], list[Instances]]) -> list[Instances]:
    with torch.autocast(device, torch.bfloat16, enabled=amp):
        return call()


def run(bench: Bench, given: argparse.Namespace) -> None:
    settings, classes, side, size = train_step.setting(bench, given)
    size = given.batch or (1 if given.model == "paper" else size)
    images = [scene(side, seed)[0] for seed in range(size)]
    sizes = maskrcnn.object_sizes([scene(side, seed)[1] for seed in range(size)])
    ours = solov2(settings, classes, bench.device).eval()
    decode = DecodeSettings(score_threshold=threshold_for(ours, images[0]), keep_threshold=0.0)
    predictor = Predictor(ours, ResizeSettings(), decode, size)
    calls = {
        "wssis": partial(under, bench.device, given.amp, partial(predictor.predict, images)),
    }
    for name, peer in maskrcnn.peers(settings, classes, sizes, bench.tiny, bench.device, threshold=0).items():
        calls[name] = partial(under, bench.device, given.amp, partial(maskrcnn.predict, peer, images))
    bench.notes["instances"] = {name: sum(map(len, call())) for name, call in calls.items()}
    bench.notes["bf16"] = given.amp
    case = f"{given.model}, {settings.backbone}, {size} x {side}²"
    bench.compare(case, calls, work=size, others=train_step.SLOW_ROUNDS)


def extend(parser: argparse.ArgumentParser) -> None:
    train_step.extend(parser)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return main_of("inference", __doc__, run, arguments, extend)


if __name__ == "__main__":
    sys.exit(main())
