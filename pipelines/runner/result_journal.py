"""Results of long work on many images, kept one by one so that a kill costs the image at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

Share = tuple[int, int]  # number of a share, from 0, and of all shares


class Lines(Mapping[int, Any]):
    """JSON values by number, read from their lines when asked for: memory holds places alone."""

    def __init__(self) -> None:
        self._places: dict[int, tuple[IO[bytes], int]] = {}

    def __getitem__(self, key: int) -> Any:
        file, start = self._places[key]
        file.seek(start)
        return json.loads(file.readline())[1]

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def take(self, file: IO[bytes]) -> int:
        """Note the whole lines of a file; returns where they end."""
        file.seek(0)
        whole = 0
        for line in file:
            try:
                key, _ = json.loads(line) if line.endswith(b"\n") else (None, None)
            except (ValueError, TypeError):
                break
            if key is None:
                break
            self._places.setdefault(key, (file, whole))
            whole += len(line)
        return whole

    def add(self, file: IO[bytes], key: int, line: bytes) -> None:
        """Write a line to a file's end."""
        self._places[key] = (file, file.seek(0, 2))
        file.write(line)
        file.flush()


class Journal:
    """JSON values by number, a line each, on disk as soon as they are added; without a file, in memory.

    A last line that a kill cut off is dropped. Lines are not synced: they outlive the process, and a machine
    that loses power loses images that are made again.

    Args:
        path: the file.
        others: files of other processes, whose values are taken over.
        share: of the work, which is this process's.

    Attributes:
        done: values so far.
        taken: how many are of `others`.
    """

    def __init__(self, path: Path | None = None, others: Sequence[Path] = (), share: Share = (0, 1)) -> None:
        self.done: Mapping[int, Any] = {}
        self.share, self.taken = share, 0
        self._file: IO[bytes] | None = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self.done = lines = Lines()
        self._file = open(path, "ab+")  # noqa: SIM115 (open as long as the stage runs)
        self._file.truncate(lines.take(self._file))
        own = len(lines)
        for other in others:
            lines.take(open(other, "rb"))  # noqa: SIM115 (likewise)
        self.taken = len(lines) - own

    def is_left(self, key: int, place: int) -> bool:
        """Whether the value of `key`, at this place in the whole work, is still to be made here."""
        return key not in self.done and place % self.share[1] == self.share[0]

    def add(self, key: int, value: Any) -> None:
        """Keep the value of `key`."""
        if self._file is None:
            assert isinstance(self.done, dict)
            self.done[key] = value
        else:
            assert isinstance(self.done, Lines)
            line = json.dumps([key, value], separators=(",", ":")).encode() + b"\n"
            self.done.add(self._file, key, line)
