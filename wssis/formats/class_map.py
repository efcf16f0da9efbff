"""The classes of an import: those that the labels name, or those of a file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wssis.data.records import Category
from wssis.errors import InputError

_LINE = re.compile(r"((?:\\[\\=]|\\(?![\\=])|[^=\\])*)(?:=(.*))?", re.DOTALL)


@dataclass(frozen=True)
class Classes:
    """Category names in the order of their ids, and the class that each name in the labels means."""

    names: tuple[str, ...]
    meaning: dict[str, int]

    @property
    def categories(self) -> tuple[Category, ...]:
        """Ids from 1."""
        return tuple(Category(number, name) for number, name in enumerate(self.names, 1))


def one_line(name: str) -> str:
    """A class name with one space wherever it has white space, none around it: fit for a line."""
    return " ".join(name.split())


def as_line(name: str) -> str:
    """A class name as a line that `read_classes` reads as this name."""
    return re.sub(r"[\\=]", r"\\\g<0>", name)


def _parts(line: str) -> tuple[str, str | None]:
    """What stands before the first `=` that is part of no name, and what follows it, None without one."""
    source, target = _LINE.fullmatch(line).groups()  # type: ignore[union-attr]
    plain = [None if part is None else re.sub(r"\\([\\=])", r"\1", part) for part in (source, target)]
    return one_line(plain[0] or ""), None if plain[1] is None else one_line(plain[1])


def named(names: Iterable[str]) -> Classes:
    """Classes of labels: by name, so that the order of the labels is of no matter."""
    ordered = tuple(sorted(set(names)))
    return Classes(ordered, {name: place for place, name in enumerate(ordered)})


def read_classes(path: str | Path) -> Classes:
    """Classes of a file of one name a line.

    `name=other` says that labels named `name` are of the class `other`. Ids go by the first
    line in which a class stands, from 1. Blank lines are skipped. A backslash before an equals sign makes it
    part of the name, and two stand for one; before anything else it is itself.

    Raises:
        InputError: unreadable, empty, or a name twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read ({reason})", where=path) from error
    names: list[str] = []
    meaning: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        source, target = _parts(line)
        name = target or source
        if not source or source in meaning or target == "":
            raise InputError(
                f"expected each name once, as `name` or `name=class`, found {line.strip()!r}",
                where=path,
                record=f"line {number}",
                remedy="Fix that line",
            )
        if name not in names:
            names.append(name)
        meaning[source] = names.index(name)
    for place, name in enumerate(names):  # a class by its own name, where only its other names are lines
        meaning.setdefault(name, place)
    if not names:
        raise InputError("expected class names, found none", where=path, remedy="Write one name a line")
    return Classes(tuple(names), meaning)
