"""Images to instances with a trained network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from wssis.data.images import read_image
from wssis.data.records import CocoData
from wssis.data.transforms import resize_image
from wssis.errors import InputError
from wssis.inference.decode import decode
from wssis.instances import Instances
from wssis.models.raw_maps import RawMaps
from wssis.models.solov2 import SOLOv2, padded_size
from wssis.settings import DecodeSettings, ResizeSettings


def counted_pixels(size: tuple[int, int], resize: ResizeSettings) -> int:
    """Pixels of an image that size limits count: its own, or those of the network input.

    The network input, scaled and padded to multiples of 32, counts where it has more than twice as many
    pixels: an image of 1 x 1,000,000 px needs as much memory as one of 32 x 1,000,000.

    Args:
        size: (H, W) of the image. resize: the network's scale.
    """
    own, padded = math.prod(size), math.prod(padded_size([resize.size(*size)]))
    return padded if padded > 2 * own else own


def check_pixels(size: tuple[int, int], resize: ResizeSettings, most: int, where: str | Path) -> int:
    """`counted_pixels` of an image.

    Raises:
        InputError: they are more than `most`.
    """
    counted = counted_pixels(size, resize)
    if counted > most:
        height, width = size
        if counted > height * width:
            found = (
                f"{height} x {width} px (height x width), scaled and padded to {counted / 1e6:.3g} megapixels"
            )
        else:
            found = f"{counted / 1e6:.3g}"
        raise InputError(
            f"expected an image of at most {most / 1e6:g} megapixels, found {found}",
            where=where,
            remedy="Cut it into tiles",
        )
    return counted


class Predictor:
    """A SOLOv2 with its scale and its thresholds.

    What is found on an image does not depend on the images given with it: padding would change it all over
    (GroupNorm and coordinates look at the whole input), so only images of one padded size go together.

    Args:
        model: in evaluation mode.
        resize: the scale that the network was trained at.
        settings: thresholds of decoding.
        batch_size: images a network pass, at most.
        score: minimum score of an instance, 0 to 1; 0 keeps all, which AP needs.

    Attributes:
        left_out: instances with at least this score that `max_detections` has cut so far, over all images.

    Example:
        >>> from wssis.settings import SOLOv2Settings
        >>> model = SOLOv2(SOLOv2Settings(pretrained=False), num_classes=2)  # or of `load_model`
        >>> predictor = Predictor(model, ResizeSettings(), DecodeSettings(), score=0.5)
        >>> [found] = predictor.predict([torch.zeros((3, 60, 90), dtype=torch.uint8)])
        >>> found.get_masks().shape[1:]
        torch.Size([60, 90])
    """

    def __init__(
        self,
        model: SOLOv2,
        resize: ResizeSettings,
        settings: DecodeSettings,
        batch_size: int = 8,
        score: float = 0.0,
    ) -> None:
        self.model, self.resize, self.settings, self.batch_size = model.eval(), resize, settings, batch_size
        self.score, self.left_out = score, 0

    def from_score(self, score: float) -> Predictor:
        """The same predictor with another minimum score."""
        return Predictor(self.model, self.resize, self.settings, self.batch_size, score)

    @torch.inference_mode()
    def raw(self, images: Sequence[Tensor]) -> RawMaps:
        """Raw maps of uint8 (3, H, W) images, brought to the network's scale."""
        return self.model(self.model.preprocess([resize_image(image, self.resize) for image in images]))

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor]) -> list[Instances]:
        """Instances with masks of each image's own size, best score first, for uint8 (3, H, W) images."""
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        results: dict[int, Instances] = {}
        for rows in self._batches(sizes):
            raw = self.raw([images[row] for row in rows])
            for place, row in enumerate(rows):
                size = sizes[row]
                inside = self.resize.size(*size)
                results[row], cut = decode(raw, place, inside, size, self.settings, self.score)
                self.left_out += cut
        return [results[row] for row in range(len(images))]

    def predict_dataset(
        self, data: CocoData, on_image: Callable[[int, int], None] = lambda done, total: None
    ) -> dict[int, Instances]:
        """Instances of every image of `data` by image id; `on_image` is called with (done, total)."""
        results: dict[int, Instances] = {}
        for rows in self._batches([record.size for record in data.images]):
            records = [data.images[row] for row in rows]
            images = [read_image(data.image_dir, r.file_name, r.size) for r in records]
            for record, instances in zip(records, self.predict(images), strict=True):
                results[record.id] = instances
            on_image(len(results), len(data.images))
        return {record.id: results[record.id] for record in data.images}

    def _batches(self, sizes: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
        """Numbers of images of (H, W) `sizes`, in groups of at most `batch_size` of one padded size."""
        groups: dict[tuple[int, int], list[int]] = {}
        for row, size in enumerate(sizes):
            groups.setdefault(padded_size([self.resize.size(*size)]), []).append(row)
        for group in groups.values():
            for start in range(0, len(group), self.batch_size):
                yield group[start : start + self.batch_size]
