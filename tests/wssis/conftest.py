"""Fixtures that need files outside the repository; they skip where those are absent."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.io import write_png

from wssis.data import rle
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.instances import Instances
from wssis.models.raw_maps import RawMaps
from wssis.training.target_assignment import Targets, assign


class Parity(Mapping[str, Tensor]):
    """Arrays of the reference implementation by name, see README.md beside the file."""

    levels = 5

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            self._arrays = {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}

    def __getitem__(self, name: str) -> Tensor:
        return self._arrays[name]

    def __iter__(self):
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def pair(self, name: str) -> tuple[int, int]:
        """A (rows, columns) array as a tuple."""
        rows, columns = self[name].tolist()
        return rows, columns

    def raw(self, group: str) -> RawMaps:
        """Raw maps of the group "loss", "point" or "infer"."""
        return RawMaps.from_levels(
            [self[f"{group}/cate_{level}"] for level in range(self.levels)],
            [self[f"{group}/kernel_{level}"] for level in range(self.levels)],
            self[f"{group}/mask_feats"],
            self.pair("targets/padded_hw"),
        )

    def targets(self, tag: str, **options: Any) -> Targets:
        """Targets of the group targets/<tag>; `options` go to `assign`."""
        grids = [(g, g) for g in self["targets/num_grids"].tolist()]
        instances = []
        for image in (0, 1):
            masks = self[f"targets/{tag}/masks_{image}"]
            size = (masks.shape[1], masks.shape[2])
            instances.append(Instances(size=size, labels=self[f"targets/{tag}/classes_{image}"], masks=masks))
        ranges = [(low, high) for low, high in self[f"targets/{tag}/ranges"].tolist()]
        return assign(instances, grids, ranges, self.pair("targets/padded_hw"), (40, 52), 5, **options)


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """`$WSSIS_SHARED`, or `shared` beside the repository."""
    default = Path(__file__).resolve().parents[3] / "shared"
    return Path(os.environ.get("WSSIS_SHARED", default))


@pytest.fixture(scope="session")
def parity(shared_folder: Path) -> Parity:
    path = shared_folder / "parity" / "solov2_reference.npz"
    if not path.is_file():
        pytest.skip(f"no parity fixtures at {path}")
    return Parity(path)


class OpCounter(TorchDispatchMode):
    """Counts tensor operations: a loop over objects or points shows as a count that grows with them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="session")
def count_operations():
    """f -> number of tensor operations that calling f takes."""

    def count(call: Callable[[], object]) -> int:
        with OpCounter() as counter:
            call()
        return counter.count

    return count


def random_raw(seed: int = 0, batch: int = 1, classes: int = 3, size: tuple[int, int] = (64, 96)) -> RawMaps:
    """Random raw maps of three levels with masks of 1/4 size."""
    generator = torch.Generator().manual_seed(seed)
    grids = ((8, 12), (4, 6), (2, 2))
    cells = sum(rows * columns for rows, columns in grids)
    return RawMaps(
        category=torch.randn((batch, cells, classes), generator=generator),
        kernels=torch.randn((batch, cells, 8), generator=generator),
        features=torch.randn((batch, 8, size[0] // 4, size[1] // 4), generator=generator),
        grids=grids,
        image_size=size,
    )


def scene_raw(
    masks: Tensor,
    labels: list[int],
    cells: list[int],
    sure: list[float] | None = None,
    grids: tuple[tuple[int, int], ...] = ((8, 8), (4, 4)),
    classes: int = 3,
) -> RawMaps:
    """Raw maps of one image that say what is given: cell i holds mask i and class i, other cells nothing.

    Args:
        masks: (N, Hm, Wm) bool, at 1/4 of the input.
        sure: logit of each mask inside (default 5) and of its class.
    """
    total = sum(rows * columns for rows, columns in grids)
    height, width = masks.shape[-2:]
    category = torch.full((1, total, classes), -10.0)
    kernels = torch.zeros((1, total, len(masks) + 1))
    features = torch.cat([torch.where(masks, 1.0, -10.0), torch.full((1, height, width), -10.0)])[None]
    kernels[0, :, -1] = 1.0
    for i, (label, cell) in enumerate(zip(labels, cells, strict=True)):
        strength = 5.0 if sure is None else sure[i]
        category[0, cell, label] = strength
        kernels[0, cell] = 0
        kernels[0, cell, i] = strength
    return RawMaps(category, kernels, features, grids, (height * 4, width * 4))


@pytest.fixture(scope="session")
def make_raw():
    return random_raw


@pytest.fixture(scope="session")
def make_scene():
    return scene_raw


Box = tuple[int, int, int, int]  # x0, y0, x1, y1, exclusive ends


def box_masks(size: tuple[int, int], *boxes: Box) -> Tensor:
    """(N, H, W) bool, filled boxes."""
    masks = torch.zeros((len(boxes), *size), dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks


@dataclass(frozen=True)
class Painting:
    """A picture to be painted: bright boxes (label, box) on dark noise, and boxes to ignore."""

    size: tuple[int, int] = (64, 64)
    objects: tuple[tuple[int, Box], ...] = ()
    ignore: tuple[Box, ...] = ()


def write_paintings(
    folder: Path, *paintings: dict[str, Any], classes: int = 3, first_id: int = 1
) -> CocoData:
    """PNGs in `folder` and their annotations; classes 0, 1, 2 are red, green, blue, and so on in turns."""
    records, number = [], 1000 * first_id
    for image_id, painting in enumerate((Painting(**p) for p in paintings), first_id):
        generator = torch.Generator().manual_seed(image_id)
        picture = torch.randint(0, 60, (3, *painting.size), generator=generator, dtype=torch.uint8)
        masks = box_masks(painting.size, *(box for _, box in painting.objects), *painting.ignore)
        annotations = []
        for row, (mask, code) in enumerate(zip(masks, rle.encode(masks), strict=True)):
            is_object, number = row < len(painting.objects), number + 1
            label = painting.objects[row][0] if is_object else 0
            picture[label % 3, mask] += 180
            extra = {} if is_object else {"ignore": True}
            annotations.append(Annotation(number, label, code, rle.inner_point(code), extra=extra))
        write_png(picture, str(folder / f"{image_id}.png"))
        records.append(ImageRecord(image_id, f"{image_id}.png", *painting.size, tuple(annotations)))
    categories = tuple(Category(3 * k + 1, f"class {k}") for k in range(classes))
    return CocoData(categories, tuple(records), str(folder))


@pytest.fixture
def paint(tmp_path: Path):
    """paint({fields of Painting}, ..., classes=3, first_id=1) -> CocoData with its pictures on disk."""
    return partial(write_paintings, tmp_path)


@pytest.fixture(scope="session")
def boxes():
    return box_masks
