"""Time and memory of a call: CPU and wall time, GPU events, peak memory, and the machine it ran on."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

MIB = 2**20
Call = Callable[[], Any]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of some measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
        return cls(median(values), low, high)

    def __str__(self) -> str:
        digits = 0 if self.median >= 100 else 1 if self.median >= 10 else 2
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}–{self.high:.{digits}f})"


@dataclass(frozen=True)
class Times:
    """Milliseconds of one call."""

    wall: float
    cpu: float
    device: float | None

    @property
    def counted(self) -> float:
        return self.cpu if self.device is None else self.device


def timed(call: Call, device: str) -> Times:
    """Time of one call, until the device has done its part."""
    if device != "cuda":
        cpu, wall = time.process_time(), time.perf_counter()
        call()
        return Times(1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu), None)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    cpu, wall = time.process_time(), time.perf_counter()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    spent = 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)
    return Times(*spent, start.elapsed_time(end))


def peak_memory(call: Call, device: str) -> float | None:
    """MiB that a call needs at its height, beyond what is held before it.

    CUDA: what torch allocates. CPU: growth of the resident set, which the kernel notes (Linux only; None
    elsewhere); what the process holds free already is not seen, so a call of a few MiB can read 0.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
        before = process_status("VmRSS")
    except OSError:
        call()
        return None
    call()
    return max(0.0, (process_status("VmHWM") - before) / 1024)


def process_status(key: str) -> int:
    """A value in KiB of /proc/self/status.

    Raises:
        OSError: there is none (Linux only).
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {key}")


def machine(device: str) -> dict[str, Any]:
    """What the times were measured on, and how busy it was."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
