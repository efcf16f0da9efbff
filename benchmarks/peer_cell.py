"""One cell of benchmarks.peer: a training of so many CPU seconds, and its AP."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import maskrcnn
from benchmarks.scenes import preset
from pipelines.config.schema import Params
from wssis.data.coco import CocoData, load_coco
from wssis.data.dataset import ShuffledPositions, TrainingImages, training_loader
from wssis.data.images import read_image
from wssis.data.synthetic import generate
from wssis.data.transforms import TrainTransform
from wssis.errors import InputError
from wssis.evaluation.coco_ap import results_ap, to_coco_results
from wssis.inference.predictor import Predictor
from wssis.instances import Instances
from wssis.models.solov2 import SOLOv2
from wssis.settings import TrainSettings
from wssis.training.solov2 import train_solov2
from wssis.training.trainer import Progress, fit

TRIAL = 8  # steps that tell what a step costs; the first three do not count
TUNING_IMAGES = 40
ROOT = Path(__file__).resolve().parents[1]
OnStep = Callable[[Progress], None]


@dataclass(frozen=True)
class Cell:
    """A training and where it is measured.

    Attributes:
        data: a preset, "shapes" or "nuclei". model: "wssis" or "maskrcnn".
        budget: CPU seconds of training.
        strong: images to train on.
        rate, scale: learning rate and factor of the input; the peer's only.
        images: "val", or "tuning": training images that are not trained on.
    """

    data: str
    model: str
    budget: float
    seed: int
    strong: int
    rate: float | None = None
    scale: int = 1
    images: str = "val"

    @property
    def name(self) -> str:
        """Of its file."""
        variant = "" if self.rate is None else f"-x{self.scale}-{self.rate:g}"
        return (
            f"{self.data}-{self.model}{variant}-{self.budget:g}s-{self.strong}-seed{self.seed}-{self.images}"
        )


def load(cell: Cell, params: Params, folder: Path) -> tuple[CocoData, CocoData]:
    """Images to train on, and images to measure on.

    Raises:
        InputError: the data set is not there.
    """
    if cell.data == "shapes":
        place, made = folder / "shapes", params.data.shapes
        if not (place / "val.json").exists():
            generate(place, made.seed, made.train, made.val, made.size)
        train = load_coco(place / "train.json", place / "train")
        val = load_coco(place / "val.json", place / "val")
    else:
        sides = (params.data.train, params.data.val)
        if any(side is None or not (ROOT / side.annotations).exists() for side in sides):
            raise InputError("the data set is not there", where=cell.data, remedy="See presets/nuclei.yaml")
        train, val = (load_coco(ROOT / side.annotations, ROOT / side.images) for side in sides if side)
    usable = [image.id for image in train.images if image.objects]
    order = torch.randperm(len(usable), generator=torch.Generator().manual_seed(cell.seed)).tolist()
    strong = {usable[place] for place in order[: cell.strong]}
    rest = [usable[place] for place in order[cell.strong : cell.strong + TUNING_IMAGES]]
    return train.subset(strong), val if cell.images == "val" else train.subset(rest)


def measured(cell: Cell, folder: Path, threads: int) -> dict[str, Any]:
    """Train, predict, measure."""
    torch.set_num_threads(threads)
    params = preset(cell.data)
    strong, images = load(cell, params, folder)
    train = Wssis(params, strong) if cell.model == "wssis" else Peer(params, strong, cell)
    settings = train.settings
    step = cost_of_a_step(train, replace(settings, iterations=TRIAL, warmup=0), cell.seed)
    iterations = max(1, round(cell.budget / step))
    warmup = min(settings.warmup, iterations // 5)
    start = time.process_time()
    model = train(replace(settings, iterations=iterations, warmup=warmup), cell.seed, lambda progress: None)
    spent = time.process_time() - start
    results = []
    for record in images.images:
        picture = read_image(images.image_dir, record.file_name, record.size)
        results += to_coco_results(train.predict(model, picture), record.id, images.categories)
    return {
        "cell": asdict(cell),
        "scores": results_ap(images, results, params.evaluate.decode.max_detections),
        "iterations": iterations,
        "step_cpu_ms": 1000 * step,
        "train_cpu_s": spent,
        "parameters": maskrcnn.parameters(train.fresh(cell.seed)),
        "images": {"trained on": len(strong.images), "measured on": len(images.images)},
        "threads": threads,
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def cost_of_a_step(train: Wssis | Peer, settings: TrainSettings, seed: int) -> float:
    """CPU seconds, after the first steps, in which images are read and memory is found."""
    marks: list[float] = []
    train(settings, seed, lambda progress: marks.append(time.process_time()))
    return (marks[-1] - marks[2]) / (len(marks) - 3)


class Wssis:
    """The default model by its preset."""

    def __init__(self, params: Params, strong: CocoData) -> None:
        self.params, self.strong, self.settings = params, strong, params.student.train

    def __call__(self, settings: TrainSettings, seed: int, on_step: OnStep) -> nn.Module:
        p = self.params
        return train_solov2(
            [self.strong], p.model, p.resize, p.augment, settings, seed, on_step=on_step
        ).model

    def fresh(self, seed: int) -> nn.Module:
        """A network that has learnt nothing."""
        return SOLOv2(self.params.model, self.strong.num_classes)

    def predict(self, model: nn.Module, picture: torch.Tensor) -> Instances:
        """Instances of an image."""
        assert isinstance(model, SOLOv2)
        return Predictor(model, self.params.resize, self.params.evaluate.decode).predict([picture])[0]


class Peer:
    """A small Mask R-CNN with the same images, augmentation, optimiser and averaging."""

    def __init__(self, params: Params, strong: CocoData, cell: Cell) -> None:
        self.params, self.strong, self.scale = params, strong, cell.scale
        # The pyramid counts as backbone by its place in torchvision's model: one rate for all.
        rate = cell.rate or params.student.train.learning_rate
        self.settings = replace(params.student.train, learning_rate=rate, backbone_rate=1.0)

    def __call__(self, settings: TrainSettings, seed: int, on_step: OnStep) -> nn.Module:
        model = self.fresh(seed)
        resize = replace(self.params.resize, scale=self.params.resize.scale * self.scale)
        augment = replace(self.params.augment, crop=self.params.augment.crop * self.scale)
        images = TrainingImages([self.strong], TrainTransform(resize, augment), seed)
        order = ShuffledPositions(len(images), settings.batch_size, settings.iterations, seed)
        loader = training_loader(images, order)
        return fit(model, loader, maskrcnn.loss_of, settings, on_step).model

    def fresh(self, seed: int) -> nn.Module:
        """A network that has learnt nothing but ImageNet."""
        torch.manual_seed(seed)
        sizes = maskrcnn.object_sizes([image.instances() for image in self.strong.images])
        factor = self.params.resize.scale * self.scale
        anchors = maskrcnn.fitted_anchors([size * factor for size in sizes], maskrcnn.LIGHT.levels)
        most = self.params.evaluate.decode.max_detections
        classes = self.strong.num_classes
        return maskrcnn.mask_rcnn(
            self.params.model, classes, anchors, heads=maskrcnn.LIGHT, detections=most, seed=seed
        )

    def predict(self, model: nn.Module, picture: torch.Tensor) -> Instances:
        """Instances of an image."""
        assert isinstance(model, maskrcnn.MaskRCNN)
        return maskrcnn.predict(model, [picture], self.params.resize.scale * self.scale)[0]
