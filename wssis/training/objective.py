"""Gradients of a whole batch from its parts: one after the other in a process, and over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wssis.distributed import totals, world

Loss = Callable[[nn.Module, Any], dict[str, Tensor]]


@runtime_checkable
class Objective(Protocol):
    """A loss whose terms are means over the whole batch, computed part by part."""

    def prepare(self, model: nn.Module, part: Any) -> tuple[Any, Sequence[float]]:
        """What `share` needs of a part, and what the terms count in it (such as objects), on the host."""

    def share(self, model: nn.Module, prepared: Any, counts: Sequence[float]) -> dict[str, Tensor]:
        """The part's share of each term, a scalar; `counts` are those of all parts together.

        The shares of all parts add up to the terms of the whole batch.
        """


class MeanOfParts:
    """Terms that are means over a batch's samples: parts count by their size.

    Args:
        loss: (model, batch) to scalar terms by name.
        size: samples of a part; by default each part counts alike.
    """

    def __init__(self, loss: Loss, size: Callable[[Any], int] = lambda part: 1) -> None:
        self.loss, self.size = loss, size

    def prepare(self, model: nn.Module, part: Any) -> tuple[Any, Sequence[float]]:
        """The part as it is, and its size."""
        return part, (float(self.size(part)),)

    def share(self, model: nn.Module, prepared: Any, counts: Sequence[float]) -> dict[str, Tensor]:
        """The part's means, by its share of the samples."""
        weight = self.size(prepared) / counts[0]
        return {name: value * weight for name, value in self.loss(model, prepared).items()}


Prepared = tuple[list[Any], Sequence[float]]  # parts, and counts of the whole batch


class Shares:
    """The parts of batches that are this process's.

    Args:
        model: its gradients are made.
        objective: what is minimized.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        self.model, self.objective = model, objective
        whole = _Share(model, objective)
        self.module = DistributedDataParallel(whole) if world() > 1 else whole

    def prepared(self, parts: Iterable[Any], accumulate: int) -> Iterator[Prepared]:
        """This process's parts of each batch; begins to read them at once."""
        return self._prepared(iter(parts), accumulate)

    def _prepared(self, parts: Iterator[Any], accumulate: int) -> Iterator[Prepared]:
        while batch := list(islice(parts, accumulate)):
            ready = [self.objective.prepare(self.model, part) for part in batch]
            counts = [sum(column) for column in zip(*(count for _, count in ready), strict=True)]
            yield [part for part, _ in ready], totals(counts)

    def backward(self, batch: Prepared) -> dict[str, Tensor]:
        """Add the gradients of the whole batch; returns the terms of this process's parts."""
        parts, counts = batch
        terms: dict[str, Tensor] = {}
        for place, part in enumerate(parts, 1):
            last = place == len(parts)
            waits = isinstance(self.module, DistributedDataParallel) and not last
            with self.module.no_sync() if waits else nullcontext():  # type: ignore[operator]
                shares = self.module(part, counts)
                total = torch.stack(list(shares.values())).sum()
                # Processes' gradients are averaged, while shares are to be added up.
                (total * world() if world() > 1 else total).backward()
            for name, share in shares.items():
                terms[name] = share.detach() + terms[name] if name in terms else share.detach()
        return terms


class _Share(nn.Module):
    """A part's share of the loss as a network, whose gradients DDP sends while they are made."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, part: Any, counts: Sequence[float]) -> dict[str, Tensor]:
        return self.objective.share(self.model, part, counts)


def summed(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Terms of the whole batch by name, and their sum as `loss`; waits for a GPU once."""
    values = torch.stack(list(terms.values()))
    *each, loss = totals(torch.cat([values, values.sum()[None]]).tolist())
    return dict(zip(terms, each, strict=True)) | {"loss": loss}
