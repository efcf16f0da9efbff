"""One training loop for teacher, refiner and student. It knows neither networks nor tracking."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from wssis.settings import TrainSettings


@dataclass(frozen=True)
class Progress:
    """What a training tells about one step.

    Attributes:
        step: 1 to `total`.
        total: number of steps.
        losses: loss terms by name, and their sum as `loss`.
        learning_rate: of the new layers at this step.
        seconds: since training began.
    """

    step: int
    total: int
    losses: dict[str, float]
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class TrainResult:
    """Networks that a training leaves, all with averaged weights and in evaluation mode.

    Attributes:
        model: after the last step.
        snapshots: copies from earlier, by the share of the iterations that had been done.
    """

    model: nn.Module
    snapshots: dict[float, nn.Module] = field(default_factory=dict)


class NonFiniteLoss(RuntimeError):
    """The loss is not a number; training cannot go on."""


def fit(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Callable[[nn.Module, Any], dict[str, Tensor]],
    settings: TrainSettings,
    on_step: Callable[[Progress], None] = lambda progress: None,
    snapshots: Sequence[float] = (),
    on_snapshot: Callable[[float, nn.Module], None] | None = None,
) -> TrainResult:
    """Train `model` on `batches` and return it with averaged weights.

    Args:
        model: trained in place; a `backbone` or `encoder` in a parameter's name marks the slower group.
        batches: as many as there are iterations.
        loss: (model, batch) to scalar loss terms by name; their sum is minimised.
        settings: see `TrainSettings`.
        on_step: called after each step.
        snapshots: shares of the iterations at which a copy is kept.
        on_snapshot: given each share and its copy, which is then not kept. Whatever it raises ends the
            training.

    Raises:
        NonFiniteLoss: names the step and its batch.
    """
    optimizer = build_optimizer(model, settings)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, settings))
    average = (
        AveragedModel(model, multi_avg_fn=moving_average(settings.ema), use_buffers=True)
        if settings.ema
        else None
    )
    wanted = {share: max(1, round(share * settings.iterations)) for share in snapshots}
    kept: dict[float, nn.Module] = {}
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.train()
    start = time.perf_counter()
    for step, batch in enumerate(batches, 1):
        terms = loss(model, batch)
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            named = {name: float(value.detach()) for name, value in terms.items()}
            raise NonFiniteLoss(f"the loss is not finite at step {step}: {named}; lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        if settings.clip:
            nn.utils.clip_grad_norm_(parameters, settings.clip)
        learning_rate = float(scheduler.get_last_lr()[-1])
        optimizer.step()
        scheduler.step()
        if average is not None:
            average.update_parameters(model)
        for share in (share for share, when in wanted.items() if when == step):
            copy = finished(average.module if average is not None else model)
            if on_snapshot is None:
                kept[share] = copy
            else:
                on_snapshot(share, copy)
        losses = {name: float(value.detach()) for name, value in terms.items()} | {
            "loss": float(total.detach())
        }
        on_step(Progress(step, settings.iterations, losses, learning_rate, time.perf_counter() - start))
    return TrainResult(finished(average.module if average is not None else model), kept)


def finished(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode that no longer learns."""
    return deepcopy(model).eval().requires_grad_(False)


def rate(step: int, settings: TrainSettings) -> float:
    """Factor of the learning rate after `step` steps: linear warm-up, then cosine or steps."""
    if step < settings.warmup:
        return (step + 1) / (settings.warmup + 1)
    share = (step - settings.warmup) / max(1, settings.iterations - settings.warmup)
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return 0.1 ** sum(step / settings.iterations >= milestone for milestone in settings.milestones)


def build_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Four groups: backbone or not, weight decay (two dimensions and more) or not; the head's come last."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            slow = "backbone." in name or "encoder." in name
            groups.setdefault((not slow, parameter.ndim > 1), []).append(parameter)
    options = [
        {
            "params": parameters,
            "lr": settings.learning_rate * (1 if fast else settings.backbone_rate),
            "weight_decay": settings.weight_decay if decayed else 0.0,
        }
        for (fast, decayed), parameters in sorted(groups.items())
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(options, lr=settings.learning_rate, momentum=0.9)
    return torch.optim.AdamW(options, lr=settings.learning_rate, fused=True)


def moving_average(limit: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average that follows fast at first: decay min(limit, (1 + n) / (10 + n))."""

    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Any) -> None:
        done = int(count)
        decay = min(limit, (1 + done) / (10 + done))
        if averaged[0].is_floating_point():  # tensors come grouped by dtype
            torch._foreach_lerp_(list(averaged), list(current), 1 - decay)
        else:
            torch._foreach_copy_(list(averaged), list(current))

    return update
