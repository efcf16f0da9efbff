"""Where a run comes from: process, dvc command, git commit, hashes of inputs. Knows no tracker."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from pipelines import paths
from pipelines.params import read_lock

PROCESS_TAG = "wssis.process"  # host:pid of the process that a run belongs to
STARTED_TAG = "wssis.process_started"  # its create time, since pids come round again


def dvc_process() -> psutil.Process | None:
    """The dvc command above this process: one a `dvc repro`, one a queued experiment."""
    for parent in psutil.Process().parents():
        try:
            words = [Path(word).name for word in parent.cmdline()[:3]]
        except psutil.Error:
            continue
        if "dvc" in words[:2] or words[1:] == ["-m", "dvc"]:
            return parent
    return None


def process_tags(process: psutil.Process) -> dict[str, str]:
    """Tags of a run that belongs to `process`, with MLflow's names where it has one."""
    commit, dirty = git_state()
    return {
        PROCESS_TAG: f"{socket.gethostname()}:{process.pid}",
        STARTED_TAG: f"{process.create_time():.2f}",
        "mlflow.user": process.username(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": " ".join(Path(word).name for word in process.cmdline()[:8])[:250],
        "mlflow.source.git.commit": commit,
        "git.dirty": str(dirty),
        **({"dvc.experiment": os.environ["DVC_EXP_NAME"]} if os.environ.get("DVC_EXP_NAME") else {}),
    }


def same_process(tags: Mapping[str, str], process: psutil.Process) -> bool:
    """Create times are computed from the boot time and may be a little off."""
    return abs(float(tags.get(STARTED_TAG, 0)) - process.create_time()) < 5


def still_runs(tags: Mapping[str, str]) -> bool:
    """False if the process of a run was on this machine and is gone."""
    host, _, pid = tags.get(PROCESS_TAG, "").rpartition(":")
    if host != socket.gethostname():
        return True
    try:
        return same_process(tags, psutil.Process(int(pid)))
    except psutil.Error:
        return False


def git_state() -> tuple[str, bool]:
    """Commit of the workspace (not of the project: a queued experiment has its own), and whether dirty."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))


def dvc_inputs(stage: str) -> dict[str, str]:
    """DVC's hashes of a stage's inputs that other stages made: {path: md5}, from dvc.yaml and dvc.lock."""
    if not (paths.DVC_YAML.exists() and paths.DVC_LOCK.exists()):
        return {}
    hashes = dvc_outs(read_lock(paths.DVC_LOCK).get("stages", {}).values())
    return {path: hashes[path] for path in dvc_given(stage) if path in hashes}


def dvc_given(stage: str) -> list[str]:
    """Paths that dvc.yaml gives to a stage: deps, and params files other than params.yaml."""
    entry = read_lock(paths.DVC_YAML)["stages"].get(stage, {})
    files = [path for param in entry.get("params", []) if isinstance(param, dict) for path in param]
    return [*entry.get("deps", []), *files]


def dvc_outs(entries: Iterable[dict[str, Any]]) -> dict[str, str]:
    """{path: hash} of what stages wrote, by their entries in dvc.lock."""
    return {out["path"]: out.get("md5", "") for entry in entries for out in entry.get("outs", [])}
