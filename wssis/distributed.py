"""Several processes that train one network together, or one alone: what they ask of each other.

They are started by torchrun (`torch.distributed.run`), a process for each GPU; without it there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from wssis.errors import InputError

Item = TypeVar("Item")
PATIENCE = timedelta(minutes=10)  # until a process that waits for the others gives up


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined() -> Iterator[None]:
    """Meets the other processes that torchrun started; alone, does nothing.

    Tensors of the host go by gloo, those of GPUs by NCCL. Each process has the GPU of its local number.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or dist.is_initialized():
        yield
        return
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
    yield
    # After an error there is no parting: NCCL would wait for processes that wait for this one.
    dist.destroy_process_group()


def totals(values: Sequence[float]) -> list[float]:
    """Sums over all processes, each of which must ask; numbers of the host, so that no GPU is waited for."""
    if world() == 1:
        return list(values)
    given = torch.tensor(list(values), dtype=torch.float64)
    dist.all_reduce(given)
    return given.tolist()


def in_any(flag: bool) -> bool:
    """Whether it is true in any process; each must ask."""
    return totals([float(flag)])[0] > 0


def parts_of(items: Sequence[Item], accumulate: int = 1) -> list[Sequence[Item]]:
    """This process's parts of a batch: the batch is cut into `accumulate` parts for each process.

    Parts differ in size by one at most. Two processes take the same parts as one that accumulates two.

    Raises:
        InputError: there are fewer items than parts.
    """
    count = accumulate * world()
    if len(items) < count:
        raise InputError(
            f"expected at least an image for each part, found {len(items)} for {world()} processes x "
            f"{accumulate} parts",
            where="batch_size",
            remedy="Raise batch_size, or lower accumulate or launcher.processes",
        )
    cuts = [len(items) * i // count for i in range(count + 1)]
    first = rank() * accumulate
    return [items[cuts[i] : cuts[i + 1]] for i in range(first, first + accumulate)]
