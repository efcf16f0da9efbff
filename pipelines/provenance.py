"""Where a run comes from: process, dvc command, git commit, hashes of inputs. Knows no tracker."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from pipelines import paths
from pipelines.code_digests import stage_digest
from pipelines.config.params import read_lock
from wssis.errors import InputError

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


def process_id(process: psutil.Process) -> dict[str, str]:
    """Tags that name a process of any machine."""
    return {
        PROCESS_TAG: f"{socket.gethostname()}:{process.pid}",
        STARTED_TAG: f"{process.create_time():.2f}",
    }


def process_tags(process: psutil.Process) -> dict[str, str]:
    """Tags of a run that belongs to `process`, with MLflow's names where it has one."""
    commit, dirty = git_state()
    return {
        **process_id(process),
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
        process = psutil.Process(int(pid))
        # A killed process stays as a zombie until its parent asks for it.
        return process.status() != psutil.STATUS_ZOMBIE and same_process(tags, process)
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
    return [*entry.get("deps", []), *params_files(entry)]


def params_files(entry: Mapping[str, Any]) -> list[str]:
    """Params files of a stage's entry in dvc.yaml other than params.yaml."""
    return [path for param in entry.get("params", []) if isinstance(param, dict) for path in param]


def code_inputs(entry: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the code that runs, by the keys of code.json that a stage's entry in dvc.yaml names."""
    named = [param[str(paths.CODE)] for param in entry.get("params", []) if str(paths.CODE) in param]
    return {f"{paths.CODE}:{key}": stage_digest(key) for keys in named for key in keys}


def dvc_outs(entries: Iterable[dict[str, Any]]) -> dict[str, str]:
    """{path: hash} of what stages wrote, by their entries in dvc.lock."""
    return {out["path"]: out.get("md5", "") for entry in entries for out in entry.get("outs", [])}


def dep_digests(stage: str) -> dict[str, str]:
    """Digest of the content of each of a stage's deps in dvc.yaml, and of its code: {path: sha256}.

    Unlike `dvc_inputs` it reads the files as they are, and the code that runs. In a cell of `wssis compare`
    the same stage has the files of the cell.

    Raises:
        InputError: one is missing.
    """
    listed = paths.dvc_workspace() / paths.DVC_YAML
    if not listed.exists():
        raise InputError("does not exist", where=listed, remedy="Run it in the project's folder")
    entry = read_lock(listed)["stages"][stage]
    found = code_inputs(entry)
    for dep in entry["deps"]:
        if not Path(dep).exists():
            raise InputError("does not exist", where=dep, remedy=f"Run `dvc repro {stage}`, which makes it")
        found[dep] = content_digest(Path(dep))
    return found


def stage_inputs(stage: str, times: bool = True) -> dict[str, str] | None:
    """Digest of all files that a stage depends on, code included: {path: digest}; None if DVC knows none.

    In a cell of `wssis compare`, and of a row there ("train ours"), by compare/dvc.yaml. Files and code are
    read; folders of images are identified by names, sizes and times (without times where `times` is false, as
    for another machine); in a queued experiment, which has copies, by dvc.lock.
    """
    workspace, cell = paths.dvc_workspace(), paths.cell()
    listed = workspace / (paths.COMPARE_YAML if cell else paths.DVC_YAML)
    name, _, row = stage.partition(" ")
    entry = read_lock(listed)["stages"].get(name) if listed.exists() else None
    if entry is None:
        return None
    hashes: dict[str, str] = {}
    if paths.in_queued_experiment() and (workspace / paths.DVC_LOCK).exists():
        hashes = dvc_outs(read_lock(workspace / paths.DVC_LOCK).get("stages", {}).values())
    found = code_inputs(entry)
    files = [path for path in params_files(entry) if path != str(paths.CODE)]
    for given in (*entry.get("deps", []), *files):
        dep = given.replace("${item.fraction}-${item.seed}", cell).replace("${item.row}", row)
        path = workspace / dep
        if dep in (str(paths.PREPARED_TRAIN_IMAGES), str(paths.PREPARED_VAL_IMAGES)):
            found[dep] = hashes.get(dep) or listing_digest(path, times)
        else:
            found[dep] = content_digest(path)
    return found


def listing_digest(folder: Path, times: bool = True) -> str:
    """sha256 of the names, sizes and, optionally times of a folder's files: quick for gigabytes."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        about = path.stat()
        when = about.st_mtime_ns if times else ""
        size = about.st_size if times or path.is_file() else ""  # a folder's depends on the disk
        whole.update(f"{path.relative_to(folder)} {size} {when}\n".encode())
    return whole.hexdigest()


def content_digest(path: Path) -> str:
    """sha256 of a file, or of a folder's files with their names; what Python leaves behind is left out."""
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    whole = hashlib.sha256()
    for file_path in sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        whole.update(f"{file_path.relative_to(path)} {content_digest(file_path)}\n".encode())
    return whole.hexdigest()
