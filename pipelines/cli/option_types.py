"""Types of options of the `wssis` command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[Any]"


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """A type of option: a finite number over 0."""

    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    return number


def port(text: str) -> int:
    """A type of option: a TCP port; 0 takes a free one."""
    value = int(text)  # argparse names this function where it is wrong
    if not 0 <= value < 2**16:
        raise ValueError
    return value


def hours(text: str) -> float:
    """A type of option: a finite number of 0 or more."""
    value = float(text)  # argparse names this function where it is wrong
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def share(text: str) -> float:
    """A type of option: a number from 0 to 1."""
    value = float(text)  # argparse names this function where it is wrong
    if not 0 <= value <= 1:
        raise ValueError
    return value
