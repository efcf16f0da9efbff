"""Checked access to JSON of unknown origin: a value is of the type that the format says, or an InputError.

A `Record` is a JSON object that knows the file it is from and what an error calls it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from wssis.data.images import MAX_PIXELS
from wssis.errors import InputError, shown
from wssis.files import read_bytes

EXPORT_AGAIN = "Export the file again"
_REQUIRED: Any = object()
_LARGEST = 1e12  # of a number: beyond any pixel, id or score, far below where a float loses whole numbers


def load_json(path: Path) -> Any:
    """The JSON document of a file, with or without a byte-order mark.

    Raises:
        InputError: unreadable, no JSON, not UTF-8 (or UTF-16/32), nested too deeply.
    """
    return parse_json(read_bytes(path), path)


def parse_json(data: bytes | str, where: str | Path, record: str = "") -> Any:
    """As `load_json`, of a file's bytes or of text inside a file."""
    with suppress(orjson.JSONDecodeError):  # three times as fast; knows no NaN, and says less
        return orjson.loads(data)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(
            f"expected JSON, found something else ({reason})", where=where, record=record, remedy=EXPORT_AGAIN
        ) from error


def files(source: Path, suffix: str) -> list[Path]:
    """A source's files: itself, or, of a folder, all below it that end in `suffix`, sorted by path.

    Raises:
        InputError: a folder without such a file.
    """
    try:
        if not source.is_dir():
            return [source]
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() == suffix and path.is_file())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", where=source) from error
    if not found:
        raise InputError(f"expected a folder of {suffix} files, found none below it", where=source)
    return found


@dataclass(frozen=True, slots=True)
class Record:
    """A JSON object; every method raises `InputError` with file and record, `default` stands for an absent or
    null value.

    Attributes:
        fields: the object.
        where: file.
        record: what an error calls it, e.g. ``annotation 17``.
    """

    fields: dict[str, Any]
    where: str
    record: str = ""

    @classmethod
    def of(cls, value: Any, where: str | Path, record: str = "", what: str = "an object") -> Record:
        """The record of a value that has to be an object."""
        if not isinstance(value, dict):
            raise InputError(
                f"expected {what}, found {shown(value)}",
                where=where,
                record=record,
                remedy=EXPORT_AGAIN,
            )
        return cls(value, str(where), record)

    def named(self, record: str) -> Record:
        """The same object under another name."""
        return Record(self.fields, self.where, record)

    def error(self, problem: str, remedy: str = EXPORT_AGAIN) -> InputError:
        """The error to raise about this record."""
        return InputError(problem, where=self.where, record=self.record, remedy=remedy)

    def wrong(self, key: str, expected: str, value: Any) -> InputError:
        """The error to raise about one of its values."""
        return self.error(f"expected {key!r} as {expected}, found {shown(value)}")

    def has(self, key: str) -> bool:
        """Whether it has a value that is not null."""
        return self.fields.get(key) is not None

    def get(self, key: str, expected: str, default: Any = _REQUIRED) -> Any:
        """A value of any type."""
        value = self.fields.get(key)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise self.error(
                f"expected {key!r} as {expected}, found {'null' if key in self.fields else 'none'}"
            )
        return default

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        """A text that can be written as UTF-8."""
        value = self.get(key, "a text", default)
        if value is default:
            return value
        if not isinstance(value, str):
            raise self.wrong(key, "a text", value)
        return self.checked_text(key, value)

    def checked_text(self, key: str, value: str) -> str:
        """`value`, unless it holds halves of surrogate pairs, which no file name or UTF-8 file can hold."""
        if not value.isascii():
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as error:
                raise self.wrong(key, "a text in Unicode", value) from error
        return value

    def label(self, key: str, value: Any) -> str:
        """`value` as a text or whole number, which tools also use for names and ids, as text."""
        if isinstance(value, str):
            return self.checked_text(key, value)
        if type(value) is int and abs(value) <= _LARGEST:
            return str(value)
        raise self.wrong(key, "a text or whole number", value)

    def flag(self, key: str, default: Any = False) -> bool:
        """A boolean; 0 and 1 count as such."""
        value = self.get(key, "true or false", default)
        if value is default or isinstance(value, bool) or (type(value) is int and value in (0, 1)):
            return bool(value)
        raise self.wrong(key, "true or false", value)

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        """A finite number, at most 10^12 from zero."""
        value = self.get(key, "a number", default)
        return value if value is default else self.checked_number(key, value)

    def checked_number(self, key: str, value: Any) -> float:
        """`value` of `key`, or inside it, as a finite number."""
        if type(value) not in (int, float) or not -_LARGEST <= value <= _LARGEST:  # NaN is not, either
            raise self.wrong(key, "a number", value)
        return float(value)

    def whole(self, key: str, default: Any = _REQUIRED) -> int:
        """A whole number; 7.0 counts as such."""
        value = self.get(key, "a whole number", default)
        if value is default:
            return value
        number = self.checked_number(key, value)
        if not number.is_integer():
            raise self.wrong(key, "a whole number", value)
        return int(number)

    def array(self, key: str, default: Any = _REQUIRED) -> list[Any]:
        """A list of anything."""
        value = self.get(key, "a list", default)
        if value is not default and not isinstance(value, list):
            raise self.wrong(key, "a list", value)
        return value

    def child(self, key: str, default: Any = _REQUIRED) -> Record:
        """An object inside this one, under this one's name."""
        value = self.get(key, "an object", default)
        if value is not default and not isinstance(value, dict):
            raise self.wrong(key, "an object", value)
        return Record(value, self.where, self.record)

    def children(self, key: str, name: str, default: Any = _REQUIRED) -> Iterator[Record]:
        """The objects of a list; `name` and their place (from 0) is what errors call them, after this one."""
        before = f"{self.record}, " if self.record else ""
        for place, value in enumerate(self.array(key, default)):
            yield Record.of(value, self.where, f"{before}{name} {place}")

    def numbers(self, key: str, count: int | None = None) -> list[float]:
        """A list of finite numbers, of `count` if given."""
        values = self.array(key)
        if count is not None and len(values) != count:
            raise self.wrong(key, f"{count} numbers", values)
        return [self.checked_number(key, value) for value in values]

    def pairs(self, key: str) -> list[tuple[float, float]]:
        """A list of points `[x, y]`."""
        found = []
        for value in self.array(key):
            if not isinstance(value, list) or len(value) != 2:
                raise self.wrong(key, "points [x, y]", value)
            found.append((self.checked_number(key, value[0]), self.checked_number(key, value[1])))
        return found

    def size(self, height: str, width: str) -> tuple[int, int] | None:
        """(H, W) of an image of at most `MAX_PIXELS`; None where either is absent, null or 0."""
        found = self.whole(height, 0), self.whole(width, 0)
        if 0 in found:
            return None
        self.check_size(found, f"{height!r} and {width!r}")
        return found

    def check_size(self, size: tuple[int, int], what: str) -> None:
        """Raise unless (H, W) are those of an image that this program reads."""
        if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
            raise self.error(
                f"expected {what} of an image of 1 px to {MAX_PIXELS / 1e6:g} megapixels, "
                f"found {size[1]} x {size[0]}"
            )
