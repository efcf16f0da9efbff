"""Progress of long work: a bar with rate and remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0


class Meter:
    """Counts `total` steps of `what`; use it in a `with` block and call `step` after each.

    `begun` steps were done before and say nothing of how fast it goes.
    """

    def __init__(self, what: str, total: int, unit: str = "it", begun: int = 0) -> None:
        self.what, self.total, self.unit, self.begun = what, total, unit, begun
        self.done = begun
        self._start = self._said = time.monotonic()
        self._bar: Progress | None = None
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._task = self._bar.add_task(what, total=total, completed=begun, rate="", note="")

    def __enter__(self) -> Meter:
        if self._bar:
            self._bar.start()
        return self

    def step(self, note: str = "", done: int | None = None) -> None:
        """One step more (or `done` of them in all); `note` is shown beside it, e.g. the loss."""
        self.done = self.done + 1 if done is None else done
        if self._bar:
            self._bar.update(self._task, completed=self.done, rate=self._rate(), note=note)
        elif time.monotonic() - self._said >= LINE_EVERY_S and self.done < self.total:
            self._say(note)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None and self.total:
            self._say("done")

    def _rate(self) -> str:
        seconds = max(time.monotonic() - self._start, 1e-6)
        return f"{(self.done - self.begun) / seconds:.1f} {self.unit}/s"

    def _say(self, note: str) -> None:
        self._said = time.monotonic()
        seconds = self._said - self._start
        left = seconds / max(self.done - self.begun, 1) * (self.total - self.done)
        print(f"{self.what}: {self.done}/{self.total}, {self._rate()}, {left:.0f} s left  {note}", flush=True)
