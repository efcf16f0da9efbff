"""Work on batches of items by as many processes as there are cores, in order."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Payload = TypeVar("Payload")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_batches(
    work: Callable[[list[Payload]], list[Result]],
    items: Iterable[Item],
    payload: Callable[[Item], Payload],
    weight: Callable[[Item], int],
    batch: int = 2000,
    workers: int = 0,
) -> Iterator[tuple[Item, Result]]:
    """Each item with its result, in order.

    Processes are started before the first item is requested: forked later, they would hold a second copy of
    what `items` has in memory. Few batches are under way at a time, so that it may be a generator of much.

    Args:
        work: of a batch of payloads, a result each; a function of a module.
        items: what is worked on.
        payload: of an item: all that `work` needs, pickled where a process does it.
        weight: of an item; a batch is full at a total of `batch`.
        batch: see `weight`.
        workers: processes; 0: work in this one.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        workers = 0  # others would import everything anew
    if not workers:
        for group in _groups(items, weight, batch):
            yield from zip(group, work([payload(item) for item in group]), strict=True)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"))
    try:
        pool.submit(int).result()  # the first call starts them all
        waiting: deque[tuple[list[Item], Future[list[Result]]]] = deque()
        for group in _groups(items, weight, batch):
            waiting.append((group, pool.submit(work, [payload(item) for item in group])))
            if len(waiting) > 3 * workers:
                done, future = waiting.popleft()
                yield from zip(done, future.result(), strict=True)
        for done, future in waiting:
            yield from zip(done, future.result(), strict=True)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _groups(items: Iterable[Item], weight: Callable[[Item], int], batch: int) -> Iterator[list[Item]]:
    group: list[Item] = []
    total = 0
    for item in items:
        group.append(item)
        total += weight(item)
        if total >= batch:
            yield group
            group, total = [], 0
    if group:
        yield group
