"""Settings of the method: plain dataclasses, separate from networks so that reading them imports no torch.

The first sentence of each attribute's description is its comment in params.yaml.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SOLOv2Settings:
    """The network: its shape, and how its maps are read.

    Attributes:
        backbone: a name that timm knows.
        pretrained: true (ImageNet), false, or a path to a state dict.
        frozen_stages: 0 trains all, 1 freezes the stem, n the stem and n - 1 stages.
        strides: backbone maps of the pyramid; the first is the stride of the masks.
        extra_level: append a map of twice the last stride (P6).
        fpn_channels, head_channels, head_depth, mask_channels: widths and depth of pyramid and heads.
        sources: the pyramid map that each level reads.
        cells: cell size of each level in pixels; or give grids.
        grids: cells on a side at each level, for every image size (the paper). Exactly one of cells and grids
            is given.
        ranges: range of sqrt(box width x height) in pixels that each level detects.
        parity: the paper's head and rules. No position term, hard targets, every claim on a cell kept, and
            points answered even where the mask does not contain the point.
    """

    backbone: str = "efficientnet_lite0"
    pretrained: bool | str = True
    frozen_stages: int = 2
    strides: tuple[int, ...] = (2, 4, 8, 16)
    extra_level: bool = False
    fpn_channels: int = 48
    head_channels: int = 64
    head_depth: int = 2
    mask_channels: int = 32
    sources: tuple[int, ...] = (1, 2, 3)
    cells: tuple[int, ...] = (4, 8, 16)
    grids: tuple[int, ...] = ()
    ranges: tuple[tuple[float, float], ...] = ((0, 20), (14, 40), (28, 4096))
    parity: bool = False

    def __post_init__(self) -> None:
        if bool(self.cells) == bool(self.grids):
            raise ValueError("give cells (pixels a cell) or grids (cells a side), and leave the other empty")
        if not len(self.sources) == len(self.ranges) == len(self.cells or self.grids):
            raise ValueError(
                f"sources ({len(self.sources)}), ranges ({len(self.ranges)}) and cells or grids "
                f"({len(self.cells or self.grids)}) must have a value a level each"
            )
        maps = len(self.strides) + self.extra_level
        if any(not 0 <= source < maps for source in self.sources):
            raise ValueError(f"sources must be 0 to {maps - 1}, the number of pyramid maps less one")
        if any(low >= high or low < 0 for low, high in self.ranges):
            raise ValueError("each of ranges must be [low, high] with 0 <= low < high")

    @property
    def mask_stride(self) -> int:
        """Input pixels a mask-feature pixel."""
        return self.strides[0]

    def grid_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each level for a padded input of this size."""
        if self.grids:
            return tuple((grid, grid) for grid in self.grids)
        return tuple((math.ceil(height / cell), math.ceil(width / cell)) for cell in self.cells)


@dataclass(frozen=True)
class RefinerSettings:
    """The refiner: its shape, and how crops are cut.

    Attributes:
        backbone, pretrained, frozen_stages, strides: as in model; strides start at 2 or 4.
        width: channels of the decoder.
        crop: side in pixels of a crop as the network sees it.
        scale: side of a crop relative to the rough mask's box, in prediction.
        scale_range: the same in training, drawn at random for each crop.
        smallest: minimum side of a crop in image pixels.
        sigma: of the points' Gaussians, in pixels of the crop.
        passes: how often prediction refines a mask. Later passes start from the mean of rough and refined.
        residual: add the rough mask to the logits, so training starts from "keep it".
        hidden: share of training crops without their rough mask. Rough masks of strong images are better than
            those to be refined, and a network that relies on them copies them.
        level: probability at which the outline is drawn. Below .5, because where the network is unsure, a
            pixel gained adds to the IoU more often than one lost.
    """

    backbone: str = "efficientnet_lite0"
    pretrained: bool | str = True
    frozen_stages: int = 0
    strides: tuple[int, ...] = (2, 4, 8, 16)
    width: int = 32
    crop: int = 64
    scale: float = 2.0
    scale_range: tuple[float, float] = (1.3, 3.0)
    smallest: float = 16.0
    sigma: float = 2.0
    passes: int = 2
    residual: bool = True
    hidden: float = 0.9
    level: float = 0.35

    def __post_init__(self) -> None:
        if self.crop < 16 or self.crop % max(self.strides):
            raise ValueError(f"crop must be at least 16 and a multiple of stride {max(self.strides)}")
        if not 1 <= self.scale_range[0] <= self.scale_range[1]:
            raise ValueError("scale_range must be [low, high] with 1 <= low <= high")
        if not 0 <= self.hidden < 1 or not 0 < self.level < 1:
            raise ValueError("hidden must be at least 0 and less than 1, level between 0 and 1")
        if self.scale < 1 or self.passes < 1 or self.sigma <= 0 or self.smallest < 4:
            raise ValueError("scale and passes must be at least 1, sigma above 0, smallest at least 4 pixels")


@dataclass(frozen=True)
class ResizeSettings:
    """The scale at which the network sees an image, in training and prediction.

    Attributes:
        scale: factor, used where short is 0.
        short: pixels of the resized short side; 0: use scale.
        long: limit in pixels for the long side where short is used.
    """

    scale: float = 1.0
    short: int = 0
    long: int = 1333

    def __post_init__(self) -> None:
        if not 0.1 <= self.scale <= 10:
            raise ValueError("scale must be between 0.1 and 10")
        if self.short < 0 or self.long < 32:
            raise ValueError("short must be 0 or more and long at least 32 (pixels)")

    def factor(self, height: int, width: int) -> float:
        """The factor for an image of this size."""
        if not self.short:
            return self.scale
        return min(self.short / min(height, width), self.long / max(height, width))

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of the network's input for an image of this size."""
        factor = self.factor(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes of training images.

    Attributes:
        crop: side of a random square in pixels, larger than most objects; 0: whole image.
        scale: range of the random scale, relative to the network's scale.
        flips: none | horizontal | all (flips and quarter turns, for scenes without an up).
        flip_pairs: pairs of class names that a flip turns into each other, such as [left_door, right_door].
        brightness, contrast, saturation: strength of the color jitter.
        hue: likewise, 0 to 0.5; costs more than the rest together.
        paste: number of drawn objects that are pasted into a sample on average.
    """

    crop: int = 96
    scale: tuple[float, float] = (0.75, 1.4)
    flips: str = "all"
    flip_pairs: tuple[tuple[str, str], ...] = ()
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.0
    paste: float = 0.0

    def __post_init__(self) -> None:
        if self.flips not in ("none", "horizontal", "all"):
            raise ValueError(f"flips must be none, horizontal or all, not {self.flips!r}")
        names = [name for pair in self.flip_pairs for name in pair]
        if len(set(names)) < len(names):
            raise ValueError("flip_pairs must name each class once")
        if not 0 < self.scale[0] <= self.scale[1] or self.crop < 0:
            raise ValueError("scale must be [low, high] with 0 < low <= high, crop 0 or more pixels")
        if not 0 <= self.paste <= 20:
            raise ValueError("paste must be between 0 and 20")


@dataclass(frozen=True)
class MixSettings:
    """How drawn and pseudo-labeled images are mixed in a training.

    Attributes:
        drawn_share: share of samples with drawn masks; None: every image equally often.
        drawn_end: share of the steps, the last ones, that see drawn masks only.
        quality_power: power of a pseudo-label's quality in the weight of its outline; 0: all count alike.
    """

    drawn_share: float | None = None
    drawn_end: float = 0.0
    quality_power: float = 0.0

    def __post_init__(self) -> None:
        if self.drawn_end and self.drawn_share is None:
            raise ValueError("drawn_end needs a drawn_share")


@dataclass(frozen=True)
class TrainSettings:
    """The schedule of a training.

    Attributes:
        iterations: optimizer steps.
        batch_size: images (refiner: crops) in a step, over all processes and parts.
        accumulate: parts in which a process computes its share of a batch, to save memory.
        optimizer: adamw | sgd (momentum 0.9).
        learning_rate: of the new layers.
        rate_batch: batch size that learning_rate was tuned for; 0: batch_size. See `rate`.
        backbone_rate: learning rate of the backbone relative to learning_rate.
        weight_decay: on weights with two dimensions or more.
        warmup: steps of linear warm-up.
        schedule: cosine (to zero) | step (a tenth after each of milestones).
        milestones: shares of the iterations.
        clip: maximum gradient norm; 0: no limit.
        ema: maximum decay of the averaged weights; 0: no averaging. Step n has min(ema, (1 + n) / (10 + n)).
        norms: batch normalization in training: batch | sync | frozen. batch: statistics of the images that a
            process sees at a time; sync: of all processes (GPUs only); frozen: the pretrained ones, and the
            layers do not learn. Heads have GroupNorm, which does not depend on the batch.
        workers: processes that load images; 0: none.
    """

    iterations: int = 300
    batch_size: int = 8
    accumulate: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    rate_batch: int = 0
    backbone_rate: float = 0.5
    weight_decay: float = 0.02
    warmup: int = 30
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (0.667, 0.917)
    clip: float = 10.0
    ema: float = 0.998
    norms: Literal["batch", "sync", "frozen"] = "batch"
    workers: int = 0

    def __post_init__(self) -> None:
        if self.iterations < 1 or not 1 <= self.accumulate <= self.batch_size or self.rate_batch < 0:
            raise ValueError("iterations must be 1 or more, accumulate 1 to batch_size, rate_batch 0 or more")
        if self.optimizer not in ("adamw", "sgd"):
            raise ValueError(f"optimizer must be adamw or sgd, not {self.optimizer!r}")
        if self.schedule not in ("cosine", "step"):
            raise ValueError(f"schedule must be cosine or step, not {self.schedule!r}")
        if self.learning_rate <= 0 or self.backbone_rate < 0 or self.weight_decay < 0 or self.clip < 0:
            raise ValueError("learning_rate must be positive; backbone_rate, weight_decay and clip 0 or more")
        if not 0 <= self.ema < 1:
            raise ValueError("ema must be 0 or more and below 1")
        if self.warmup < 0 or self.workers < 0:
            raise ValueError("warmup and workers must be 0 or more")

    @property
    def rate(self) -> float:
        """Learning rate for `batch_size`, from that for `rate_batch`.

        In proportion with SGD (Goyal et al. 2017, arXiv 1706.02677), by the square root with AdamW (Malladi
        et al. 2022, arXiv 2205.10287). Neither processes nor `accumulate` change the batch, nor the rate.
        """
        ratio = self.batch_size / self.rate_batch if self.rate_batch else 1.0
        return self.learning_rate * (ratio if self.optimizer == "sgd" else math.sqrt(ratio))


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How raw maps become instances.

    Attributes:
        score_threshold: minimum class probability of a candidate cell.
        mask_threshold: a pixel with a greater probability belongs to the mask.
        area_strides: masks up to this size in mask-feature pixels are dropped, by level; []: empty ones.
        pre_nms: maximum number of candidates before NMS.
        keep_threshold: minimum score after Matrix NMS.
        max_detections: maximum number of instances in an image.
        nms: matrix (Gaussian) | linear (Matrix NMS, linear decay) | mask (greedy, IoU > 0.5).
        sigma: of the Gaussian decay exp(-sigma (iou^2 - compensation^2)).
    """

    score_threshold: float = 0.1
    mask_threshold: float = 0.5
    area_strides: tuple[float, ...] = ()
    pre_nms: int = 500
    keep_threshold: float = 0.05
    max_detections: int = 100
    nms: Literal["matrix", "linear", "mask"] = "matrix"
    sigma: float = 2.0

    def __post_init__(self) -> None:
        if not all(0 <= t <= 1 for t in (self.score_threshold, self.mask_threshold, self.keep_threshold)):
            raise ValueError("score_threshold, mask_threshold and keep_threshold must be between 0 and 1")
        if self.pre_nms < 1 or self.max_detections < 1 or min(self.sigma, *self.area_strides, 0) < 0:
            raise ValueError("pre_nms, max_detections must be at least 1, sigma and area_strides 0 or more")
