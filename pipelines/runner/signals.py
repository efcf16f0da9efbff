"""Ctrl-C and SIGTERM while a stage runs: at once, or after the step that a training is at."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):
    """SIGTERM; like KeyboardInterrupt no Exception, so that nothing takes it for a fault."""


def leave_on_signals(package: str) -> None:
    """Until a `Stopping` is there, a signal ends `python -m package.…` with a line: imports take seconds."""
    if not any(word.startswith(f"{package}.") for word in sys.orig_argv[1:4]):
        return
    ours = os.getpid()

    def leave(number: int, frame: FrameType | None) -> None:
        what, code = ("interrupted", 130) if number == signal.SIGINT else ("terminated", 143)
        # Processes that load data have the handler, too; of several that train, the parent says it.
        if os.getpid() == ours and "TORCHELASTIC_RUN_ID" not in os.environ:
            os.write(2, f"wssis: {what}\n".encode())
        os._exit(code)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)


class Stopping:
    """Use it in a `with` block. A signal raises KeyboardInterrupt or `Terminated`.

    In a `waiting` block the first one is only noted in `asked`: the code in the block saves and then raises
    `error`. The second one raises.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._waits, self._pid = False, os.getpid()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # Ignored in a job that a shell started in the background, or by nohup: it stays so.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Lets what is inside end at a moment of its own choice."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def error(self, message: str = "") -> BaseException:
        """What stands for the signal that was noted."""
        return Terminated(message) if self.asked is signal.SIGTERM else KeyboardInterrupt(message)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # a process that loads data: Ctrl-C reaches it too, and its parent ends it
        first, self.asked = self.asked is None, signal.Signals(number)
        if not (self._waits and first):
            raise self.error()
        if sys.stderr.isatty():
            print(
                "\nwssis: Saving after this step; press Ctrl-C again to quit without saving", file=sys.stderr
            )
