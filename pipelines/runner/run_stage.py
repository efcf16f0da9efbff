"""What every stage and command has around its work: params, a run, exit codes.

0 done; 2 the input or the call is wrong, one line on stderr; 130 interrupted; 143 terminated; 141 nobody
reads the output any more; 1 anything else, with its traceback.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import paths
from pipelines.config.params import Params, load_params
from pipelines.runner import torchrun
from pipelines.runner.scratch import Scratch, open_scratch
from pipelines.runner.shards import Shard, asked, run_shards
from pipelines.runner.signals import Stopping, Terminated
from pipelines.tracking.tracker import NullTracker, open_tracker
from wssis.errors import InputError

if TYPE_CHECKING:
    from pipelines.runner.result_journal import Journal
    from wssis.data.records import CocoData


# What a disk or its owner refuses is no fault of ours.
NOT_OURS = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EFBIG, errno.ESTALE)


class WorkerDone(Exception):
    """The part of this process in the work of several is done."""


@dataclass
class StageContext:
    """A stage at work.

    Attributes:
        name: as in dvc.yaml.
        params: all params; a stage reads only the sections that dvc.yaml names for it.
        tracker: its run in MLflow, or one that notes nothing.
        scratch: what a killed stage goes on from, or nothing.
        stopping: whether a signal asks it to end.
    """

    name: str
    params: Params
    tracker: NullTracker = field(default_factory=NullTracker)
    scratch: Scratch = field(default_factory=Scratch)
    stopping: Stopping = field(default_factory=Stopping)

    def journal(self, name: str) -> Journal:
        """Results by image of this name, those of a killed stage and of shards included."""
        found = self.scratch.journal(name)
        if found.taken:
            self.say(f"{name}: takes over {found.taken} from shards")
        return found

    def whole(self) -> None:
        """Ends a shard: what follows is for the process that has the results of all.

        Raises:
            WorkerDone: in a shard.
        """
        if self.scratch.shard:
            self.say(f"shard {self.scratch.shard} is done")
            raise WorkerDone

    def lead(self) -> None:
        """Ends the other processes of a training: what follows is for one, which all have the result of.

        Raises:
            WorkerDone: in each but the first.
        """
        from wssis.distributed import rank

        if rank():
            raise WorkerDone

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


def run(
    name: str,
    body: Callable[[StageContext], None],
    sections: tuple[str, ...],
    goes_on: bool = True,
    together: bool = False,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a stage's body with params and tracking; returns the exit code.

    Args:
        name: of the stage in dvc.yaml.
        body: its work.
        sections: params that it uses, as dvc.yaml lists them.
        goes_on: whether, after a kill, it goes on with the same run in MLflow.
        together: whether it is a training, that as many processes share as `launcher` says.
        arguments: of the command line, of a stage whose images can be shared out (`--shard`).
    """
    if arguments is not None:
        return exit_code(lambda: _start_shards(name, body, sections, arguments))
    if any(word.startswith("--shard") for word in sys.argv[1:]):
        return exit_code(lambda: refuse_shard(name))
    return exit_code(lambda: _start(name, body, sections, goes_on, together))


def refuse_shard(name: str) -> None:
    """Tell that a stage's work is not shared out by images."""
    raise InputError(
        "expected no --shard: its work is one piece",
        where=f"stage {name}",
        remedy="Stages rough, pseudo and evaluate can be shared out; trainings by `launcher` in params.yaml",
    )


def _start_shards(
    name: str, body: Callable[[StageContext], None], sections: tuple[str, ...], arguments: Sequence[str]
) -> int:
    """A shard; or all of them by as many processes as `launcher` says, and then what is one's work."""
    shard, params = asked(arguments), load_params(paths.PARAMS)
    if shard is None and params.launcher.count > 1 and (code := run_shards(params.launcher.count)):
        return code
    with suppress(WorkerDone):
        _run(name, body, params, sections, shard=shard)
    return 0


def _start(
    name: str, body: Callable[[StageContext], None], sections: tuple[str, ...], goes_on: bool, together: bool
) -> int:
    params = load_params(paths.PARAMS)
    if not together or (params.launcher.count == 1 and not torchrun.started()):
        _run(name, body, params, sections, goes_on)
    elif not torchrun.started():
        return torchrun.launch(params.launcher.count)
    else:
        from wssis.distributed import in_any, joined, rank

        def met(stage: StageContext) -> None:
            # Nobody looks for a state before the first process has the lock; if it has none, nobody does.
            if not in_any(rank() == 0 and stage.scratch.folder is not None):
                stage.scratch.folder = None
            body(stage)

        with joined(), suppress(WorkerDone):
            if rank():
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
            _run(name, met, params, sections, goes_on, leads=rank() == 0)
    return 0


def _run(
    name: str,
    body: Callable[[StageContext], None],
    params: Params,
    sections: tuple[str, ...],
    goes_on: bool = True,
    leads: bool = True,
    shard: Shard | None = None,
) -> None:
    with open_scratch(name, params, sections, leads, shard) as scratch, Stopping() as stopping:
        keep = scratch.keep_run if goes_on else lambda run_id: None
        opens = leads and not shard
        tracker = open_tracker(name, params, sections, scratch.run_id, keep) if opens else NullTracker()
        try:
            body(StageContext(name, params, tracker, scratch, stopping))
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
            tracker.close(told, killed=isinstance(error, KeyboardInterrupt | Terminated))
            if out_of_memory(error):
                raise gpu_is_full(name, error) from error
            raise
        tracker.close()
        scratch.done()


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
    tell = torchrun.tell
    try:
        return work() or 0
    except InputError as error:
        return tell(2, f"wssis: {error}")
    except KeyboardInterrupt as how:
        return tell(130, f"wssis: interrupted{f': {how}' if str(how) else ''}")
    except Terminated as how:
        return tell(143, f"wssis: terminated{f': {how}' if str(how) else ''}")
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        place = error.filename or "the disk"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return tell(2, f"wssis: {place}: no space left. Free some and run again")
        if error.errno in NOT_OURS:
            remedy = "Check that it is there, who may write to it, and the limits of this process"
            return tell(2, f"wssis: {place}: cannot be used ({error.strerror}). {remedy}")
        return tell(1, traceback.format_exc().rstrip())
    except Exception:
        return tell(1, traceback.format_exc().rstrip())
