"""Results of long work on many images, saved one by one, so a kill loses only the work in progress."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any


class Lines(Mapping[int, Any]):
    """JSON values by number, one per line of a file; memory holds only their positions.

    A last line that a kill cut off is dropped. Lines are not synced: they survive the process, but not a
    power failure, after which the missing ones are computed again.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = open(path, "ab+")  # noqa: SIM115 (open while the stage runs)
        self._positions: dict[int, int] = {}
        self._file.seek(0)
        end = 0
        for line in self._file:
            try:
                key, _ = json.loads(line) if line.endswith(b"\n") else (None, None)
            except (ValueError, TypeError):
                break
            if key is None:
                break
            self._positions.setdefault(key, end)
            end += len(line)
        self._file.truncate(end)

    def __getitem__(self, key: int) -> Any:
        self._file.seek(self._positions[key])
        return json.loads(self._file.readline())[1]

    def __iter__(self) -> Iterator[int]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __contains__(self, key: object) -> bool:
        return key in self._positions

    def __setitem__(self, key: int, value: Any) -> None:
        self._positions[key] = self._file.seek(0, 2)
        self._file.write(json.dumps([key, value], separators=(",", ":")).encode() + b"\n")
        self._file.flush()


class Journal:
    """Results by number, on disk as soon as they are added; without a file, in memory.

    Attributes:
        done: results so far.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.done: Lines | dict[int, Any] = Lines(path) if path else {}

    def add(self, key: int, value: Any) -> None:
        """Save the result `key`, a JSON value."""
        self.done[key] = value
