"""`--shard i/n`: a part of a stage's images on one of several machines, or by one of several processes.

What shards leave, a line an image, is taken over by the stage itself when it runs without `--shard`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines import paths
from pipelines.runner.signals import Stopping
from wssis.errors import InputError


@dataclass(frozen=True)
class Shard:
    """Number `number`, from 1, of `count` shards."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"


def asked(arguments: Sequence[str]) -> Shard | None:
    """The shard that a stage's command line names, if it names one.

    Raises:
        InputError: it says anything else.
    """
    if not arguments:
        return None
    found = re.fullmatch(r"--shard[= ](\d+)/(\d+)", " ".join(arguments))
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(
            f"expected nothing or --shard I/N with I from 1 to N, found {' '.join(arguments)!r}",
            where="the command line",
            remedy="For example `python -m pipelines.stages.pseudo --shard 1/4`",
        )
    return Shard(int(found[1]), int(found[2]))


def run_shards(count: int) -> int:
    """Run this very command in `count` processes, a shard each; returns 0 or the code of one that failed.

    Each has a GPU of its own, in turn, where there are GPUs; otherwise they share the cores.
    """
    import torch

    gpus = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")  # those that the user leaves us, if any
    names = [visible[place] if place < len(visible) and visible[0] else str(place) for place in range(gpus)]
    threads = str(max(1, (os.cpu_count() or 1) // count))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with Stopping():
            for place in range(count):
                own = {"CUDA_VISIBLE_DEVICES": names[place % gpus]} if gpus else {}
                command = [sys.executable, *sys.orig_argv[1:], "--shard", f"{place + 1}/{count}"]
                environment = {"OMP_NUM_THREADS": threads, **os.environ, **own}
                processes.append(subprocess.Popen(command, cwd=paths.dvc_workspace(), env=environment))
            codes = [process.wait() for process in processes]
            for number, code in enumerate(codes, 1):
                if code < 0:  # it had no time for a word of its own
                    how = signal.Signals(-code).name
                    print(
                        f"shard {number}/{count} was ended by {how}; run again, it goes on", file=sys.stderr
                    )
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    return max((code if code > 0 else 1 for code in codes if code), default=0)
