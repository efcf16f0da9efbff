"""What a stage passes to its training so that it continues after a kill and saves before it stops."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipelines.runner.scratch import Scratch
from pipelines.runner.signals import Stopping
from pipelines.tracking.tracker import NullTracker
from wssis.errors import InputError

if TYPE_CHECKING:
    from wssis.training.state import Resume

SHARE_VARIABLE = "WSSIS_SAVING_SHARE"  # environment: the share of a training's time that saving may take


@contextmanager
def resumable(
    scratch: Scratch, stopping: Stopping, tracker: NullTracker, say: Callable[[str], None]
) -> Iterator[Resume | None]:
    """The saved state of a stage's training; None if the stage has no scratch folder.

    The time that saving took is reported at the end.
    """
    from wssis.distributed import in_any, rank
    from wssis.training.state import SHARE, Resume, TrainingStopped

    if scratch.folder is None:
        yield None
        return
    resume = Resume(
        scratch.folder / "training",
        saving_share(SHARE),
        stop=lambda: in_any(stopping.asked is not None),
        before_save=tracker.flush,
        writes=rank() == 0,
    )
    if resume.step:
        say(f"continues after step {resume.step}")
        tracker.tags({"wssis.resumed_at_step": resume.step})
    try:
        with stopping.waiting():
            yield resume
    except TrainingStopped as stopped:
        raise stopping.error(f"step {stopped.step} is saved; `dvc repro` continues from there") from None
    except RuntimeError as error:
        # A signal to the whole process group also ends the workers that load data.
        if stopping.asked is None:
            raise
        raise stopping.error(f"step {resume.step} is saved; `dvc repro` continues from there") from error
    cost = resume.spent / max(resume.seconds_now, 1e-9)
    if resume.saves:
        say(f"saving its state took {cost:.1%} of the training's time ({resume.saves} saved)")
    tracker.metrics({"time/saving_share": cost, "time/saving_seconds": resume.spent})


def saving_share(default: float) -> float:
    """The share of a training's time that saving may take.

    Raises:
        InputError: the environment variable is not a number from 0.
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
            remedy="Correct or unset it",
        )
    return share
