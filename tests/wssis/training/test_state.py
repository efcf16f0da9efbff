"""A training that is killed and goes on ends as one that was not, bit for bit."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wssis.data.dataset import ShuffledPositions
from wssis.errors import InputError
from wssis.files import write_tensors
from wssis.settings import AugmentSettings, RefinerSettings, ResizeSettings, SOLOv2Settings, TrainSettings
from wssis.training import refiner as refining
from wssis.training.refiner import train_refiner
from wssis.training.solov2 import train_solov2
from wssis.training.state import (
    Resume,
    TrainingStopped,
    put_together,
    random_state,
    restore_random,
    taken_apart,
)
from wssis.training.trainer import NonFiniteLoss, Progress, TrainResult, fit

ALWAYS = float("inf")  # share of the time: save after every step
STEPS = 6


class Killed(BaseException):
    """Stands for kill -9."""


def killing(step: int) -> Callable[[Progress], None]:
    """Ends a training before the state of a step can be written."""

    def on_step(progress: Progress) -> None:
        if progress.step == step:
            raise Killed

    return on_step


def nothing(progress: Progress) -> None:
    """Looks on."""


class Noisy(nn.Module):
    """A convolution, norm and dropout: weights in another layout, buffers, and random numbers of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 1, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.dropout(self.norm(self.backbone(x)), 0.3, self.training))


def noisy_loss(model: nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    scale = 1 + 0.1 * random.random() + 0.1 * float(np.random.rand())
    return {"square": (model(batch) * scale - 1).square().mean()}


def noisy(folder: Path | None, on_step: Callable[[Progress], None] = nothing, **changes: Any) -> TrainResult:
    """Train `Noisy`; random numbers are drawn by the model and the loss."""
    settings = TrainSettings(iterations=STEPS, batch_size=2, warmup=2, **changes)
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    model = Noisy().to(memory_format=torch.channels_last)
    resume = None if folder is None else Resume(folder, ALWAYS)
    images = torch.randn(STEPS, 2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    loader = torch.utils.data.DataLoader(list(images[resume.step if resume else 0 :]), batch_size=None)
    return fit(model, loader, noisy_loss, settings, on_step, (0.34, 0.67), resume=resume)


def same(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "sgd", "schedule": "step"}, {"ema": 0.0, "clip": 0.0}],
    ids=["adamw", "sgd", "no average"],
)
def test_killed_at_every_step_it_ends_as_if_it_never_was(tmp_path: Path, changes: dict[str, Any]) -> None:
    whole = noisy(None, **changes)
    for step in range(1, STEPS + 1):
        with pytest.raises(Killed):
            noisy(tmp_path, killing(step), **changes)
        assert Resume(tmp_path).step == step - 1
    again = noisy(tmp_path, **changes)
    assert same(again.model, whole.model)
    assert again.snapshots.keys() == whole.snapshots.keys() == {0.34, 0.67}
    assert all(same(again.snapshots[share], whole.snapshots[share]) for share in whole.snapshots)
    assert not any(p.requires_grad for p in again.snapshots[0.34].parameters())
    assert again.model.backbone.weight.stride() == whole.model.backbone.weight.stride()
    assert len(list(tmp_path.iterdir())) == 4  # the state, its tensors and two snapshots; no earlier ones


def test_keeping_a_state_changes_nothing(tmp_path: Path) -> None:
    assert same(noisy(tmp_path).model, noisy(None).model)


def test_solov2_with_workers_goes_on_at_its_batch_and_reads_no_earlier_one(
    tmp_path: Path, paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = paint(*({"objects": ((k % 3, (8 + k, 8, 30 + k, 30)),)} for k in range(5)))
    small = SOLOv2Settings(pretrained=False, fpn_channels=16, head_channels=16, mask_channels=8)
    settings = TrainSettings(iterations=4, batch_size=2, warmup=1, workers=2)

    def train(resume: Resume | None, on_step: Callable[[Progress], None] = nothing) -> TrainResult:
        return train_solov2(
            [data],
            small,
            ResizeSettings(),
            AugmentSettings(crop=32),
            settings,
            seed=3,
            on_step=on_step,
            snapshots=(0.5,),
            resume=resume,
        )

    whole = train(None)
    with pytest.raises(Killed):
        train(Resume(tmp_path / "state", ALWAYS), killing(4))
    asked: list[int] = []
    get = ShuffledPositions.__iter__

    def noted(self: ShuffledPositions):
        for keys in get(self):
            asked.extend(position for position, _ in keys)
            yield keys

    monkeypatch.setattr(ShuffledPositions, "__iter__", noted)
    again = train(Resume(tmp_path / "state", ALWAYS))
    assert asked == [6, 7]
    assert same(again.model, whole.model)
    assert same(again.snapshots[0.5], whole.snapshots[0.5])


def test_the_refiner_goes_on_too(tmp_path: Path, paint) -> None:
    data = paint(*({"objects": ((0, (8 + k, 8, 30 + k, 30)),)} for k in range(3)), classes=1)
    settings = TrainSettings(iterations=3, batch_size=4, warmup=1)
    small = RefinerSettings(pretrained=False, width=8, crop=32)

    def train(resume: Resume | None, on_step: Callable[[Progress], None] = nothing) -> nn.Module:
        return train_refiner(data, [data, data], small, settings, 3, 2, on_step, resume=resume)

    whole = train(None)
    with pytest.raises(Killed):
        train(Resume(tmp_path / "state", ALWAYS), killing(2))
    assert same(train(Resume(tmp_path / "state", ALWAYS)), whole)


def test_a_stop_saves_whatever_the_time(tmp_path: Path) -> None:
    """And what is noted travels with the state; what `before_save` does comes first."""
    model, seen = nn.Linear(2, 1), []
    resume = Resume(tmp_path, 0.0, lambda: len(seen) == 3, lambda: order.append("before"))
    order: list[str] = []
    resume.notes["rows"] = seen

    def train() -> None:
        batches = [torch.ones(1, 2)] * 5
        settings = TrainSettings(iterations=5, warmup=0)
        told = lambda progress: seen.append(progress.step)  # noqa: E731
        fit(model, batches, lambda m, b: {"a": m(b).sum()}, settings, told, resume=resume)

    with pytest.raises(TrainingStopped, match="step 3"):
        train()
    assert order == ["before"]
    found = Resume(tmp_path)
    assert (found.step, found.saves, found.notes) == (3, 1, {"rows": [1, 2, 3]})
    assert found.seconds > 0 < found.spent


def test_saving_takes_its_share_of_the_time_and_no_more(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    parts: dict[str, Any] = {"model": model}
    resume = Resume(tmp_path, 0.02)
    resume.restore(parts)
    for second in range(1, 100):
        resume.after(second, second / 10, parts, {})
    assert resume.saves >= 2
    assert resume.spent <= 0.02 * 10
    quiet = Resume(tmp_path / "other", 0.02, writes=False)
    quiet.restore(parts)
    quiet.after(1, 1e9, parts, {})
    assert not (tmp_path / "other").exists()


def test_a_kill_while_a_state_is_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = noisy(None)
    with pytest.raises(Killed):
        noisy(tmp_path, killing(4))

    def torn(path: Path, tensors: dict[str, torch.Tensor]) -> None:
        write_tensors(path, tensors)
        (path.parent / ".step-9.abc.safetensors").write_bytes(b"half")
        raise Killed

    monkeypatch.setattr("wssis.training.state.write_tensors", torn)
    with pytest.raises(Killed):
        noisy(tmp_path)
    monkeypatch.undo()
    assert Resume(tmp_path).step == 3
    assert same(noisy(tmp_path).model, whole.model)
    assert not list(tmp_path.glob(".*"))


def test_a_state_that_is_none_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        noisy(tmp_path, killing(3))
    (tensors,) = tmp_path.glob("step-*")
    tensors.write_bytes(tensors.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"step-2.*Remove the folder"):
        noisy(tmp_path)
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"state\.json.*Remove the folder"):
        Resume(tmp_path)


def test_random_numbers_of_every_kind_come_again() -> None:
    tensors: dict[str, torch.Tensor] = {}
    kept = json.dumps(taken_apart(random_state(), "random", tensors))
    first = (float(torch.rand(())), float(np.random.rand()), random.gauss(0, 1))
    restore_random(put_together(json.loads(kept), tensors))
    assert (float(torch.rand(())), float(np.random.rand()), random.gauss(0, 1)) == first


def test_what_is_no_plain_value_is_not_saved() -> None:
    with pytest.raises(TypeError, match=r"part\.a\.0: a object"):
        taken_apart({"a": [object()]}, "part", {})


def test_a_step_that_is_not_finite_names_groups_and_images_and_keeps_the_last_state(
    tmp_path: Path, paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = paint(*({"objects": ((0, (8 + k, 8, 30 + k, 30)),)} for k in range(3)), classes=1)
    settings = TrainSettings(iterations=4, batch_size=2, warmup=1)
    small = RefinerSettings(pretrained=False, width=8, crop=32)
    good, calls = refining.refiner_loss, []

    def broken(model: nn.Module, batch: Any, dice_share: float) -> dict[str, torch.Tensor]:
        calls.append(1)
        terms = good(model, batch, dice_share)
        bad = len(calls) == 3
        encoder = next(p for name, p in model.named_parameters() if "encoder." in name and p.ndim > 1)
        # sqrt(0) is finite, its derivative is not.
        return terms | ({"dice": terms["dice"] + (encoder * 0).square().sum().sqrt()} if bad else {})

    monkeypatch.setattr(refining, "refiner_loss", broken)
    with pytest.raises(NonFiniteLoss) as caught:
        train_refiner(data, [data], small, settings, 0, 2, resume=Resume(tmp_path / "state", ALWAYS))
    line = str(caught.value)
    batch = ShuffledPositions(3, 1, 4, 0).at(2)
    assert "the gradient is not finite (backbone weights) at step 3" in line
    assert f"its images: {data.images[batch[0][1]].id}." in line
    assert "learning_rate" in line
    assert Resume(tmp_path / "state").step == 2
