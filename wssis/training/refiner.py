"""Training of MaskRefineNet: crops round rough masks of earlier teachers, true masks as targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from wssis.data.dataset import ShuffledPositions, batches
from wssis.data.images import read_image
from wssis.data.records import CocoData
from wssis.models.refiner import Refiner
from wssis.ops.crops import crop_windows, cut, cut_each, point_maps
from wssis.settings import RefinerSettings, TrainSettings
from wssis.training.objective import MeanOfParts
from wssis.training.state import Resume
from wssis.training.trainer import Progress, fit, naming_images

Crops = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # images, rough, points, targets, labels


@dataclass(frozen=True)
class RoughImage:
    """Rough masks of one strong image, beside the true ones.

    Attributes:
        image: float32 (3, H, W), normalized.
        labels, points: (N,), (N, 2) xy pixels.
        rough, truth: (N, H, W) bool.
    """

    image: Tensor
    labels: Tensor
    points: Tensor
    rough: Tensor
    truth: Tensor


class RefinerCrops(Dataset[Crops]):
    """`dataset[(position, index)]`: up to `crops` random crops of image `index`, normalized.

    Args:
        truth: strong images with masks.
        rough: for each snapshot, annotations with the ids of `truth`, whose masks are rough and whose points
            are the prompts.
        refiner: gives its settings, and the mean and deviation of its encoder. It is not kept: processes that
            load crops cannot reach its GPU.
        crops: crops an image.
        seed: of all randomness.
        augment: strength of the random changes: of color, and of the crops' scale.
    """

    def __init__(
        self,
        truth: CocoData,
        rough: Sequence[CocoData],
        refiner: Refiner,
        crops: int,
        seed: int,
        augment: float = 1.0,
    ) -> None:
        by_id = [{record.id: record for record in source.images} for source in rough]
        self.truth = truth
        self.items = [
            (record, source[record.id])
            for source in by_id
            for record in truth.images
            if record.id in source and source[record.id].objects
        ]
        self.settings = refiner.settings
        self.mean, self.std = refiner.encoder.mean.cpu(), refiner.encoder.std.cpu()
        self.crops, self.seed, self.augment = crops, seed, augment
        jitter = 0.3 * augment
        self.color = v2.ColorJitter(jitter, jitter, jitter)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> Crops:
        position, index = key
        record, rough_record = self.items[index]
        image = read_image(self.truth.image_dir, record.file_name, record.size)
        truth, rough = record.instances(), rough_record.instances()
        row_of = {int(i): row for row, i in enumerate(truth.get_ids())}
        rows = torch.tensor([row_of[int(i)] for i in rough.get_ids()])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed * 1_000_003 + position)
            shown = (self.color(image).float() - self.mean) / self.std
            sample = RoughImage(
                shown, rough.labels, rough.get_points(), rough.get_masks(), truth.get_masks()[rows]
            )
            return random_crops(sample, self.settings, self.crops, self.augment)


def random_crops(sample: RoughImage, settings: RefinerSettings, crops: int, augment: float = 1.0) -> Crops:
    """Crops of at most `crops` random objects: random scale, flips and quarter turns.

    With `augment` 0 every crop has the scale of prediction, with 1 that of `scale_range`, with 2 the range
    reaches twice as far.
    """
    picked = torch.randperm(len(sample.labels))[:crops]  # (n,)
    low, high = (max(1.0, settings.scale + augment * (end - settings.scale)) for end in settings.scale_range)
    scale = low + (high - low) * torch.rand(len(picked))
    windows = crop_windows(sample.rough[picked], sample.points[picked], scale, settings.smallest)  # (n, 4)
    shown = point_maps(sample.points, picked, windows, settings.crop, settings.sigma)  # (n, 2, S, S)
    images = cut(sample.image, windows, settings.crop)  # (n, 3, S, S)
    rough = cut_each(sample.rough[picked], windows, settings.crop)
    rough[torch.rand(len(picked)) < settings.hidden] = 0.5
    target = cut_each(sample.truth[picked], windows, settings.crop)  # (n, S, S)
    stack = torch.cat([images, rough[:, None], shown, target[:, None]], 1)  # (n, 3 + 1 + 2 + 1, S, S)
    # Turn and flip everything together.
    stack = torch.rot90(stack, int(torch.randint(4, ())), (2, 3))
    if torch.rand(()) < 0.5:
        stack = stack.flip(3)
    return stack[:, :3], stack[:, 3], stack[:, 4:6], stack[:, 6], sample.labels[picked]


def collate_crops(samples: list[Crops]) -> Crops:
    """One batch of the crops of several images."""
    images, rough, points, target, labels = (torch.cat(part) for part in zip(*samples, strict=True))
    return images, rough, points, target, labels


def refiner_loss(model: nn.Module, batch: Crops, dice_share: float = 0.5) -> dict[str, Tensor]:
    """`Refiner.loss` of a batch of crops."""
    device = next(model.parameters()).device
    *maps, labels = batch
    images, rough, points, target = (part.to(device, non_blocking=True) for part in maps)
    logits = model(images, rough, points, labels.tolist())  # (n, S, S)
    return Refiner.loss(logits, target, dice_share)


def train_refiner(
    truth: CocoData,
    rough: Sequence[CocoData],
    settings: RefinerSettings,
    train: TrainSettings,
    seed: int,
    crops: int = 4,
    on_step: Callable[[Progress], None] = lambda progress: None,
    device: str | torch.device = "cpu",
    dice_share: float = 0.5,
    augment: float = 1.0,
    snapshots: Sequence[float] = (),
    on_snapshot: Callable[[float, nn.Module], None] | None = None,
    resume: Resume | None = None,
) -> Refiner:
    """Train a refiner on the strong images.

    Args:
        truth: strong images with true masks.
        rough: rough masks of the same annotations from earlier teachers (as wrong as on unseen images).
        settings, train: see those classes; `train.batch_size` counts crops.
        seed: of weights, order and augmentation.
        crops: crops taken from one image; the batch holds batch_size / crops images.
        on_step: called after each step.
        device: where the network lies.
        dice_share: of Dice in the loss, see `refiner_loss`.
        augment: strength of the random changes, see `RefinerCrops`.
        snapshots, on_snapshot, resume: see `fit`.

    Raises:
        ValueError: there is no object to learn from.
        NonFiniteLoss: names the step and its images.
        TrainingStopped: `resume` was asked to stop.
    """
    torch.manual_seed(seed)
    model = Refiner(settings, truth.num_classes).to(device)
    images = RefinerCrops(truth, rough, model, crops, seed, augment)
    if not len(images):
        raise ValueError("no strong image has an object: there is nothing to learn refining from")
    start = resume.step if resume is not None else 0
    per_batch = max(1, train.batch_size // crops)
    sampler = ShuffledPositions(len(images), per_batch, train.iterations, seed, start, train.accumulate)
    loader = batches(images, sampler, collate_crops, train.workers)
    loss = MeanOfParts(partial(refiner_loss, dice_share=dice_share), lambda crops: len(crops[0]))
    with naming_images(lambda step: [images.items[index][0].id for _, index in sampler.at(step - 1)]):
        result = fit(model, loader, loss, train, on_step, snapshots, on_snapshot, resume)
    assert isinstance(result.model, Refiner)
    return result.model
