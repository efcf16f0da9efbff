"""Training samples from one or more annotation files, in an order fixed by a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from wssis.data.images import read_image
from wssis.data.mask_patches import MaskPatches
from wssis.data.records import CocoData, ImageRecord
from wssis.data.transforms import TrainTransform, paste_object
from wssis.distributed import parts_of, world
from wssis.errors import InputError
from wssis.instances import Instances

KEEP_BYTES = 1 << 30  # cache of decoded images and masks, shared by all processes of a training

Sample = tuple[Tensor, Instances, int]
Batch = tuple[list[Tensor], list[Instances], list[int]]


class TrainingImages(Dataset[Sample]):
    """Augmented samples; `dataset[(position, index)]` depends on the seed, the position and the image alone.

    Args:
        sources: annotation files with masks, concatenated.
        transform: see `TrainTransform`.
        seed: of all random choices.
        drawn: number of images with drawn masks, which come first; their objects are pasted into samples
            (`AugmentSettings.paste`; Ghiasi et al. 2021, arXiv 2012.07177).
    """

    def __init__(
        self,
        sources: Sequence[CocoData],
        transform: TrainTransform,
        seed: int,
        drawn: int = 0,
    ) -> None:
        self.items: list[tuple[str, ImageRecord]] = [
            (source.image_dir, record) for source in sources for record in source.images
        ]
        self.transform, self.seed = transform, seed
        self.drawn, self.paste = drawn, transform.augment.paste if drawn else 0.0
        self._kept: dict[int, tuple[Tensor, MaskPatches]] = {}
        self.room = KEEP_BYTES  # free bytes in the cache

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Sample of (position in training, image): uint8 (3, h, w), its objects, the image's id."""
        position, index = key
        record = self.items[index][1]
        image, patches = self._read(index)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed * 1_000_003 + position)
            window = self.transform.window(record.height, record.width)
            part = image[:, window.top : window.top + window.height, window.left : window.left + window.width]
            objects = patches.crop(window.top, window.left, window.height, window.width)
            part, objects = self.transform.warp(part, objects, window.size)
            for _ in range(int(self.paste + torch.rand(()).item()) if self.paste else 0):
                part, objects = self._paste(part, objects)
        return part, objects, record.id

    def _paste(self, image: Tensor, objects: Instances) -> tuple[Tensor, Instances]:
        """Put a random object of a random drawn image at a random place of a sample."""
        picture, patches = self._read(int(torch.randint(self.drawn, ())))
        if not len(patches.labels):
            return image, objects
        row = int(torch.randint(len(patches.labels), ()))
        x0, y0, x1, y1 = patches.boxes[row].tolist()
        whole = Instances(
            size=(y1 - y0, x1 - x0), labels=patches.labels[row : row + 1], masks=patches.patches[row][None]
        )
        size = self.transform.scaled(whole.size, self.transform.resize.factor(*picture.shape[1:]))
        piece, pasted = self.transform.warp(picture[:, y0:y1, x0:x1], whole, size)
        return paste_object(image, objects, piece, pasted)

    def _read(self, index: int) -> tuple[Tensor, MaskPatches]:
        """Image and masks, cached while there is room."""
        if index in self._kept:
            return self._kept[index]
        image_dir, record = self.items[index]
        found = (read_image(image_dir, record.file_name, record.size), MaskPatches.of(record))
        self.room -= found[0].numel() + found[1].nbytes
        if self.room > 0:
            self._kept[index] = found
        return found


class ShuffledPositions(Sampler[list[tuple[int, int]]]):
    """Batches of (position, index): pass after pass over shuffled images, fixed by the seed.

    With several processes or `accumulate`, yields this process's parts of each batch one by one.

    Args:
        count: number of images.
        batch_size: samples per batch over all processes.
        iterations: number of batches.
        seed: of the shuffles.
        start: first batch (to resume).
        accumulate: parts into which a process divides its share of a batch.
        drawn: number of images with drawn masks, which come first.
        drawn_share: share of the samples that are drawn images, 0 < share < 1; drawn and other images then
            have separate passes. None: one pass over all images, each once.
        drawn_end: share of the batches, the last ones, that have drawn images only; 0 <= share < 1.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        iterations: int,
        seed: int,
        start: int = 0,
        accumulate: int = 1,
        drawn: int = 0,
        drawn_share: float | None = None,
        drawn_end: float = 0.0,
    ) -> None:
        self.count, self.batch_size, self.iterations, self.seed = count, batch_size, iterations, seed
        self.start, self.accumulate = start, accumulate
        mixed = drawn_share is not None and 0 < drawn < count
        self.drawn, self.drawn_share = (drawn, drawn_share or 0.0) if mixed else (0, 0.0)
        self.mixed = (
            round((1 - drawn_end if mixed else 1) * iterations) * batch_size
        )  # positions before the end

    def __len__(self) -> int:
        return (self.iterations - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for keys in self._batches(self.start):
            yield from map(list, parts_of(keys, self.accumulate))

    def _batches(self, start: int) -> Iterator[list[tuple[int, int]]]:
        drawn = _Passes(0, self.drawn, self.seed, stream=1)
        others = _Passes(self.drawn, self.count - self.drawn, self.seed, stream=0)
        for batch in range(start, self.iterations):
            keys = []
            for position in range(batch * self.batch_size, (batch + 1) * self.batch_size):
                before = self._drawn_before(position)
                is_drawn = self._drawn_before(position + 1) > before
                keys.append((position, drawn[before] if is_drawn else others[position - before]))
            yield keys

    def _drawn_before(self, position: int) -> int:
        """Drawn samples before a position: spread evenly, and every one at the end of the training."""
        return math.floor(min(position, self.mixed) * self.drawn_share) + max(0, position - self.mixed)

    def at(self, batch: int) -> list[tuple[int, int]]:
        """The keys of one whole batch, 0 the first of the training."""
        return next(self._batches(batch))


class _Passes:
    """Images `first` to `first + size`, each pass in a new random order."""

    def __init__(self, first: int, size: int, seed: int, stream: int) -> None:
        self.first, self.size, self.seed = first, size, seed * 1_000_003 + (stream << 40)
        self.epoch, self.order = -1, torch.empty(0, dtype=torch.int64)

    def __getitem__(self, place: int) -> int:
        epoch, offset = divmod(place, self.size)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(self.seed + epoch)
            self.epoch, self.order = epoch, torch.randperm(self.size, generator=generator)
        return self.first + int(self.order[offset])


def collate(samples: list[Sample]) -> Batch:
    """Lists, since sizes differ: images, objects, image ids."""
    images, instances, ids = zip(*samples, strict=True)
    return list(images), list(instances), list(ids)


def training_loader(
    images: TrainingImages, sampler: ShuffledPositions, workers: int = 0
) -> DataLoader[Batch]:
    """Batches of `images` for a whole training; `workers` as of `batches`."""
    images.room = KEEP_BYTES // (max(1, workers) * world())  # each process keeps images of its own
    return batches(images, sampler, collate, workers)


def batches(
    samples: Dataset[Any], sampler: ShuffledPositions, collate: Callable[[list[Any]], Any], workers: int
) -> DataLoader[Any]:
    """The sampler's batches, collated; prefetched by `workers` processes, or read in this one if 0.

    An `InputError` of a sample is raised unchanged from any process.
    """
    return _Loader(
        _Collated(samples, collate),
        sampler=sampler,  # type: ignore[arg-type]
        batch_size=None,  # the sampler's keys come as batches
        num_workers=workers,
        collate_fn=_unchanged,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),  # overlaps the copy to the GPU with computation
        prefetch_factor=4 if workers else None,
    )


class _Collated(Dataset[Any]):
    """Whole batches by their keys; an `InputError` is returned as a value.

    A DataLoader worker would replace its message with a traceback.
    """

    def __init__(self, samples: Dataset[Any], collate: Callable[[list[Any]], Any]) -> None:
        self.samples, self.collate = samples, collate

    def __getitem__(self, keys: list[tuple[int, int]]) -> Any:
        try:
            return self.collate([self.samples[key] for key in keys])
        except InputError as error:
            return error


class _Loader(DataLoader[Any]):
    """Raises an `InputError` that arrives instead of a batch."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return map(_raised, super().__iter__())  # a generator would start the workers too late


def _raised(batch: Any) -> Any:
    if isinstance(batch, InputError):
        raise batch
    return batch


def _unchanged(batch: Any) -> Any:
    return batch
