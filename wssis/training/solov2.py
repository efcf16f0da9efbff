"""Training of SOLOv2: teacher, student and strong-only are the same call with other data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wssis.data.dataset import Batch, ShuffledPositions, TrainingImages, training_loader
from wssis.data.records import CocoData
from wssis.data.transforms import TrainTransform
from wssis.models.solov2 import SOLOv2, padded_size
from wssis.settings import AugmentSettings, MixSettings, ResizeSettings, SOLOv2Settings, TrainSettings
from wssis.training.losses import solov2_loss
from wssis.training.state import Resume
from wssis.training.target_assignment import Targets, assign
from wssis.training.trainer import Progress, TrainResult, fit, naming_images


def train_solov2(
    sources: Sequence[CocoData],
    settings: SOLOv2Settings,
    resize: ResizeSettings,
    augment: AugmentSettings,
    train: TrainSettings,
    seed: int,
    guessed: Sequence[CocoData] = (),
    mix: MixSettings | None = None,
    initial: nn.Module | None = None,
    on_start: Callable[[list[str]], None] = lambda unfitting: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
    snapshots: Sequence[float] = (),
    device: str | torch.device = "cpu",
    resume: Resume | None = None,
) -> TrainResult:
    """Train a SOLOv2 on drawn masks and pseudo-labels.

    Args:
        sources: annotation files with drawn masks and ignore regions; all of the same categories.
        settings, resize, augment, train: see those classes.
        seed: of weights, order and augmentation.
        guessed: annotation files with pseudo-labels, of the same categories.
        mix: how `sources` and `guessed` are mixed; None: each image once a pass, all masks alike.
        initial: a network to copy fitting weights from (`take_weights`); None: start from the backbone's.
        on_start: called with the names of the weights that `initial` does not have.
        on_step: called after each step.
        snapshots: shares of the iterations at which a copy is kept (for the refiner's training).
        device: of the network.
        resume: where the state is saved, and restored from if there is one.

    Raises:
        NonFiniteLoss: names the step and its images.
        TrainingStopped: `resume` was asked to stop.

    Example:
        >>> from wssis.data.synthetic import generate
        >>> data, _ = generate("scenes", n_train=4, n_val=1)
        >>> settings, steps = SOLOv2Settings(pretrained=False), TrainSettings(iterations=2, batch_size=2)
        >>> result = train_solov2([data], settings, ResizeSettings(), AugmentSettings(), steps, seed=0)
        >>> type(result.model).__name__
        'SOLOv2'
    """
    mix = mix or MixSettings()
    torch.manual_seed(seed)
    # channels_last: 1.2 to 1.3 times the speed on a CPU (docs/results.md), more on a GPU's tensor cores.
    model = SOLOv2(settings, sources[0].num_classes).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if initial is not None:
        on_start(take_weights(model, initial))
    drawn = sum(len(source.images) for source in sources)
    # Samples: drawn images first, so that the order knows which are which.
    transform = TrainTransform(resize, augment, sources[0].class_names)
    images = TrainingImages([*sources, *guessed], transform, seed, drawn)
    order = ShuffledPositions(
        len(images),
        train.batch_size,
        train.iterations,
        seed,
        start=resume.step if resume is not None else 0,
        accumulate=train.accumulate,
        drawn=drawn,
        drawn_share=mix.drawn_share,
        drawn_end=mix.drawn_end,
    )
    loader = training_loader(images, order, train.workers)
    with naming_images(lambda step: [images.items[index][1].id for _, index in order.at(step - 1)]):
        return fit(
            model,
            loader,
            SOLOv2Objective(quality_power=mix.quality_power),
            train,
            on_step,
            snapshots,
            resume=resume,
        )


@torch.no_grad()
def take_weights(model: nn.Module, initial: nn.Module) -> list[str]:
    """Copy parameters and buffers of `initial` to those of `model` that have the same name and shape.

    Returns:
        names of the parameters and buffers of `model` that keep their own values.
    """
    given = initial.state_dict()
    kept = []
    for name, own in model.state_dict().items():
        if name in given and given[name].shape == own.shape:
            own.copy_(given[name])
        else:
            kept.append(name)
    return kept


@dataclass(frozen=True)
class SOLOv2Objective:
    """Loss terms `category` and `mask` of batches that may come in parts.

    Attributes:
        bf16: whether the network runs in bfloat16 where autocast lets it (losses never do); None: on a GPU
            that has it and does not emulate it, not on a CPU.
        quality_power: see `assign`.
    """

    bf16: bool | None = None
    quality_power: float = 0.0

    def prepare(self, model: nn.Module, part: Batch) -> tuple[tuple[list[Tensor], Targets], Sequence[float]]:
        """Images and targets, the number of positive cells, and the sum of the weights of positive pairs.

        Targets are made on the host, where the objects are, while a GPU is busy with the part before.
        """
        assert isinstance(model, SOLOv2)
        # Targets are made for the padded size that the network will see.
        images, instances, _ = part
        settings = model.settings
        height, width = padded_size([(image.shape[1], image.shape[2]) for image in images])
        targets = assign(
            instances,
            settings.grid_sizes(height, width),
            settings.ranges,
            (height, width),
            (height // settings.mask_stride, width // settings.mask_stride),
            model.num_classes,
            shared="all" if settings.parity else "nearest",
            soft=not settings.parity,
            quality_power=self.quality_power,
        )
        return (images, targets), (targets.num_cells, targets.num_pairs)

    def share(
        self, model: nn.Module, prepared: tuple[list[Tensor], Targets], counts: Sequence[float]
    ) -> dict[str, Tensor]:
        """See `Objective.share`."""
        assert isinstance(model, SOLOv2)
        images, targets = prepared
        inputs = model.preprocess(images)  # (B, 3, H, W)
        bf16 = self.bf16
        if bf16 is None:
            bf16 = inputs.is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
        with torch.autocast(inputs.device.type, torch.bfloat16) if bf16 else nullcontext():
            raw = model(inputs)
        cells, pairs = counts
        return solov2_loss(raw, targets.to(inputs.device), cells=cells, pairs=pairs)


def solov2_batch_loss(model: nn.Module, batch: Batch, bf16: bool | None = None) -> dict[str, Tensor]:
    """Loss terms of one whole batch, see `SOLOv2Objective`."""
    objective = SOLOv2Objective(bf16)
    return objective.share(model, *objective.prepare(model, batch))
