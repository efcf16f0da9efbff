"""Fixtures that need files outside the repository; they skip where those are absent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from wssis.instances import Instances
from wssis.rawmaps import RawMaps
from wssis.targets import Targets, assign


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
