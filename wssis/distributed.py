"""Several processes that train, label or evaluate together; without torchrun there is one.

torchrun (`torch.distributed.run`) starts them, usually one per GPU, on one node or several.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from wssis.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")
PATIENCE = timedelta(minutes=10)  # until a process that waits for the others gives up


def rank() -> int:
    """Rank of this process, from 0."""
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
    """Sums over all processes, on the host so that no GPU is waited for. Every process must call this."""
    if world() == 1:
        return list(values)
    given = torch.tensor(list(values), dtype=torch.float64)
    dist.all_reduce(given)
    return given.tolist()


def in_any(flag: bool) -> bool:
    """Whether it is true in any process. Every process must call this."""
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


def map_over_processes(
    keys: Sequence[int], work: Callable[[int], Result], chunk: int = 1
) -> Iterator[tuple[int, Result]]:
    """Results of `work`, divided among all processes and gathered by rank 0.

    Every process must iterate over it to the end; only rank 0 gets items. In each round every process does
    `chunk` keys, so memory holds the results of one round.

    Args:
        keys: of the work; those of rank 0 count.
        work: a picklable result for a key.

    Yields:
        (key, result) in the order of the keys, in rank 0.
    """
    if world() == 1:
        yield from ((key, work(key)) for key in keys)
        return
    shared: list[Sequence[int]] = [keys]
    dist.broadcast_object_list(shared, src=0)
    for start in range(0, len(shared[0]), world() * chunk):
        group = shared[0][start : start + world() * chunk]
        mine = {key: work(key) for key in group[rank() :: world()]}
        gathered: list[dict[int, Result]] | None = [{}] * world() if rank() == 0 else None
        dist.gather_object(mine, gathered, dst=0)
        for place, key in enumerate(group if gathered else ()):
            assert gathered
            yield key, gathered[place % world()][key]
