"""Gradients of a whole batch from its parts: one after the other in a process, and over processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wssis.distributed import totals, world
from wssis.objective import Objective

Prepared = tuple[list[Any], Sequence[float]]  # parts, and counts of the whole batch


class Shares:
    """The parts of batches that are this process's.

    Args:
        model: its gradients are made.
        objective: what is minimised.
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
