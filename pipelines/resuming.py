"""What a killed stage goes on from: its scratch folder, under a lock, named after all that the stage uses.

`.scratch/stages/<stage>/<fingerprint>/` of the project; a cell of `wssis compare` has a folder of its own
there, and queued experiments share one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pipelines import paths
from pipelines.journal import Journal
from pipelines.params import Params, flatten
from pipelines.provenance import dvc_process, process_id, stage_inputs, still_runs
from pipelines.sharding import Shard
from wssis.errors import InputError
from wssis.files import write_json

if TYPE_CHECKING:
    from pipelines.stage import Stage
    from wssis.resume import Resume

QUEUED_DAYS = 7  # after which what a killed experiment left is removed
SHARDS_VARIABLE = "WSSIS_SHARDS"  # environment: a folder for all that shards leave, such as a shared one
SHARE_VARIABLE = "WSSIS_SAVING_SHARE"  # environment: of a training's time that saving may take


class Scratch:
    """A stage's folder for what outlives a kill; without a folder nothing does.

    Args:
        folder: of this process.
        shards: where shards leave their journals.
        shard: which of them this process is.
    """

    def __init__(
        self, folder: Path | None = None, shards: Path | None = None, shard: Shard | None = None
    ) -> None:
        self.folder, self.shards, self.shard = folder, shards, shard

    @property
    def run_id(self) -> str | None:
        """Id of the run in MLflow that goes on."""
        try:
            return str(json.loads((self.folder / "run.json").read_text())["run"]) if self.folder else None
        except (OSError, ValueError, KeyError):
            return None

    def keep_run(self, run_id: str | None) -> None:
        """Keep a run's id for a process that goes on."""
        if self.folder and run_id:
            write_json(self.folder / "run.json", {"run": run_id})

    def journal(self, name: str) -> Journal:
        """Results by image, see `Journal`: a shard's own, or all that there are."""
        if self.shard and self.shards:
            share = self.shard.number - 1, self.shard.count
            return Journal(self.shards / f"{name}.{self.shard}.jsonl", share=share)
        others = sorted(self.shards.glob(f"{name}.*.jsonl")) if self.shards else []
        return Journal(self.folder and self.folder / f"{name}.jsonl", others)

    def clear(self) -> None:
        """Remove all: the stage is done."""
        for folder in (self.folder, self.shards):
            if folder:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def open_scratch(
    stage: str,
    params: Params,
    sections: Sequence[str],
    leads: bool = True,
    shard: Shard | None = None,
) -> Iterator[Scratch]:
    """The stage's scratch, of no other process meanwhile; what other params or inputs left is removed.

    Processes that train together have the scratch of the one that `leads`, and only read there.

    Raises:
        InputError: another process runs this stage, or this shard, here; a shard of no stage of DVC's.
    """
    inputs = stage_inputs(stage)
    if inputs is None and shard:
        raise InputError(
            f"expected the stage {stage} in {paths.DVC_YAML}, found none: nothing says whose shard it is",
            where=f"--shard {shard.number}/{shard.count}",
            remedy="Run it in the project's folder",
        )
    if inputs is None:  # no stage of DVC's
        yield Scratch()
        return
    if shard:
        with shard_scratch(stage, shards_folder(stage, params, sections), shard) as scratch:
            yield scratch
        return
    name = fingerprint(stage, params, sections, inputs)
    home = paths.project_root() / paths.SCRATCH / "stages"
    queued = paths.in_queued_experiment()
    home = home / "queued" if queued else home
    home = home / paths.cell() / stage.replace(" ", "-")
    if not leads:
        yield Scratch(home / name)
        return
    home.mkdir(parents=True, exist_ok=True)
    # Experiments have outs of their own; alike ones may run side by side, and the later one keeps nothing.
    lock = locked(home / f"{name}.lock" if queued else home / "lock")
    if lock is None and not queued:
        raise taken(stage, home / "lock")
    folder = home / name if lock else None
    for old in home.iterdir():
        if old.is_dir() and old != folder and (not queued or is_old(old)):
            shutil.rmtree(old, ignore_errors=True)
    try:
        yield Scratch(folder, folder and shards_folder(stage, params, sections))
    finally:
        if lock:
            lock.close()


def shards_folder(stage: str, params: Params, sections: Sequence[str]) -> Path:
    """Where shards leave their journals; its name is the same on each machine with the same inputs."""
    inputs = stage_inputs(stage, times=False) or {}
    home = paths.project_root() / os.environ.get(SHARDS_VARIABLE, paths.SCRATCH / "shards")
    return home / paths.cell() / stage.replace(" ", "-") / fingerprint(stage, params, sections, inputs)


@contextmanager
def shard_scratch(stage: str, folder: Path, shard: Shard) -> Iterator[Scratch]:
    """The scratch of one shard, of no other process meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{shard}.lock"
    lock = locked(path)
    if lock is None:
        raise taken(f"{stage} --shard {shard.number}/{shard.count}", path)
    with lock:
        yield Scratch(None, folder, shard)


def fingerprint(stage: str, params: Params, sections: Sequence[str], inputs: dict[str, str]) -> str:
    """Of all that a stage's results hang on: params, inputs, code, torch."""
    used = {name: value for s in sections for name, value in flatten(getattr(params, s), s).items()}
    whole = json.dumps([stage, used, inputs, version("torch")], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def locked(path: Path) -> IO[str] | None:
    """The file, locked until it is closed or the process ends in whatever way; None if another has it.

    A record lock is the process's own: workers that load data, and outlive a killed training by seconds,
    do not inherit it.
    """
    file = open(path, "a+")  # noqa: SIM115 (open as long as the lock is held)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    dvc = dvc_process()
    owner = {
        "pid": os.getpid(),
        "began": time.strftime("%Y-%m-%d %H:%M:%S"),
        "dvc": process_id(dvc) if dvc else None,
    }
    write_json(path.with_suffix(".json"), owner)
    return file


def taken(stage: str, lock: Path) -> InputError:
    """Who has the lock, and what to do about it."""
    try:
        owner = json.loads(lock.with_suffix(".json").read_text())
    except (OSError, ValueError):
        owner = {}
    pid, dvc = owner.get("pid", "unknown"), owner.get("dvc")
    left_over = " and has outlived the dvc that started it" if dvc and not still_runs(dvc) else ""
    return InputError(
        "expected no other process at work on this stage here, "
        f"found process {pid}, which began {owner.get('began', 'just now')}{left_over}",
        where=f"stage {stage}",
        remedy=f"Wait until it ends, or end it with `kill {pid}` (a training then saves its state), "
        "and run again",
    )


def is_old(folder: Path) -> bool:
    """Whether nothing in it has changed for days."""
    changed = [path.stat().st_mtime for path in (folder, *folder.rglob("*"))]
    return time.time() - max(changed) > QUEUED_DAYS * 86400


@contextmanager
def resumable(stage: Stage) -> Iterator[Resume | None]:
    """What a stage gives to its training, so that it goes on after a kill and saves when it is to stop.

    None where the stage has no scratch. What saving cost is said and noted at the end.
    """
    from wssis.distributed import in_any, rank
    from wssis.resume import SHARE, Resume, TrainingStopped

    folder, stopping = stage.scratch.folder, stage.stopping
    if folder is None:
        yield None
        return
    share = float(os.environ.get(SHARE_VARIABLE, SHARE))
    resume = Resume(
        folder / "training",
        share,
        stop=lambda: in_any(stopping.asked is not None),
        before_save=stage.tracker.flush,
        writes=rank() == 0,
    )
    if resume.step:
        stage.say(f"goes on after step {resume.step}")
        stage.tracker.tags({"wssis.resumed_at_step": resume.step})
    try:
        with stopping.waiting():
            yield resume
    except TrainingStopped as stopped:
        raise stopping.error(f"step {stopped.step} is saved; `dvc repro` goes on from there") from None
    except RuntimeError as error:
        # A signal to the whole group of processes ends the workers that load data, too.
        if stopping.asked is None:
            raise
        raise stopping.error(f"step {resume.step} is saved; `dvc repro` goes on from there") from error
    cost = resume.spent / max(resume.seconds_now, 1e-9)
    if resume.saves:
        stage.say(f"saving its state took {cost:.1%} of the training's time ({resume.saves} saved)")
    stage.tracker.metrics({"time/saving_share": cost, "time/saving_seconds": resume.spent})
