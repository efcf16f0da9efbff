"""`InputError`: invalid input that the user can fix without reading code, and how it shows values."""

from __future__ import annotations

import json
import reprlib
from pathlib import Path
from typing import Any


class InputError(Exception):
    """Invalid input. `str()` is one line: file, record, problem, remedy.

    Args:
        problem: what was expected and what was found, or what failed.
        where: the file, folder or option at fault.
        record: the record in it, e.g. ``annotation 17`` or ``line 3``.
        remedy: what the user can do.
    """

    def __init__(self, problem: str, *, where: str | Path = "", record: str = "", remedy: str = "") -> None:
        place = ", ".join(part for part in (str(where), record) if part)
        line = f"{place}: {problem}" if place else problem
        if remedy:
            line = f"{line.rstrip('.')}. {remedy}"
        super().__init__(" ".join(line.split()))
        self.problem, self.where, self.record, self.remedy = problem, str(where), record, remedy


def shown(value: Any) -> str:
    """A value, or what it is, short enough for an error's line."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return reprlib.repr(value)
