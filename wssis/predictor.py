"""Images to instances with a trained network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from wssis.data.coco import CocoData, ImageRecord
from wssis.data.images import read_image
from wssis.data.transforms import ResizeSettings
from wssis.decode import DecodeSettings, decode
from wssis.instances import Instances
from wssis.models.solov2 import SOLOv2
from wssis.rawmaps import RawMaps

Item = TypeVar("Item")


class Predictor:
    """A SOLOv2 with its scale and its thresholds.

    Args:
        model: in evaluation mode.
        resize: the scale that the network was trained at.
        settings: thresholds of decoding.
        batch_size: images a network pass; images of one size go together.
    """

    def __init__(
        self, model: SOLOv2, resize: ResizeSettings, settings: DecodeSettings, batch_size: int = 8
    ) -> None:
        self.model, self.resize, self.settings, self.batch_size = model.eval(), resize, settings, batch_size

    @torch.inference_mode()
    def raw(self, images: Sequence[Tensor]) -> RawMaps:
        """Raw maps of uint8 (3, H, W) images, brought to the network's scale."""
        return self.model(self.model.preprocess([self.resize.image(image) for image in images]))

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor]) -> list[Instances]:
        """Instances with masks of each image's own size, best score first, for uint8 (3, H, W) images."""
        results = []
        for group in groups_of(list(images), self.batch_size):
            raw = self.raw(group)
            for row, image in enumerate(group):
                size = (int(image.shape[1]), int(image.shape[2]))
                results.append(decode(raw, row, self.resize.size(*size), size, self.settings))
        return results

    def predict_dataset(
        self, data: CocoData, on_image: Callable[[int, int], None] = lambda done, total: None
    ) -> dict[int, Instances]:
        """Instances of every image of `data` by image id; `on_image` is told (done, total)."""
        results: dict[int, Instances] = {}
        for records in groups_of(by_size(data.images), self.batch_size):
            images = [read_image(data.image_dir, r.file_name, (r.height, r.width)) for r in records]
            for record, instances in zip(records, self.predict(images), strict=True):
                results[record.id] = instances
            on_image(len(results), len(data.images))
        return {record.id: results[record.id] for record in data.images}


def by_size(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Records with like sizes beside one another, so that batches need little padding."""
    return sorted(records, key=lambda record: (record.height, record.width, record.id))


def groups_of(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Consecutive groups of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
