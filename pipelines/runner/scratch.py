"""What a killed stage resumes from: its scratch folder, under a lock, named after all that the stage uses.

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

from pipelines import paths
from pipelines.config.params import Params, flatten
from pipelines.provenance import dvc_process, stage_inputs
from pipelines.runner.result_journal import Journal
from pipelines.runner.stage_lock import locked, taken
from wssis.files import write_json

QUEUED_DAYS = 7  # after which what a killed experiment left is removed
DONE = "done.json"  # in a folder whose stage is done, until DVC has recorded it


class Scratch:
    """A stage's folder for what survives a kill; without a folder nothing does.

    Args:
        folder: of this process.
        leads: whether this process is rank 0, which alone writes results.
    """

    def __init__(self, folder: Path | None = None, leads: bool = True) -> None:
        self.folder, self.leads = folder, leads

    @property
    def run_id(self) -> str | None:
        """Id of the MLflow run to resume."""
        try:
            return str(json.loads((self.folder / "run.json").read_text())["run"]) if self.folder else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep_run(self, run_id: str | None) -> None:
        """Keep a run's id for the process that resumes it."""
        if self.folder and run_id:
            write_json(self.folder / "run.json", {"run": run_id})

    def journal(self, name: str) -> Journal:
        """Results by image under this name, those of a killed stage included."""
        return Journal(self.folder / f"{name}.jsonl" if self.folder and self.leads else None)

    def done(self) -> None:
        """The stage is done: what it kept goes, where DVC started it as soon as DVC has recorded its outs.

        DVC may be killed before, or find its disk full. Then it removes the outs and runs the stage again.
        """
        if self.folder and self.folder.exists() and dvc_process():
            lock = lock_file()
            write_json(self.folder / DONE, {"lock": str(lock), "changed": changed(lock)})
        else:
            self.clear()

    def clear(self) -> None:
        """Remove everything that the stage saved."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def open_scratch(
    stage: str, params: Params, sections: Sequence[str], leads: bool = True
) -> Iterator[Scratch]:
    """The stage's scratch folder, locked; what other params or inputs left is removed.

    Of several processes only rank 0, which `leads`, locks and writes it.

    Raises:
        InputError: another process runs this stage here.
    """
    inputs = stage_inputs(stage)
    if inputs is None:  # not a stage of dvc.yaml
        yield Scratch(leads=leads)
        return
    name = fingerprint(stage, params, sections, inputs)
    home = paths.project_root() / paths.SCRATCH / "stages"
    if leads:
        remove_recorded(home)
    queued = paths.in_queued_experiment()
    home = home / "queued" if queued else home
    home = home / paths.cell() / stage.replace(" ", "-")
    if not leads:
        yield Scratch(home / name, leads=False)
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
        yield Scratch(folder)
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
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # another process was faster, or a kill left half a note


def fingerprint(stage: str, params: Params, sections: Sequence[str], inputs: dict[str, str]) -> str:
    """Of all that a stage's results depend on: params, inputs, code, torch."""
    used = {name: value for s in sections for name, value in flatten(getattr(params, s), s).items()}
    whole = json.dumps([stage, used, inputs, version("torch")], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def is_old(folder: Path) -> bool:
    """Whether nothing in it has changed for days."""
    changed = [path.stat().st_mtime for path in (folder, *folder.rglob("*"))]
    return time.time() - max(changed) > QUEUED_DAYS * 86400
