"""What is measured: networks with random weights, and made images, masks and points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.config.presets import load_preset
from pipelines.config.schema import Params
from wssis.data import rle
from wssis.data.records import Annotation, Category, ImageRecord
from wssis.data.synthetic import draw_scene
from wssis.instances import Instances
from wssis.models.raw_maps import RawMaps
from wssis.models.refiner import Refiner
from wssis.models.solov2 import SOLOv2
from wssis.settings import SOLOv2Settings

PRESETS = Path(__file__).resolve().parents[1] / "presets"
CLASSES = 80
SIDE = 640  # pixels
TINY_SIDE = 128


def preset(name: str) -> Params:
    """Params of a preset of the project."""
    return load_preset(PRESETS / f"{name}.yaml")


def paper_settings(tiny: bool = False, backbone: str = "resnet50") -> SOLOv2Settings:
    """The paper's student, from random weights; `tiny` keeps grids, levels and rules."""
    settings = replace(preset("coco-10p").model, backbone=backbone, pretrained=False)
    if not tiny:
        return settings
    return replace(
        settings, backbone="resnet18", fpn_channels=16, head_channels=16, head_depth=1, mask_channels=8
    )


def default_settings() -> SOLOv2Settings:
    """The default model, from random weights: speed does not hang on them."""
    return replace(preset("shapes").model, pretrained=False)


def solov2(settings: SOLOv2Settings, classes: int, device: str) -> SOLOv2:
    """A network as training makes it."""
    torch.manual_seed(0)
    model = SOLOv2(settings, classes).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def paper_refiner(tiny: bool, device: str) -> Refiner:
    """The paper's refiner (R-101, 256 px, 80 classes) from random weights, in evaluation mode."""
    settings = replace(preset("coco-10p").refiner.model, pretrained=False)
    if tiny:
        settings = replace(settings, backbone="resnet18", width=8, crop=64)
    return refiner_of(settings, 3 if tiny else CLASSES, device)


def refiner_of(settings: object, classes: int, device: str) -> Refiner:
    """A refiner in evaluation mode."""
    torch.manual_seed(0)
    model = Refiner(settings, classes).to(device)  # type: ignore[arg-type]
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval()


def scene(side: int, seed: int = 0) -> tuple[Tensor, Instances]:
    """A drawn scene with its objects: uint8 (3, side, side), and instances with masks."""
    for number in range(seed, seed + 1000):
        drawn = draw_scene(np.random.default_rng((number, side)), side)
        if drawn.labels:
            break
    image = torch.from_numpy(drawn.image).permute(2, 0, 1).contiguous()
    labels = torch.tensor(drawn.labels, dtype=torch.int64)
    return image, Instances(size=(side, side), labels=labels, masks=torch.from_numpy(drawn.masks))


@torch.inference_mode()
def paper_raw(tiny: bool, device: str) -> RawMaps:
    """Raw maps of the paper's network for one scene of 640 x 640 pixels."""
    classes, side = (3, TINY_SIDE) if tiny else (CLASSES, SIDE)
    model = solov2(paper_settings(tiny), classes, device).eval()
    return model(model.preprocess([scene(side)[0]]))


def ellipses(count: int, size: tuple[int, int], classes: int, seed: int = 0, large: float = 0.5) -> Instances:
    """Objects as ellipses of many sizes (median an eighth of the side, at most `large`), some overlapping."""
    rng = np.random.default_rng((seed, count))
    height, width = size
    radii = np.clip(rng.lognormal(np.log(min(size) / 16), 0.7, (count, 2)), 1.5, large * min(size) / 2)
    center = rng.uniform(0, 1, (count, 2)) * (height, width)
    y = ((np.arange(height) + 0.5)[None, :] - center[:, :1]) / radii[:, :1]
    x = ((np.arange(width) + 0.5)[None, :] - center[:, 1:]) / radii[:, 1:]
    masks = np.empty((count, height, width), bool)
    for mask, down, across in zip(masks, y**2, x**2, strict=True):
        np.less_equal(down[:, None] + across[None, :], 1, out=mask)
    labels = torch.from_numpy(rng.integers(0, classes, count))
    return Instances(size=size, labels=labels, masks=torch.from_numpy(masks))


def random_points(count: int, side: int, classes: int, device: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(N, 2) points anywhere in the image, and (N,) classes."""
    generator = torch.Generator().manual_seed(seed * 1000 + count)
    points = torch.rand((count, 2), generator=generator) * side
    return points.to(device), torch.randint(0, classes, (count,), generator=generator).to(device)


def numbered_classes() -> tuple[Category, ...]:
    """Categories for the labels of `ellipses`."""
    return tuple(Category(label, f"class {label}") for label in range(CLASSES))


def record_of(scene: Instances, index: int, file_name: str) -> ImageRecord:
    """Instances as an image of a data set, whose other images show as many; ids go on from those before."""
    codes = zip(scene.labels.tolist(), rle.encode(scene.get_masks()), strict=True)
    annotations = (Annotation(index * len(scene) + row, *code) for row, code in enumerate(codes))
    return ImageRecord(index, file_name, *scene.size, tuple(annotations))
