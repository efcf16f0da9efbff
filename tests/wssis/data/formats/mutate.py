"""Damaged variants of a good document: whatever one of them holds, a reader raises InputError or reads it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wssis.data.formats.labels import LabelledImage, Options
from wssis.errors import InputError

Read = Callable[[Path, Options], Iterator[LabelledImage]]
HUGE = "9" * 5000  # more digits than Python makes an integer of
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, -(2**63), 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "-1", "0", "1e9", "nan", "\ud800", "\0", "../../a.png", "http://[", "%ff", ";,", "ü" * 300),
    *([], [None], [[]], [0] * 7, [1e308] * 6, [[0, 0], [1e9, 1e9]], [float("nan")] * 4, {}, {"a": []}),
]


def mutated_json(read: Read, document: Any, folder: Path, examples: int = 60) -> None:
    """Put odd values, of any type, at any place of a JSON document, or take values away."""
    places = list(_places(document))

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.lists(
            st.tuples(st.sampled_from(places), st.sampled_from([*VALUES, "DROP"])), min_size=1, max_size=3
        )
    )
    def check(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
        damaged = copy.deepcopy(document)
        for place, value in changes:
            damaged = _changed(damaged, place, value)
        only_input_errors(read, folder, json.dumps(damaged).encode(), ".json")

    check()
    deep = "[" * 100_000
    for text in (
        b"\xff\xfe\x00",
        b"\x80",
        b"",
        deep.encode(),
        HUGE.encode(),
        f'{{"items": {HUGE}}}'.encode(),
    ):
        only_input_errors(read, folder, text, ".json", must=True)


def mutated_text(read: Read, text: str, suffix: str, folder: Path, examples: int = 60) -> None:
    """Put odd bytes and numbers at any place of a text, or take pieces away."""
    data = text.encode()
    odd = [
        b"",
        b"\xff",
        b"\0",
        b'"',
        b"<",
        b">",
        b"&",
        b"&x;",
        b"-",
        b"nan",
        b"inf",
        b"1e308",
        HUGE.encode(),
        b",",
    ]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.lists(
            st.tuples(st.integers(0, len(data) - 1), st.integers(0, 12), st.sampled_from(odd)),
            min_size=1,
            max_size=3,
        )
    )
    def check(changes: list[tuple[int, int, bytes]]) -> None:
        damaged = data
        for place, length, piece in changes:
            damaged = damaged[:place] + piece + damaged[place + length :]
        only_input_errors(read, folder, damaged, suffix)

    check()


def only_input_errors(read: Read, folder: Path, data: bytes, suffix: str, must: bool = False) -> None:
    """Read `data` from a file: it is read, or an InputError of one line names the file."""
    path = folder / f"damaged{suffix}"
    path.write_bytes(data)
    messages = []
    for source in (path, folder):
        try:
            list(read(source, Options()))
        except InputError as error:
            messages.append(str(error))
    assert all(path.name in message and message.isprintable() for message in messages), messages
    assert len(messages) == 2 or not must


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from _places(child, (*place, key))


def _changed(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return document if value == "DROP" else value
    parent = document
    try:
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] if isinstance(parent, dict | list) else None
    except (KeyError, IndexError, TypeError):
        return document  # an earlier change has taken the place away
    if isinstance(parent, list) or (isinstance(parent, dict) and place[-1] in parent):
        if value == "DROP":
            del parent[place[-1]]
        else:
            parent[place[-1]] = copy.deepcopy(value)
    return document
