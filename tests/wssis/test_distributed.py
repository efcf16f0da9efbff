"""Two processes over gloo train as one does; parts of a batch come to the whole."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from wssis import distributed
from wssis.data import rle, synthetic
from wssis.data.coco import load_coco
from wssis.data.records import CocoData, ImageRecord
from wssis.distributed import in_any, parts_of, rank, totals, world
from wssis.errors import InputError
from wssis.settings import AugmentSettings, RefinerSettings, ResizeSettings, SOLOv2Settings, TrainSettings
from wssis.training.refiner import train_refiner
from wssis.training.solov2 import SOLOv2Objective, train_solov2
from wssis.training.trainer import set_norms

ROOT = Path(__file__).parents[2]
STEPS = 20
TRAIN = TrainSettings(iterations=STEPS, batch_size=5, warmup=2, norms="frozen")  # parts of 2 and 3
SGD = replace(TRAIN, optimizer="sgd", learning_rate=0.001)
REFINERS = {"refiner": RefinerSettings(crop=32), "direct": RefinerSettings(crop=32, residual=False)}
KINDS = ("solov2", *REFINERS)
OPTIMIZERS = {"adamw": TRAIN, "sgd": SGD}


def trained(kind: str, data: CocoData, settings: TrainSettings) -> nn.Module:
    """Some steps on drawn scenes, whose images show 0 to 5 objects; the rough masks are the true ones."""
    if kind in REFINERS:
        rough = [replace(data, images=tuple(map(clicked, data.images)))]
        many = replace(settings, batch_size=15)  # crops
        return train_refiner(data, rough, REFINERS[kind], many, 0, crops=3)
    augment = AugmentSettings(crop=64)
    return train_solov2([data], SOLOv2Settings(), ResizeSettings(), augment, settings, 0).model


def clicked(record: ImageRecord) -> ImageRecord:
    """With a point in each mask."""
    points = (replace(item, point=rle.inner_point(item.rle)) for item in record.annotations)
    return replace(record, annotations=tuple(points))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    synthetic.generate(folder, seed=0, n_train=12, n_val=1, size=64)
    return folder / "train.json"


def by_processes(count: int, scenes: Path, out: Path) -> dict[tuple[str, str], dict[str, torch.Tensor]]:
    """Weights by network and optimizer of each of `count` processes, which must be the same."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"),
            *(__file__, str(scenes), str(out)),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for kind, optimizer in product(KINDS, OPTIMIZERS):
        files = [out / f"{kind}-{optimizer}-{number}.safetensors" for number in range(count)]
        weights, *others = map(load_file, files)
        for other in others:
            assert all(torch.equal(value, other[name]) for name, value in weights.items())
        found[kind, optimizer] = weights
    return found


def alone(kind: str, scenes: Path, settings: TrainSettings) -> dict[str, torch.Tensor]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return trained(kind, load_coco(scenes), settings).state_dict()
    finally:
        torch.set_num_threads(threads)


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    return max(float((value - second[name]).abs().max()) for name, value in first.items())


@pytest.mark.slow
def test_two_processes_train_as_one(scenes: Path, tmp_path: Path) -> None:
    """As one that takes the same parts bit for bit; but for rounding as one that takes whole batches.

    Of that rounding AdamW makes steps where a gradient is nothing else; SGD does not.
    """
    two = by_processes(2, scenes, tmp_path)
    for kind in KINDS:
        one = alone(kind, scenes, replace(TRAIN, accumulate=2))
        assert all(torch.equal(value, two[kind, "adamw"][name]) for name, value in one.items()), kind
        assert distance(alone(kind, scenes, SGD), two[kind, "sgd"]) < 1e-5, kind


def test_parts_that_weigh_their_own_objects_alone_would_be_seen(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above must tell apart: the mean of the parts' losses is not the loss of the batch."""
    settings = replace(SGD, iterations=4)
    whole, share = alone("solov2", scenes, settings), SOLOv2Objective.share
    parts = alone("solov2", scenes, replace(settings, accumulate=2))
    assert distance(whole, parts) < 1e-5

    def of_part(
        self: SOLOv2Objective, model: nn.Module, prepared: Any, counts: Any
    ) -> dict[str, torch.Tensor]:
        own = prepared[1].num_cells, len(prepared[1].cell)
        return {name: value / 2 for name, value in share(self, model, prepared, own).items()}

    monkeypatch.setattr(SOLOv2Objective, "share", of_part)
    assert distance(whole, alone("solov2", scenes, replace(settings, accumulate=2))) > 5e-5


def test_without_torchrun_there_is_one_process() -> None:
    with distributed.joined():
        assert (rank(), world()) == (0, 1)
    assert totals([1.5, 2]) == [1.5, 2]
    assert in_any(True)
    assert not in_any(False)


@pytest.mark.parametrize("count", [4, 5, 7])
def test_parts_are_the_whole_for_any_processes(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    items = list(range(count))
    monkeypatch.setattr(distributed, "world", lambda: 2)
    found = []
    for number in range(2):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        found += parts_of(items, 2)
    assert [item for part in found for item in part] == items
    assert max(map(len, found)) - min(map(len, found)) <= 1
    monkeypatch.undo()
    assert parts_of(items, 4) == found


def test_a_batch_of_fewer_images_than_parts_is_refused() -> None:
    with pytest.raises(InputError, match="expected at least an image for each part, found 2"):
        parts_of([1, 2], 3)


def norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def test_frozen_norms_neither_learn_nor_count() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4)).train()
    set_norms(model, "batch")
    assert all(m.training for m in norms(model))
    set_norms(model, "frozen")
    assert not any(m.training or m.weight.requires_grad for m in norms(model))
    assert model[2].training
    assert model[2].weight.requires_grad


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_norms_over_processes_need_a_gpu() -> None:
    with pytest.raises(InputError, match="expected a GPU for norms: sync"):
        set_norms(nn.BatchNorm2d(3), "sync")


def main(scenes: str, out: str) -> None:
    """One of the processes."""
    data = load_coco(Path(scenes))
    with distributed.joined():
        for kind, (optimizer, settings) in product(KINDS, OPTIMIZERS.items()):
            weights = trained(kind, data, settings).state_dict()
            named = {name: value.contiguous() for name, value in weights.items()}
            save_file(named, f"{out}/{kind}-{optimizer}-{rank()}.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
