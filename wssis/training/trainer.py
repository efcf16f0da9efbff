"""One training loop for teacher, refiner and student. It knows neither networks nor tracking."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from wssis.distributed import world
from wssis.errors import InputError
from wssis.settings import TrainSettings
from wssis.training.objective import Loss, MeanOfParts, Objective, Shares, summed
from wssis.training.state import Resume, Stateful


def set_norms(model: nn.Module, norms: Literal["batch", "sync", "frozen"]) -> None:
    """Choose the statistics of a network in training mode, see `TrainSettings.norms`.

    Norms that are in evaluation mode already (frozen stages) stay so.

    Raises:
        InputError: `sync` without a GPU: torch has no kernel for it.
    """
    if norms == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval().requires_grad_(False)
    elif norms == "sync":
        if not torch.cuda.is_available():
            raise InputError(
                "expected a GPU for norms: sync, found none",
                where="norms",
                remedy="Set norms to batch or frozen",
            )
        if world() > 1:
            convert_sync_batchnorm(model)


@dataclass(frozen=True)
class Progress:
    """Progress of one training step.

    Attributes:
        step: 1 to `total`.
        total: number of steps.
        losses: loss terms by name, and their sum as `loss`.
        learning_rate: of the new layers at this step.
        seconds: since training first began.
    """

    step: int
    total: int
    losses: dict[str, float]
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class TrainResult:
    """Trained networks with averaged weights, in evaluation mode.

    Attributes:
        model: after the last step.
        snapshots: copies from earlier, by the share of the iterations that had been done.
    """

    model: nn.Module
    snapshots: dict[float, nn.Module] = field(default_factory=dict)


class NonFiniteLoss(InputError):
    """The loss or a gradient is not finite. The step is not taken.

    Attributes:
        step: that it would have been.
        what: terms of the loss or groups of parameters, with their values.
    """

    def __init__(self, step: int, what: str, images: Sequence[int] = ()) -> None:
        shown = f"; its images: {', '.join(map(str, images))}" if images else ""
        super().__init__(
            f"{what} at step {step}{shown}",
            remedy="Lower learning_rate, or look at the labels of these images",
        )
        self.step, self.what = step, what


def fit(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Loss | Objective,
    settings: TrainSettings,
    on_step: Callable[[Progress], None] = lambda progress: None,
    snapshots: Sequence[float] = (),
    on_snapshot: Callable[[float, nn.Module], None] | None = None,
    resume: Resume | None = None,
) -> TrainResult:
    """Train `model` on `batches` and return it with averaged weights.

    With several processes (`wssis.distributed`) each is given its own parts of the batches and ends with the
    same parameters; gradients are those of whole batches, whatever the parts. Running statistics of norms are
    each process's own, unless `norms` says otherwise.

    Args:
        model: trained in place; a `backbone` or `encoder` in a parameter's name marks the slower group.
        batches: as many as there are iterations; with `resume`, those after `resume.step`. With
            `settings.accumulate`, so many parts of each follow one another.
        loss: (model, batch) to scalar loss terms by name, means over the batch; or an `Objective`. The sum of
            the terms is minimized.
        settings: see `TrainSettings`.
        on_step: called after each step.
        snapshots: shares of the iterations at which a copy is kept.
        on_snapshot: called with each share and its copy, which is then not kept; its exceptions end the
            training.
        resume: where the state is saved, and restored from if there is one.

    Raises:
        NonFiniteLoss: names the step, and terms of the loss or groups of parameters.
        TrainingStopped: `resume` was asked to stop.
        InputError: `norms: sync` without a GPU.
    """
    model.train()
    set_norms(model, settings.norms)
    # What is trained, and how the rate falls.
    optimizer = build_optimizer(model, settings)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, settings))
    average = AveragedModel(model) if settings.ema else None
    # Copies to keep on the way (earlier teachers, for the refiner).
    wanted = {share: max(1, round(share * settings.iterations)) for share in snapshots}
    kept: dict[float, nn.Module] = {}
    parameters = [p for p in model.parameters() if p.requires_grad]
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    if average is not None:
        parts["average"] = average
    # Gradients are those of whole batches, over processes and parts.
    objective = loss if isinstance(loss, Objective) else MeanOfParts(loss)
    shares = Shares(model, objective)
    upcoming = shares.prepared(batches, settings.accumulate)  # draws a random number (DataLoader), so first
    # Continue an interrupted training where it stopped.
    done = 0
    if resume is not None:
        done = resume.restore(parts)
        kept = {share: with_weights(model, weights) for share, weights in resume.snapshots().items()}
    start = time.perf_counter() - (resume.seconds if resume is not None else 0.0)
    batch, step = next(upcoming, None), done
    while batch is not None:
        step += 1
        optimizer.zero_grad(set_to_none=True)
        terms = shares.backward(batch)
        batch = next(upcoming, None)  # made while a GPU is at work on this one
        # A loss or gradient that is not finite ends the training before it spoils the weights.
        losses = summed(terms)
        if not math.isfinite(losses["loss"]):
            raise NonFiniteLoss(step, f"the loss is not finite ({not_finite_terms(losses)})")
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not torch.isfinite(norm):
            raise NonFiniteLoss(step, f"the gradient is not finite ({not_finite_groups(optimizer)})")
        # The step itself.
        if settings.clip:
            nn.utils.clip_grads_with_norm_(parameters, settings.clip, norm)
        learning_rate = float(scheduler.get_last_lr()[-1])
        optimizer.step()
        scheduler.step()
        if average is not None:
            update_average(average, model, settings.ema)
        # Keep copies, report, and save what a kill would lose.
        for share in (share for share, when in wanted.items() if when == step):
            copy = _finished(average.module if average is not None else model)
            if on_snapshot is None:
                kept[share] = copy
            else:
                on_snapshot(share, copy)
        seconds = time.perf_counter() - start
        on_step(Progress(step, settings.iterations, losses, learning_rate, seconds))
        if resume is not None:
            resume.after(step, seconds, parts, kept)
    return TrainResult(_finished(average.module if average is not None else model), kept)


def not_finite_terms(losses: Mapping[str, float]) -> str:
    """Terms of the loss with their values, those first that are not finite."""
    values = {name: value for name, value in losses.items() if name != "loss"}
    ordered = sorted(values, key=lambda name: math.isfinite(values[name]))
    return ", ".join(f"{name} {values[name]:.4g}" for name in ordered)


def not_finite_groups(optimizer: torch.optim.Optimizer) -> str:
    """Names of the groups of parameters that have a gradient which is not finite."""
    named = [
        group["name"]
        for group in optimizer.param_groups
        if any(p.grad is not None and not p.grad.isfinite().all() for p in group["params"])
    ]
    return ", ".join(named) or "its norm alone"


@contextmanager
def naming_images(images_of: Callable[[int], Sequence[int]]) -> Iterator[None]:
    """Adds to a `NonFiniteLoss` the ids of its images; `images_of` is given the step, from 1."""
    try:
        yield
    except NonFiniteLoss as error:
        raise NonFiniteLoss(error.step, error.what, images_of(error.step)) from None


def with_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A finished copy of `model` with other weights."""
    copy = _finished(model)
    copy.load_state_dict(dict(weights))
    return copy


def _finished(model: nn.Module) -> nn.Module:
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
            "name": f"{'head' if fast else 'backbone'} {'weights' if decayed else 'biases and scales'}",
            "params": parameters,
            "lr": settings.rate * (1 if fast else settings.backbone_rate),
            "weight_decay": settings.weight_decay if decayed else 0.0,
        }
        for (fast, decayed), parameters in sorted(groups.items())
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(options, lr=settings.rate, momentum=0.9)
    return torch.optim.AdamW(options, lr=settings.rate, fused=True)


@torch.no_grad()
def update_average(average: AveragedModel, model: nn.Module, limit: float) -> None:
    """Exponential moving average that follows fast at first: decay min(limit, (1 + n) / (10 + n)).

    In place of `average.update_parameters`, which sends the count n to a GPU, where reading it waits for all
    work of the step. The first weights are copied, integers always.
    """
    done = int(average.n_averaged)
    decay = min(limit, (1 + done) / (10 + done))
    tensors = ([*part.parameters(), *part.buffers()] for part in (average.module, model))
    pairs = list(zip(*tensors, strict=True))
    for floating in (True, False):
        chosen = [pair for pair in pairs if pair[0].is_floating_point() == floating]
        if not chosen:
            continue
        averaged, current = map(list, zip(*chosen, strict=True))
        if floating and done:
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:
            torch._foreach_copy_(averaged, current)
    average.n_averaged += 1
