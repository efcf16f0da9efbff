"""Several processes at one stage, started and restarted by torch's elastic agent (torchrun).

A stage whose params ask for several processes becomes their parent, without a lock, run or network of its
own. On several nodes a person starts torchrun on each: see docs/scale.md.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines import paths
from wssis.errors import InputError
from wssis.files import write_json

REPORTS = "WSSIS_REPORTS"  # environment: the folder where each process reports how it ended
RESTARTS = 3
STEP_S = 300  # for a process to finish its step and save before the agent kills it


def started() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def restarts() -> int:
    """How often the agent has restarted the processes."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def refused() -> bool:
    """Whether invalid input ended an earlier attempt: restarting does not help."""
    return any(report["code"] == 2 for report in reports(os.environ.get(REPORTS)))


def report(code: int, text: str) -> int:
    """Report how the process ends, on stderr, or to the parent of several; returns the code."""
    folder = os.environ.get(REPORTS)
    if folder is None:
        print(text, file=sys.stderr)
    else:
        write_json(
            Path(folder) / f"{os.environ['RANK']}.json",
            {"code": code, "text": text, "time": time.time(), "attempt": restarts()},
        )
    return code


def reports(folder: str | None) -> list[dict[str, Any]]:
    """Reports of the last attempt that left any."""
    found = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))] if folder else []
    last = max((one["attempt"] for one in found), default=0)
    return [one for one in found if one["attempt"] == last]


def launch(count: int) -> int:
    """Run this command in `count` processes; returns the exit code of them all.

    If one is killed or fails, the agent ends the others and restarts all, at most `RESTARTS` times; they
    continue from what is saved. Invalid input and signals to the parent end them for good.

    Raises:
        InputError: there are fewer GPUs than that.
    """
    check_gpus(count)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    # Otherwise a restart waits for the crashed rank's store forever (torch 2.14).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    with TemporaryDirectory(prefix="wssis-") as folder:
        os.environ[REPORTS] = folder
        try:
            codes, stopped_by = run_agent(count, folder)
        finally:
            del os.environ[REPORTS]
        return ended(reports(folder), codes, stopped_by) if codes or stopped_by else 0


def ended(found: list[dict[str, Any]], codes: dict[int, int], stopped_by: int = 0) -> int:
    """The exit code of all processes; prints the reason.

    Invalid input comes first. If a signal stopped the parent, the processes that saved say so; otherwise an
    error is the cause, and the other processes were ended because of it.
    """
    killed = {number: -code for number, code in codes.items() if code < 0 and -code != signal.SIGTERM}
    text = "a worker exited without an error message"
    if killed:
        number, how = next(iter(killed.items()))
        text = f"worker {number} was ended by {signal.Signals(how).name}"
    none: dict[str, Any] = {"code": 1, "text": f"wssis: {text}", "time": 0.0}
    if stopped_by:
        what, code = ("interrupted", 130) if stopped_by == signal.SIGINT else ("terminated", 143)
        none = {"code": code, "text": f"wssis: {what}", "time": 0.0}
    order = (2, 143, 130) if stopped_by else (2,) if killed else (2, 1, 143, 130)
    # Of several the first is the cause: the others failed while they waited for that process.
    causes = [one for one in found if one["code"] in order]
    first = min(causes, key=lambda one: (order.index(one["code"]), one["time"]), default=none)
    print(first["text"], file=sys.stderr)
    return int(first["code"])


def check_gpus(count: int) -> None:
    """Refuse more processes than GPUs; on a machine without, they share its cores."""
    import torch

    if torch.cuda.is_available() and count > torch.cuda.device_count():
        raise InputError(
            f"expected at most a process for each GPU, found {count} for {torch.cuda.device_count()}",
            where=paths.PARAMS,
            record="launcher.processes",
            remedy="Lower it",
        )


def run_agent(count: int, folder: str) -> tuple[dict[int, int], int]:
    """Run this very command in `count` processes; the agent's files go to `folder`.

    Returns the exit codes of those that failed, by rank, and the signal that stopped all, or 0.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # of the agent; `launch` prints one line
    os.chdir(paths.dvc_workspace())  # where the command began: a cell of `wssis compare` is elsewhere by now
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=RESTARTS,
        logs_specs=DefaultLogsSpecs(log_dir=folder),
        shutdown_timeout=STEP_S,
    )
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        elastic_launch(config, sys.executable)(*sys.orig_argv[1:])
        return {}, 0
    except ChildFailedError as error:
        return {number: failure.exitcode for number, failure in error.failures.items()}, 0
    except SignalException as error:  # passed on to the processes, which saved their state
        return {}, int(error.sigval)
    finally:
        logging.disable(logging.NOTSET)
        for number, handler in handlers.items():
            signal.signal(number, handler)
