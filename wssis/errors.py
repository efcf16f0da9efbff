"""The one exception for wrong input: what a person can mend without reading code."""

from __future__ import annotations

from pathlib import Path


class InputError(Exception):
    """Input that cannot be used. `str()` is one line: file, record, what is wrong, what to do.

    Args:
        problem: what was expected and what was found.
        where: the file (or folder, or option) at fault.
        record: the record in it, e.g. ``annotation 17`` or ``line 3``.
        remedy: what to do about it.
    """

    def __init__(self, problem: str, *, where: str | Path = "", record: str = "", remedy: str = "") -> None:
        place = ", ".join(part for part in (str(where), record) if part)
        line = f"{place}: {problem}" if place else problem
        if remedy:
            line = f"{line.rstrip('.')}. {remedy}"
        super().__init__(" ".join(line.split()))
        self.problem, self.where, self.record, self.remedy = problem, str(where), record, remedy
