"""A training step (forward, targets, loss, backward, clip, optimizer) beside torchvision's Mask R-CNN.

    python -m benchmarks.train_step [--device cuda] [--model default|paper] [--batch N] [--side PIXELS]
                                    [--backbone NAME] [--amp] [--compile] [--out FILE]

Same timm backbone, same drawn scenes, AdamW; Mask R-CNN with torchvision's heads and with smaller ones.
`default`: the default model, 8 images of 96 x 96, 4 classes. `paper`: SOLOv2 of the paper (R-50 unless
said), 2 images of 640 x 640, 80 classes. `--amp`: bf16 autocast of both; `--compile`: a further row, this
project's network through torch.compile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import maskrcnn
from benchmarks.bench import Bench, main_of
from benchmarks.scenes import CLASSES, SIDE, TINY_SIDE, default_settings, paper_settings, scene, solov2
from wssis.data.dataset import Batch
from wssis.settings import SOLOv2Settings, TrainSettings
from wssis.training.solov2 import solov2_batch_loss
from wssis.training.trainer import build_optimizer

SLOW_ROUNDS = 3
Loss = Callable[[nn.Module, Batch], dict[str, Tensor]]


class Step:
    """One optimizer step a call, on the same batch."""

    def __init__(self, model: nn.Module, loss: Loss, batch: Batch, amp: bool, compiled: bool = False) -> None:
        self.model, self.loss, self.batch, self.amp = model.train(), loss, batch, amp
        self.optimizer = build_optimizer(model, TrainSettings(learning_rate=1e-4))
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.kind = self.parameters[0].device.type
        if compiled:
            model.forward = torch.compile(model.forward)  # type: ignore[method-assign]

    def __call__(self) -> float:
        with torch.autocast(self.kind, torch.bfloat16, enabled=self.amp):
            total = torch.stack([value.float() for value in self.loss(self.model, self.batch).values()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.parameters, 10.0)
        self.optimizer.step()
        return float(total.detach())


def setting(bench: Bench, given: argparse.Namespace) -> tuple[SOLOv2Settings, int, int, int]:
    """Settings, classes, side of the images in pixels, images a batch."""
    if given.model == "paper":
        settings, classes, side, batch = paper_settings(bench.tiny), CLASSES, SIDE, 2
    else:
        settings, classes, side, batch = default_settings(), 4, 96, 8
    if bench.tiny:
        classes, side, batch = 4, TINY_SIDE // 2, 2
    if given.backbone:
        settings = replace(settings, backbone=given.backbone)
    return settings, classes, given.side or side, given.batch or batch


def run(bench: Bench, given: argparse.Namespace) -> None:
    settings, classes, side, size = setting(bench, given)
    samples = [scene(side, seed) for seed in range(size)]
    batch: Batch = ([image for image, _ in samples], [objects for _, objects in samples], list(range(size)))
    sizes = maskrcnn.object_sizes(batch[1])
    make = partial(solov2, settings, classes, bench.device)
    ours = partial(solov2_batch_loss, bf16=False)  # `Step` has its own autocast
    models = {"wssis": Step(make(), ours, batch, given.amp)}
    if given.compile:
        models["wssis, compiled"] = Step(make(), ours, batch, given.amp, compiled=True)
    peers = maskrcnn.peers(settings, classes, sizes, bench.tiny, bench.device)
    for name, peer in peers.items():
        models[name] = Step(peer, maskrcnn.loss_of, batch, given.amp)
    bench.notes["parameters"] = {name: maskrcnn.parameters(step.model) for name, step in models.items()}
    bench.notes["bf16"] = given.amp
    case = f"{given.model}, {settings.backbone}, {size} x {side}²"
    rows = bench.compare(case, models, work=size, others=SLOW_ROUNDS)
    for name, row in zip(peers, rows[-len(peers) :], strict=True):
        bench.bar(f"{given.model}: {name} / wssis", 1, row.ratio.median, most=False)


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=("default", "paper"), default="default")
    parser.add_argument("--batch", type=int, help="images a step")
    parser.add_argument("--side", type=int, help="pixels")
    parser.add_argument("--backbone", help="a timm name")
    parser.add_argument("--amp", action="store_true", help="bf16 autocast")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return main_of("train_step", __doc__, run, arguments, extend)


if __name__ == "__main__":
    sys.exit(main())
