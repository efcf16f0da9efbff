"""Results of long work on many images, kept one by one so that a kill costs the image at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Journal:
    """JSON values by number, a line each, on disk as soon as they are added; without a file, in memory.

    A last line that a kill cut off is dropped. Lines are not synced: they outlive the process, and a machine
    that loses power loses images that are made again.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.done: dict[int, Any] = {}
        self._file = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab+", buffering=0)  # noqa: SIM115 (open as long as the stage runs)
        self._file.seek(0)
        whole = 0
        for line in self._file.readlines():
            try:
                key, value = json.loads(line) if line.endswith(b"\n") else (None, None)
            except ValueError:
                break
            if key is None:
                break
            self.done[key] = value
            whole += len(line)
        self._file.truncate(whole)

    def add(self, key: int, value: Any) -> None:
        """Keep the value of `key`."""
        self.done[key] = value
        if self._file is not None:
            self._file.write(json.dumps([key, value], separators=(",", ":")).encode() + b"\n")
