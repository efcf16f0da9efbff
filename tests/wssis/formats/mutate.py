"""Damaged variants of a good file: its bytes, the words of its text, the values of its JSON, its pixels."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

HUGE = "9" * 5000  # more digits than Python makes an integer of
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, -(2**63), 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "-1", "0", "1e9", "nan", "\ud800", "\0", "../../a.png", "http://[", "%ff", ";,", "ü" * 300),
    *("\u2028", "\x1b[31m", "/", ".", "a" * 5000, 12345678.9, 2**53 + 1, -1e-300),
    *([], [None], [[]], [0] * 7, [1e308] * 6, [[0, 0], [1e9, 1e9]], [float("nan")] * 4, {}, {"a": []}),
]
PIECES = [
    *(b"", b"\xff", b"\0", b'"', b"'", b"<", b">", b"&", b"&x;", b"&#0;", b"-", b",", b";", b"\n", b"\r"),
    *(b"nan", b"inf", b"-1", b"0", b"7", b"1.5", b"1e308", b"1e-320", b"1_0", b"null", b"true", b'""', b"\t"),
    *(b"{}", b"[]", HUGE.encode(), b"[" * 9999, b"\\ud800", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"x" * 300),
    b"../../a.png",
]
_TEXT = re.compile(rb"[^\s,;<>=\"'\[\]{}:]+")
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16")

HOSTILE_JSON = [
    *(b"", b"\x80", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 100_000, HUGE.encode()),
    f'{{"items": {HUGE}}}'.encode(),
]


def mutated(data: bytes, name: str) -> st.SearchStrategy[bytes]:
    """Damaged variants of the file `name` that holds `data`."""
    suffix = name.rpartition(".")[2]
    if suffix in ("json", "geojson"):
        document = json.loads(data)
        return st.one_of(_documents(document), _documents(document), _words(data), _bytes(data))
    if suffix == "png":
        return st.one_of(_pixels(data, "PNG"), _bytes(data).map(_with_checksums), _bytes(data))
    if suffix == "tif":
        return st.one_of(_pixels(data, "TIFF"), _bytes(data))
    return st.one_of(_words(data), _words(data), _bytes(data))


@st.composite
def _bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Odd bytes put in, or pieces taken away."""
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(data)))
        end = begin + draw(st.integers(0, 12))
        data = data[:begin] + draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=6))) + data[end:]
    return data


@st.composite
def _words(draw: st.DrawFn, data: bytes) -> bytes:
    """Words and numbers replaced by odd ones, or by others of the file."""
    words = [match.span() for match in _TEXT.finditer(data)]
    chosen = draw(st.lists(st.sampled_from(words), min_size=1, max_size=3, unique=True))
    other = st.sampled_from([data[begin:end] for begin, end in words])
    for begin, end in sorted(chosen, reverse=True):
        number = st.integers(-9, 99).map(lambda value: b"%d" % value)
        piece = draw(st.one_of(st.sampled_from(PIECES), other, number))
        data = data[:begin] + piece + data[end:]
    return data


@st.composite
def _documents(draw: st.DrawFn, document: Any) -> bytes:
    """JSON with values of any type at any place, or without some."""
    places = list(_places(document))
    damaged = deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places))
        value = st.one_of(
            st.sampled_from([*VALUES, "DROP"]),
            st.sampled_from(places).map(lambda other: _at(document, other)),
            st.integers(-9, 99),
            st.floats(-9, 99, width=16),
        )
        damaged = _changed(damaged, place, draw(value))
    return json.dumps(damaged).encode()


@st.composite
def _pixels(draw: st.DrawFn, data: bytes, kind: str) -> bytes:
    """Other numbers in a picture, and maybe another mode, size, turn or second page."""
    image = Image.open(io.BytesIO(data))
    array = np.array(image)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    values = st.sampled_from([0, 1, 2, 9, 10, 15, 16, 200, 255, 300, 65535, -1, 2**31 - 1, 0.5, float("nan")])
    with np.errstate(all="ignore"):
        for _ in range(draw(st.integers(1, 4))):
            place = tuple(draw(st.integers(0, side - 1)) for side in array.shape)
            value = draw(values)
            whole = array.dtype.kind != "f"
            array[place] = np.int64(np.nan_to_num(value)).astype(array.dtype) if whole else value
        changed = Image.fromarray(array)
        if draw(st.booleans()):
            changed = Image.fromarray(array.astype(np.uint8)).convert("RGB")
            mode = draw(st.sampled_from(_MODES))
            changed = changed.convert("I").convert(mode) if mode == "I;16" else changed.convert(mode)
    if draw(st.integers(0, 3)) == 0:
        changed = changed.resize((draw(st.integers(1, 9)), draw(st.integers(1, 9))))
    options: dict[str, Any] = {}
    if draw(st.integers(0, 7)) == 0:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = draw(st.integers(0, 9))
    if draw(st.integers(0, 7)) == 0:
        options |= {"save_all": True, "append_images": [changed.copy()]}
    file = io.BytesIO()
    try:
        changed.save(file, kind, **options)
    except (OSError, KeyError, ValueError):  # a mode that the format has not
        changed.convert("RGB").save(file, kind)
    return file.getvalue()


def _with_checksums(data: bytes) -> bytes:
    """A damaged PNG whose chunks have the checksums of what they hold now, as far as they can be told."""
    done, place = data[:8], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        body = data[place + 4 : place + 8 + length]
        done += data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return done


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from _places(child, (*place, key))


def _at(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        document = document[key]
    return document


def _changed(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return document if value == "DROP" else deepcopy(value)
    try:
        parent = _at(document, place[:-1])
        parent[place[-1]]
    except (KeyError, IndexError, TypeError):
        return document  # an earlier change has taken the place away
    if isinstance(parent, list | dict):
        if isinstance(value, str) and value == "DROP":
            del parent[place[-1]]
        else:
            parent[place[-1]] = deepcopy(value)
    return document
