"""What a killed stage goes on from: its scratch folder, under a lock, named after all that the stage uses.

`.scratch/stages/<stage>/<fingerprint>/` of the project; a cell of `wssis compare` has a folder of its own
there, and queued experiments share one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import paths
from pipelines.config.params import Params, flatten
from pipelines.provenance import dvc_process, stage_inputs
from pipelines.runner.result_journal import Journal
from pipelines.runner.shards import Shard
from pipelines.runner.stage_lock import held, locked, taken
from wssis.errors import InputError
from wssis.files import write_json

if TYPE_CHECKING:
    from pipelines.runner.run_stage import StageContext
    from wssis.training.state import Resume

QUEUED_DAYS = 7  # after which what a killed experiment left is removed
DONE = "done.json"  # in a folder whose stage is done, until DVC has recorded it
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
        except (OSError, ValueError, KeyError, TypeError):
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

    def done(self) -> None:
        """The stage is done: what it kept goes, where DVC started it as soon as DVC has recorded its outs.

        DVC may be killed before, or find its disk full. Then it removes the outs and runs the stage again.
        """
        if self.folder and self.folder.exists() and dvc_process():
            lock = lock_file()
            state = {"lock": str(lock), "changed": changed(lock), "shards": str(self.shards or "")}
            write_json(self.folder / DONE, state)
        else:
            self.clear()

    def clear(self) -> None:
        """Remove all."""
        remove(self.folder, self.shards)


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
    if leads:
        remove_recorded(home)
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
    if folder:
        (folder / DONE).unlink(missing_ok=True)
    for old in home.iterdir():
        if old.is_dir() and old != folder and (not queued or is_old(old)):
            shutil.rmtree(old, ignore_errors=True)
    try:
        yield Scratch(folder, folder and shards_folder(stage, params, sections))
    finally:
        if lock:
            lock.close()


def lock_file() -> Path:
    """Where DVC records what the stage at work has written."""
    listed = paths.COMPARE_YAML if paths.cell() else paths.DVC_YAML
    return (paths.dvc_workspace() / listed).with_suffix(".lock")


def changed(path: Path) -> int:
    """When a file was last written, in nanoseconds; 0 if it is not there."""
    return path.stat().st_mtime_ns if path.exists() else 0


def remove_recorded(home: Path) -> None:
    """Remove what stages kept that are done, if DVC has written its record since, as it does after each."""
    for folder, _, files in os.walk(home):  # other processes may remove as well
        if DONE not in files:
            continue
        try:
            kept = json.loads(Path(folder, DONE).read_text())
            if changed(Path(kept["lock"])) != kept["changed"]:
                remove(Path(folder), Path(kept["shards"]) if kept["shards"] else None)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another process was faster, or a kill left half a note


def remove(folder: Path | None, shards: Path | None) -> None:
    """Remove a stage's folder, and what shards left unless one of them is at work."""
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    if shards and not any(held(path) for path in shards.glob("*.lock")):
        shutil.rmtree(shards, ignore_errors=True)


def shards_folder(stage: str, params: Params, sections: Sequence[str]) -> Path:
    """Where shards leave their journals; its name is the same on each machine with the same inputs."""
    inputs = stage_inputs(stage, times=False) or {}
    home = paths.project_root() / os.environ.get(SHARDS_VARIABLE, paths.SCRATCH / "shards")
    return home / paths.cell() / stage.replace(" ", "-") / fingerprint(stage, params, sections, inputs)


@contextmanager
def shard_scratch(stage: str, folder: Path, shard: Shard) -> Iterator[Scratch]:
    """The scratch of one shard, of no other process meanwhile."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot be made ({error.strerror})",
            where=folder,
            remedy=f"Mend {SHARDS_VARIABLE}, or mount the disk that it names",
        ) from error
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


def is_old(folder: Path) -> bool:
    """Whether nothing in it has changed for days."""
    changed = [path.stat().st_mtime for path in (folder, *folder.rglob("*"))]
    return time.time() - max(changed) > QUEUED_DAYS * 86400


def saving_share(default: float) -> float:
    """Of a training's time, what saving may take.

    Raises:
        InputError: the environment says something else than a number from 0.
    """
    given = os.environ.get(SHARE_VARIABLE, str(default))
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not share >= 0:
        raise InputError(
            f"expected a number from 0 (0.02 is 2 % of a training's time), found {given!r}",
            where=f"the environment variable {SHARE_VARIABLE}",
            remedy="Mend it, or unset it",
        )
    return share


@contextmanager
def resumable(stage: StageContext) -> Iterator[Resume | None]:
    """What a stage gives to its training, so that it goes on after a kill and saves when it is to stop.

    None where the stage has no scratch. What saving cost is said and noted at the end.
    """
    from wssis.distributed import in_any, rank
    from wssis.training.state import SHARE, Resume, TrainingStopped

    folder, stopping = stage.scratch.folder, stage.stopping
    if folder is None:
        yield None
        return
    resume = Resume(
        folder / "training",
        saving_share(SHARE),
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
