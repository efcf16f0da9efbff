"""The training loop: it learns, it repeats, it keeps snapshots, it stops on nonsense."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from wssis.settings import TrainSettings
from wssis.training.trainer import NonFiniteLoss, Progress, fit, rate, update_average

SETTINGS = TrainSettings(iterations=60, batch_size=4, learning_rate=0.05, warmup=5, weight_decay=0.0)


def problem() -> tuple[nn.Module, list]:
    torch.manual_seed(0)
    x = torch.randn(60, 8, 3)
    return nn.Linear(3, 1), [(part, part.sum(1, keepdim=True)) for part in x]


def loss(model: nn.Module, batch) -> dict[str, torch.Tensor]:
    return {"square": (model(batch[0]) - batch[1]).square().mean()}


def test_it_learns_and_tells_of_each_step() -> None:
    told: list[Progress] = []
    model, batches = problem()
    result = fit(model, batches, loss, SETTINGS, told.append)
    assert [p.step for p in told] == list(range(1, 61))
    assert told[-1].losses["loss"] < 0.05 * told[0].losses["loss"]
    assert loss(result.model, batches[0])["square"] < 0.05 * told[0].losses["loss"]
    assert not result.model.training
    assert not any(p.requires_grad for p in result.model.parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_same_seed_gives_the_same_weights(optimizer: str) -> None:
    settings = TrainSettings(iterations=60, optimizer=optimizer, learning_rate=0.02, schedule="step")
    first, second = (fit(*problem(), loss, settings).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_snapshots_are_earlier_models() -> None:
    result = fit(*problem(), loss, SETTINGS, snapshots=(0.1, 1.0))
    early, late = result.snapshots[0.1], result.snapshots[1.0]
    assert torch.equal(late.weight, result.model.weight)
    assert not torch.equal(early.weight, late.weight)


def test_snapshots_can_be_looked_at_in_place_of_kept() -> None:
    """Looking at them leaves the training as it is."""
    seen: dict[float, nn.Module] = {}
    looked = fit(*problem(), loss, SETTINGS, snapshots=(0.1, 1.0), on_snapshot=seen.__setitem__)
    kept = fit(*problem(), loss, SETTINGS, snapshots=(0.1, 1.0))
    assert looked.snapshots == {}
    assert all(torch.equal(seen[share].weight, kept.snapshots[share].weight) for share in (0.1, 1.0))
    assert torch.equal(looked.model.weight, kept.model.weight)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    def broken(model: nn.Module, batch) -> dict[str, torch.Tensor]:
        return {"square": loss(model, batch)["square"] * math.inf}

    with pytest.raises(NonFiniteLoss, match="step 1"):
        fit(*problem(), broken, SETTINGS)


@pytest.mark.parametrize("clip", [0.0, 10.0])
def test_a_gradient_that_is_not_finite_stops_the_training(clip: float) -> None:
    """The root's slope at 0 is infinite, times 0 no number; the loss is finite and the step not taken."""
    model, batches = problem()
    seen: list[int] = []

    def broken(model: nn.Module, batch) -> dict[str, torch.Tensor]:
        seen.append(len(seen))
        square = loss(model, batch)["square"]
        return {"square": square + ((0 * square).sqrt() if len(seen) == 3 else 0)}

    with pytest.raises(NonFiniteLoss, match=r"the gradient is not finite .*at step 3"):
        fit(model, batches, broken, replace(SETTINGS, clip=clip))
    assert all(p.isfinite().all() for p in model.parameters())


def test_rates() -> None:
    """Linear warm-up; cosine ends at zero; steps fall to a tenth."""
    cosine = TrainSettings(iterations=100, warmup=10)
    assert rate(0, cosine) == pytest.approx(1 / 11)
    assert rate(10, cosine) == 1
    assert rate(55, cosine) == pytest.approx(0.5)
    assert rate(100, cosine) == pytest.approx(0)
    step = TrainSettings(iterations=100, warmup=0, schedule="step", milestones=(0.5, 0.9))
    assert [rate(s, step) for s in (49, 50, 90)] == pytest.approx([1, 0.1, 0.01])


def test_average_follows_fast_at_first() -> None:
    """decay = min(limit, (1 + n) / (10 + n)); the first weights and integers are copied."""
    model = nn.BatchNorm1d(1)
    average = AveragedModel(model)

    def after(weight: float, count: int) -> float:
        nn.init.constant_(model.weight, weight)
        model.num_batches_tracked.fill_(count)
        update_average(average, model, 0.5)
        assert average.module.num_batches_tracked == count
        return average.module.weight.item()

    assert after(2.0, 7) == 2
    assert after(0.0, 8) == pytest.approx(2 * 2 / 11)
    assert average.n_averaged == 2
    average.n_averaged.fill_(100)
    assert after(0.0, 9) == pytest.approx(2 / 11)


@pytest.mark.parametrize(
    "change",
    [
        {"iterations": 0},
        {"optimizer": "adam"},
        {"schedule": "poly"},
        {"learning_rate": 0.0},
        {"ema": 1.0},
        {"warmup": -1},
    ],
)
def test_settings_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        TrainSettings(**change)
