"""A COCO JSON file as it is: what its records say of categories and images, with everything that is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from wssis.data.images import MAX_PIXELS, leaves_folder
from wssis.errors import InputError
from wssis.files import gc_disabled
from wssis.validation.problems import Problem, shown

LISTS = ("images", "annotations", "categories")
MAX_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of the file; `height` and `width` are 0 if the file does not say them in pixels."""

    place: int
    id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True)
class Document:
    """The usable images and categories of a file, and its raw records.

    Attributes:
        raw: as read.
        names: class names by label.
        labels: label by category id.
        pictures: images with an id and a name.
        rows: place in `pictures` by image id.
        problems: of the document, its categories and images.
    """

    raw: dict[str, Any]
    names: tuple[str, ...]
    labels: dict[int, int]
    pictures: list[Picture]
    rows: dict[int, int]
    problems: list[Problem] = field(default_factory=list)


def read_raw(path: Path) -> dict[str, Any]:
    """The JSON object in a file; NaN and Infinity are read as null.

    Raises:
        InputError: missing, unreadable, no JSON, or nothing like COCO's instance format.
    """
    try:
        with gc_disabled():
            raw = json.loads(path.read_bytes(), parse_constant=lambda name: None)
    except FileNotFoundError:
        raise InputError(
            "expected a COCO JSON file, found none", where=path, remedy="Check the path"
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", where=path, remedy="Check the path and its permissions"
        ) from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"expected JSON, found {error.msg} at column {error.colno}",
            where=path,
            record=f"line {error.lineno}",
            remedy="Export the file again; it may be cut off",
        ) from error
    except (RecursionError, ValueError) as error:
        raise InputError(
            f"expected JSON in UTF-8 ({error})", where=path, remedy="Export the file again"
        ) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("images"), list):
        raise InputError(
            "expected a JSON object with a list 'images', found none",
            where=path,
            remedy="Give COCO's instance format (`wssis import` makes it of others)",
        )
    return raw


def understand(raw: dict[str, Any]) -> Document:
    """What the records of categories and images say."""
    problems: list[Problem] = []
    raw = dict(raw)
    for name in LISTS:
        if not isinstance(raw.get(name), list):
            problems.append(Problem("document", name, "no such list"))
            raw[name] = []
    names, labels = _categories(raw["categories"], problems)
    pictures = _pictures(raw["images"], problems)
    rows = {picture.id: row for row, picture in enumerate(pictures)}
    return Document(raw, names, labels, pictures, rows, problems)


def usable_id(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number that may be an id."""
    return type(value) is int and 0 <= value <= MAX_ID


def _categories(records: list[Any], problems: list[Problem]) -> tuple[tuple[str, ...], dict[int, int]]:
    found: dict[int, str] = {}
    if not records:
        problems.append(Problem("category", "categories", "none is listed"))
    for place, raw in enumerate(records):
        key = raw.get("id") if isinstance(raw, dict) else None
        name = raw.get("name") if isinstance(raw, dict) else None
        record = f"category {key}" if type(key) is int else f"categories[{place}]"
        if not usable_id(key):
            problems.append(Problem("category", record, f"id {shown(key)}", place=place))
        elif key in found:
            problems.append(Problem("category", record, "id is there twice", place=place))
        else:
            if not isinstance(name, str) or not name.strip():
                problems.append(Problem("category", record, f"name {shown(name)}", place=place))
                name = str(key)
            elif name in found.values():
                problems.append(Problem("category", record, f"name {name!r} is there twice", place=place))
            found[key] = name
    ids = sorted(found)
    return tuple(found[key] for key in ids), {key: label for label, key in enumerate(ids)}


def _pictures(records: list[Any], problems: list[Problem]) -> list[Picture]:
    pictures: list[Picture] = []
    seen: set[int] = set()
    for place, raw in enumerate(records):
        key = raw.get("id") if isinstance(raw, dict) else None
        if not usable_id(key) or key in seen:
            twice = "id is there twice" if usable_id(key) else f"id {shown(key)}"
            record = f"image {key}" if type(key) is int else f"images[{place}]"
            name = raw.get("file_name", "") if isinstance(raw, dict) else ""
            problems.append(Problem("image-id", record, twice, str(name), place))
            continue
        seen.add(key)
        name = raw.get("file_name")
        if not isinstance(name, str) or not name or leaves_folder(name):
            problems.append(Problem("image-name", f"image {key}", f"file_name {shown(name)}", place=place))
            continue
        height, width = raw.get("height"), raw.get("width")
        if not _sized(height, width):
            detail = f"{shown(width)} x {shown(height)}"
            problems.append(Problem("image-size", f"image {key}", detail, name, place))
            height = width = 0
        pictures.append(Picture(place, key, name, height, width))
    return pictures


def _sized(height: Any, width: Any) -> bool:
    whole = type(height) is int and type(width) is int and height > 0 and width > 0
    return whole and height * width <= MAX_PIXELS
