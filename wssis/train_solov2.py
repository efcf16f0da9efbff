"""Training of SOLOv2: teacher, student and strong-only are the same call with other data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from wssis.data.coco import CocoData
from wssis.data.dataset import Batch, ShuffledPositions, TrainingImages, training_loader
from wssis.data.transforms import TrainTransform
from wssis.losses import solov2_loss
from wssis.models.solov2 import SOLOv2
from wssis.resume import Resume
from wssis.settings import AugmentSettings, ResizeSettings, SOLOv2Settings, TrainSettings
from wssis.targets import assign
from wssis.trainer import Progress, TrainResult, fit, naming_images


def train_solov2(
    sources: Sequence[CocoData],
    settings: SOLOv2Settings,
    resize: ResizeSettings,
    augment: AugmentSettings,
    train: TrainSettings,
    seed: int,
    repeats: Sequence[int] | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
    snapshots: Sequence[float] = (),
    device: str | torch.device = "cpu",
    resume: Resume | None = None,
) -> TrainResult:
    """Train a SOLOv2 on the masks in `sources`.

    Args:
        sources: annotation files with masks and ignore regions; all of the same categories.
        settings, resize, augment, train: see those classes.
        seed: of weights, order and augmentation.
        repeats: how often a pass shows the images of each source; default once.
        on_step: called after each step.
        snapshots: shares of the iterations at which a copy is kept (for the refiner's training).
        device: where the network lies.
        resume: where the training's state is kept, and gone on from if there is one.

    Raises:
        NonFiniteLoss: names the step and its images.
        TrainingStopped: `resume` was asked to stop.
    """
    torch.manual_seed(seed)
    # channels_last: 1.2 to 1.3 times the speed on a CPU (docs/results.md), more on a GPU's tensor cores.
    model = SOLOv2(settings, sources[0].num_classes).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = TrainingImages(sources, TrainTransform(resize, augment), seed)
    times = [
        count
        for source, count in zip(sources, repeats or [1] * len(sources), strict=True)
        for _ in source.images
    ]
    start = resume.step if resume is not None else 0
    loader = training_loader(images, times, train.batch_size, train.iterations, train.workers, start)
    order = ShuffledPositions(times, train.batch_size, train.iterations, seed)
    with naming_images(lambda step: [images.items[index][1].id for _, index in order.at(step - 1)]):
        return fit(model, loader, solov2_batch_loss, train, on_step, snapshots, resume=resume)


def solov2_batch_loss(model: nn.Module, batch: Batch, bf16: bool | None = None) -> dict[str, Tensor]:
    """Loss terms `category` and `mask` of one batch.

    Args:
        bf16: whether the network runs in bfloat16 where autocast lets it (losses never do); None: on a GPU
            that has it, not on a CPU.
    """
    assert isinstance(model, SOLOv2)
    images, instances, _ = batch
    settings = model.settings
    inputs = model.preprocess(images)
    if bf16 is None:
        bf16 = inputs.is_cuda and torch.cuda.is_bf16_supported()
    with torch.autocast(inputs.device.type, torch.bfloat16) if bf16 else nullcontext():
        raw = model(inputs)
    # On the host, where the objects are: a GPU is busy with the network meanwhile and waits for nothing.
    targets = assign(
        instances,
        raw.grids,
        settings.ranges,
        raw.image_size,
        (raw.features.shape[2], raw.features.shape[3]),
        model.num_classes,
        shared="all" if settings.parity else "nearest",
        soft=not settings.parity,
    )
    return solov2_loss(raw, targets.to(inputs.device))
