"""Training samples a second: reading, cutting, augmenting; beside torchvision's way over whole images.

    python -m benchmarks.loading [--images 48] [--objects 7 100] [--workers 0 2] [--out FILE]

JPEG files of 640 x 480 with so many objects each, crops of 320 x 320. `first pass` reads files, `later` has
them in memory, as a data set that fits 1 GiB does. The plain side decodes every mask at full size and gives
image and masks to torchvision's transforms v2, which scale them whole and crop then.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks.bench import Bench, main_of
from benchmarks.scenes import CLASSES, ellipses, numbered_classes, record_of
from wssis.data import rle
from wssis.data.dataset import ShuffledPositions, TrainingImages, training_loader
from wssis.data.images import read_image
from wssis.data.records import CocoData
from wssis.data.transforms import TrainTransform
from wssis.settings import AugmentSettings, ResizeSettings

SIZE = (480, 640)
CROP, BATCH, ROUNDS = 320, 8, 3
SCALE = (0.75, 1.4)


def made(folder: Path, images: int, objects: int, size: tuple[int, int]) -> CocoData:
    """Smooth noise as JPEG, ellipses as masks."""
    rng, records = np.random.default_rng(0), []
    for index in range(images):
        noise = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((size[1], size[0])).save(folder / f"{index}.jpg", quality=90)
        records.append(record_of(ellipses(objects, size, CLASSES, seed=index), index, f"{index}.jpg"))
    return CocoData(numbered_classes(), tuple(records), str(folder))


def training_images(data: CocoData, crop: int) -> TrainingImages:
    """What training reads."""
    augment = AugmentSettings(crop=crop, scale=SCALE)
    return TrainingImages([data], TrainTransform(ResizeSettings(), augment), seed=0)


def pass_over(images: TrainingImages, workers: int) -> int:
    """Load every image about once, in batches; returns how many were."""
    size, batch = len(images), min(BATCH, len(images))
    loader = training_loader(images, ShuffledPositions(size, batch, size // batch, 0), workers)
    return sum(len(pictures) for pictures, _, _ in loader)


def first_pass(data: CocoData, crop: int, workers: int) -> int:
    """Nothing is in memory yet."""
    return pass_over(training_images(data, crop), workers)


def plain_pass(data: CocoData, crop: int) -> int:
    """torchvision's transforms over whole images and all their masks."""
    change = v2.Compose(
        [
            v2.ScaleJitter((max(data.images[0].size),) * 2, SCALE, antialias=True),
            v2.RandomCrop(crop, pad_if_needed=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.3, 0.3, 0.3),
        ]
    )
    for record in data.images:
        image = read_image(data.image_dir, record.file_name, record.size)
        masks = rle.decode([item.rle for item in record.objects if item.rle], record.size)
        _, turned = change(tv_tensors.Image(image), tv_tensors.Mask(masks.to(torch.uint8)))
        turned.flatten(1).any(1)
    return len(data.images)


def run(bench: Bench, given: argparse.Namespace) -> None:
    count, crop = (8, 64) if bench.tiny else (given.images, CROP)
    size = (96, 128) if bench.tiny else SIZE
    for objects in given.objects:
        with tempfile.TemporaryDirectory(prefix="wssis-loading-") as folder:
            data = made(Path(folder), count, objects, size)
            calls: dict[str, Callable[[], int]] = {}
            for workers in given.workers:
                calls[f"first pass, {workers} workers"] = partial(first_pass, data, crop, workers)
                kept = training_images(data, crop)
                pass_over(kept, 0)
                calls[f"later, {workers} workers"] = partial(pass_over, kept, workers)
            calls["torchvision's transforms"] = partial(plain_pass, data, crop)
            bench.compare(f"{count} images, {objects} objects each", calls, ROUNDS, work=count)
    bench.notes["CPU time"] = "of this process alone: with workers look at the wall time and images a second"


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--objects", type=int, nargs="+", default=[7, 100])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return main_of("loading", __doc__, run, arguments, extend)


if __name__ == "__main__":
    sys.exit(main())
