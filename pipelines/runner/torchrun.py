"""Several processes at one training: started by torch's elastic agent (torchrun), watched, begun again.

A stage whose params ask for several becomes their parent, with no lock, run or network of its own. The
first of them leads: what one process does alone is its part (`StageContext.lead`).
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

TOLD = "WSSIS_TOLD"  # environment: the folder where each process says how it ended
RESTARTS = 3
STEP_S = 300  # that a process has to end its step and save, before the agent kills it


def started() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def tell(code: int, text: str) -> int:
    """Say how the process ends, on stderr, or to the parent of several; returns the code."""
    folder = os.environ.get(TOLD)
    if folder is None:
        print(text, file=sys.stderr)
    else:
        said = {"code": code, "text": text, "time": time.time()}
        write_json(Path(folder) / f"{os.environ['RANK']}.json", said)
    return code


def launch(count: int) -> int:
    """Run this command by `count` processes; returns the exit code of them all.

    A process that is killed or fails ends the others. All begin again, from the last state, at most
    `RESTARTS` times; not if the same fault comes again, nor after wrong input or a signal to the parent.

    Raises:
        InputError: there are fewer GPUs than that.
    """
    check_gpus(count)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    before = ""
    for left in reversed(range(RESTARTS + 1)):
        with TemporaryDirectory(prefix="wssis-") as folder:
            os.environ[TOLD] = folder
            codes, asked = run_agent(count, folder)
            said = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
        del os.environ[TOLD]
        killed = {number: -code for number, code in codes.items() if code < 0 and -code != signal.SIGTERM}
        if not codes and not asked:
            return 0
        if asked or any(one["code"] == 2 for one in said):
            return ended(said, asked)
        if killed:  # those that are left behind fail, or are asked to stop, because of it
            number, how = next(iter(killed.items()))
            why = f"process {number} was ended by {signal.Signals(how).name}"
        else:
            faults = sorted((one for one in said if one["code"] == 1), key=lambda one: one["time"])
            why = f"a process failed ({faults[0]['text'].splitlines()[-1]})" if faults else before
            if why == before or not left:
                return ended(said)
            before = why
        what = "all begin again from the last state" if left else "this was the last attempt"
        print(f"{why}; {what}", file=sys.stderr)
    return 1


def ended(said: list[dict[str, Any]], asked: int = 0) -> int:
    """The exit code of all; one says why.

    Wrong input comes first. If a signal `asked` the parent to stop, those that saved say so; otherwise a
    fault is the cause, and the others were asked to stop because of it.
    """
    none: dict[str, Any] = {"code": 1, "text": "a process ended without a word", "time": 0.0}
    if asked:
        what, code = ("interrupted", 130) if asked == signal.SIGINT else ("terminated", 143)
        none = {"code": code, "text": f"wssis: {what}", "time": 0.0}
    order = (2, 143, 130) if asked else (2, 1, 143, 130)
    # Of alike ones the first is the cause; whoever waited for that process then fails as well.
    found = [one for one in said if one["code"] in order]
    first = min(found, key=lambda one: (order.index(one["code"]), one["time"]), default=none)
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

    Returns the exit codes of those that failed, by number, and the signal that asked all to stop, or 0.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable(logging.CRITICAL)  # of the agent, which tells what `launch` tells in a line
    os.chdir(paths.dvc_workspace())  # where the command began: a cell of `wssis compare` is elsewhere by now
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
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
