"""One process at a time: locks that end with the process, and who has them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import IO

from pipelines.provenance import dvc_process, process_id, still_runs
from wssis.errors import InputError
from wssis.files import write_json


def locked(path: Path) -> IO[str] | None:
    """The file, locked until it is closed or the process ends in whatever way; None if another has it.

    A record lock is the process's own: workers that load data, and outlive a killed training by seconds,
    do not inherit it.
    """
    file = open(path, "a+")  # noqa: SIM115 (open as long as the lock is held)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return None
        raise InputError(
            f"cannot be locked ({error.strerror})",
            where=path,
            remedy="Use a file system that has locks (NFS: its lock service must run)",
        ) from error
    dvc = dvc_process()
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "began": time.strftime("%Y-%m-%d %H:%M:%S"),
        "dvc": process_id(dvc) if dvc else None,
    }
    write_json(path.with_suffix(".json"), owner)
    return file


def held(path: Path) -> bool:
    """Whether another process has a lock."""
    with open(path, "a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def taken(stage: str, lock: Path) -> InputError:
    """Who has the lock, and what to do about it."""
    try:
        owner = dict(json.loads(lock.with_suffix(".json").read_text()))
    except (OSError, ValueError, TypeError):
        owner = {}
    pid, dvc, host = owner.get("pid", "unknown"), owner.get("dvc"), owner.get("host", "")
    there = "" if host in ("", socket.gethostname()) else f" on {host}"
    left_over = " and has outlived the dvc that started it" if dvc and not still_runs(dvc) else ""
    return InputError(
        "expected no other process at work on this stage here, "
        f"found process {pid}{there}, which began {owner.get('began', 'just now')}{left_over}",
        where=f"stage {stage}",
        remedy=f"Wait until it ends, or end it{there} with `kill {pid}` (a training then saves its state), "
        "and run again",
    )
