"""Runs a stage: params, scratch folder, MLflow run, processes, exit codes.

Exit codes: 0 done; 2 invalid input or call, one line on stderr; 130 interrupted; 143 terminated; 141 broken
pipe; 1 anything else, with its traceback.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import paths
from pipelines.config.params import Params, load_params
from pipelines.runner import torchrun
from pipelines.runner.resume_training import resumable
from pipelines.runner.scratch import Scratch, open_scratch
from pipelines.runner.signals import Stopping, Terminated
from pipelines.runner.training_log import TrainingLog
from pipelines.tracking.tracker import NullTracker, open_tracker
from wssis.errors import InputError

if TYPE_CHECKING:
    from pipelines.runner.result_journal import Journal
    from wssis.data.coco import CocoData
    from wssis.training.state import Resume


# What a disk or its owner refuses is no fault of ours.
NOT_OURS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EFBIG, errno.ESTALE)


class WorkerDone(Exception):
    """This worker has finished; only rank 0 continues."""


@dataclass
class Outcome:
    """What a stage wants logged; the runner logs it.

    Attributes:
        metrics: of the stage's run.
        metrics_at: metrics by training step.
        headline: metrics that the parent run shows as well.
        params, tags: of the stage's run.
        files: files or folders with the artifact folder that they go to.
        pictures: (name, uint8 (3, H, W), step); a generator is consumed only if they are kept.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    metrics_at: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    headline: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[tuple[Path, str]] = ()
    pictures: Iterable[tuple[str, Any, int]] = ()


@dataclass
class StageContext:
    """A stage at work.

    Attributes:
        name: as in dvc.yaml.
        params: all params; a stage reads only the sections that dvc.yaml names for it.
        tracker: its run in MLflow, or one that logs nothing.
        scratch: what survives a kill.
        stopping: whether a signal asks it to stop.
    """

    name: str
    params: Params
    tracker: NullTracker = field(default_factory=NullTracker)
    scratch: Scratch = field(default_factory=Scratch)
    stopping: Stopping = field(default_factory=Stopping)

    def journal(self, name: str) -> Journal:
        """Results by image under this name, those of a killed stage included; of rank 0 only."""
        return self.scratch.journal(name)

    @contextmanager
    def training(self, steps: int) -> Iterator[tuple[TrainingLog, Resume | None]]:
        """The log of a training of `steps` steps, and the state that it resumes from and saves to."""
        with (
            resumable(self.scratch, self.stopping, self.tracker, self.say) as resume,
            TrainingLog(self.name, steps, self.tracker, resume) as log,
        ):
            yield log, resume

    def exit_unless_rank_zero(self) -> None:
        """End the other processes of a distributed stage.

        Raises:
            WorkerDone: in every process but rank 0.
        """
        from wssis.distributed import rank

        if rank():
            raise WorkerDone

    @property
    def run_id(self) -> str | None:
        """Id of the stage's run in MLflow; None if it is not tracked."""
        return self.tracker.run_id

    def say(self, message: str) -> None:
        """A line for the person who waits."""
        print(f"{self.name}: {message}", flush=True)

    @property
    def device(self) -> str:
        """Where networks lie: the first GPU where there is one."""
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    @staticmethod
    def load(path: Path) -> CocoData:
        """Annotations of an earlier stage; their images are found from a queued experiment, too."""
        from wssis.data.coco import load_coco  # commands that load no data need not wait for torch

        data = load_coco(path)
        return replace(data, image_dir=str(paths.source(data.image_dir)))


def with_objects(strong: CocoData, where: Path) -> CocoData:
    """The data, if a refiner can learn of it.

    Raises:
        InputError: it shows no object.
    """
    if not strong.num_objects:
        raise InputError(
            "expected an object to learn refining from, found none on any strong image",
            where=where,
            remedy="Raise split.strong or change seed",
        )
    return strong


Body = Callable[[StageContext], Outcome | None]
REPLACED = "Set `launcher: {kind: torchrun, processes: N}` in params.yaml, or use torchrun: docs/scale.md"


def run(
    name: str, body: Body, sections: tuple[str, ...], resumable: bool = True, distributed: bool = False
) -> int:
    """Run a stage with params, scratch folder and MLflow run; returns the exit code.

    Args:
        name: of the stage in dvc.yaml.
        body: its work; what it returns is logged.
        sections: params that it uses, as dvc.yaml lists them.
        resumable: whether, after a kill, it continues the same run in MLflow.
        distributed: whether several processes share it, as `launcher` says or torchrun started them.
    """
    return exit_code(lambda: _start(name, body, sections, resumable, distributed))


def _start(name: str, body: Body, sections: tuple[str, ...], resumable: bool, distributed: bool) -> int:
    if "WSSIS_SHARDS" in os.environ or any(word.startswith("--shard") for word in sys.argv[1:]):
        raise InputError("--shard and WSSIS_SHARDS were removed", where=f"stage {name}", remedy=REPLACED)
    params = load_params(paths.PARAMS)
    if not distributed or (params.launcher.count == 1 and not torchrun.started()):
        _run(name, body, params, sections, resumable)
    elif not torchrun.started():
        return torchrun.launch(params.launcher.count)
    elif torchrun.refused():
        return 2
    else:
        from wssis.distributed import in_any, joined, rank

        def met(stage: StageContext) -> Outcome | None:
            # Nobody looks for a saved state before rank 0 holds the lock; without its folder nobody has one.
            if not in_any(rank() == 0 and stage.scratch.folder is not None):
                stage.scratch.folder = None
            return body(stage)

        with joined(), suppress(WorkerDone):
            if rank():
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
            elif torchrun.restarts():
                print(f"{name}: restart {torchrun.restarts()}, continues from what is saved", flush=True)
            _run(name, met, params, sections, resumable, leads=rank() == 0)
    return 0


def _run(
    name: str, body: Body, params: Params, sections: tuple[str, ...], resumable: bool, leads: bool = True
) -> None:
    with open_scratch(name, params, sections, leads) as scratch, Stopping() as stopping:
        keep = scratch.keep_run if resumable else lambda run_id: None
        tracker = open_tracker(name, params, sections, scratch.run_id, keep) if leads else NullTracker()
        try:
            outcome = body(StageContext(name, params, tracker, scratch, stopping))
            log(tracker, outcome or Outcome())
        except BaseException as error:
            reason = f"{type(error).__name__}: {error}"
            tracker.close(reason, killed=isinstance(error, KeyboardInterrupt | Terminated))
            if out_of_memory(error):
                raise gpu_is_full(name, error) from error
            raise
        tracker.close()
        scratch.done()


def log(tracker: NullTracker, outcome: Outcome) -> None:
    """Log what a stage returned."""
    tracker.metrics(outcome.metrics)
    for step, metrics in outcome.metrics_at.items():
        tracker.metrics(metrics, step)
    tracker.headline(outcome.headline)
    tracker.params(outcome.params)
    tracker.tags(outcome.tags)
    for path, folder in outcome.files:
        tracker.file(path, folder)
    if tracker.run_id is not None:
        for name, picture, step in outcome.pictures:
            tracker.picture(name, picture, step)


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU's memory is full."""
    torch = sys.modules.get("torch")  # without it nothing was on a GPU
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def gpu_is_full(name: str, error: BaseException) -> InputError:
    """What to lower, by stage."""
    first = name.split()[0]
    section = {"strong_only": "student", "train": "student", "tune_refiner": "refiner"}.get(first, first)
    lower = {
        "teacher": "teacher.train.batch_size or augment.crop",
        "student": "student.train.batch_size or augment.crop",
        "refiner": "refiner.train.batch_size or refiner.model.crop",
        "evaluate": "evaluate.batch_size or resize.scale",
    }.get(section, "resize.scale (or resize.short)")
    return InputError(
        f"the GPU's memory is full ({str(error).split('. ')[0]})",
        where=f"stage {name}",
        remedy=f"Lower {lower} in {paths.PARAMS}, or end what else uses the GPU",
    )


def exit_code(work: Callable[[], int | None]) -> int:
    """Do the work; wrong input is one line on stderr and 2, a signal 130 or 143, any other error 1."""
    report = torchrun.report
    try:
        return work() or 0
    except InputError as error:
        return report(2, f"wssis: {error}")
    except KeyboardInterrupt as how:
        return report(130, f"wssis: interrupted{f': {how}' if str(how) else ''}")
    except Terminated as how:
        return report(143, f"wssis: terminated{f': {how}' if str(how) else ''}")
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        place = error.filename or "the disk"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return report(2, f"wssis: {place}: no space left. Free some and run again")
        if error.errno in NOT_OURS:
            remedy = "Check that it is there, who may write to it, and the limits of this process"
            return report(2, f"wssis: {place}: cannot be used ({error.strerror}). {remedy}")
        return report(1, traceback.format_exc().rstrip())
    except Exception:
        return report(1, traceback.format_exc().rstrip())
