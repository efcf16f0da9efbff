"""Tracking in a thread of its own: MLflow's start (2 to 3 s a stage) and its writes cost the work no time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipelines.tracking import NullTracker


class BackgroundTracker(NullTracker):
    """Hands every call to one thread, in order.

    Args:
        open_tracker: makes the tracker; called in the thread at once.

    A tracker that cannot be opened raises its error from the next call, so that work stops early.
    """

    def __init__(self, open_tracker: Callable[[], NullTracker]) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracking")
        self._opened: Future[NullTracker] = self._thread.submit(open_tracker)

    @property
    def run_id(self) -> str | None:  # type: ignore[override]
        """Of the run; waits until it is open."""
        return self._opened.result().run_id

    def params(self, values: Mapping[str, Any]) -> None:
        self._later("params", dict(values))

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self._later("metrics", dict(values), step)

    def headline(self, values: Mapping[str, float]) -> None:
        self._later("headline", dict(values))

    def tags(self, values: Mapping[str, Any]) -> None:
        self._later("tags", dict(values))

    def file(self, path: str | Path, folder: str = "") -> None:
        # Waited for: the caller may change the file next.
        self._later("file", path, folder).result()

    def close(self, error: str = "") -> None:
        """Wait until everything is written.

        Raises:
            InputError: the tracker could not be opened (not if the work itself failed).
        """
        last = self._thread.submit(lambda: self._opened.result().close(error))
        self._thread.shutdown(wait=True)
        if not error:
            last.result()

    def _later(self, call: str, *args: Any) -> Future[None]:
        if self._opened.done():
            self._opened.result()
        return self._thread.submit(lambda: getattr(self._opened.result(), call)(*args))
