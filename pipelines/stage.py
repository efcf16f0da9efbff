"""What every stage and command has around its work: params, a run, exit codes.

0 done; 2 the input or the call is wrong, one line on stderr; 130 interrupted; 141 nobody reads the output any
more; 1 anything else, with its traceback.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import paths
from pipelines.params import Params, load_params
from pipelines.tracking import NullTracker, open_tracker
from wssis.errors import InputError

if TYPE_CHECKING:
    from wssis.data.coco import CocoData


@dataclass
class Stage:
    """A stage at work.

    Attributes:
        name: as in dvc.yaml.
        params: all params; a stage reads only the sections that dvc.yaml names for it.
        tracker: its run in MLflow, or one that notes nothing.
    """

    name: str
    params: Params
    tracker: NullTracker = field(default_factory=NullTracker)

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


def run(name: str, body: Callable[[Stage], None], sections: tuple[str, ...]) -> int:
    """Run a stage's body with params and tracking; returns the exit code.

    Args:
        name: of the stage in dvc.yaml.
        body: its work.
        sections: params that it uses, as dvc.yaml lists them.
    """
    return exit_code(lambda: _run(name, body, sections))


def _run(name: str, body: Callable[[Stage], None], sections: tuple[str, ...]) -> None:
    params = load_params(paths.PARAMS)
    tracker = open_tracker(name, params, sections)
    try:
        body(Stage(name, params, tracker))
    except BaseException as error:
        tracker.close(error=f"{type(error).__name__}: {error}")
        raise
    tracker.close()


def exit_code(work: Callable[[], None]) -> int:
    """Do the work; wrong input is one line on stderr and 2, an interrupt 130, any other error 1."""
    try:
        work()
    except InputError as error:
        print(f"wssis: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("wssis: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = error.filename or "the disk"
            print(f"wssis: {place}: no space left. Free some and run again", file=sys.stderr)
            return 2
        traceback.print_exc()
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0
