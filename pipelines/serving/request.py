"""The body of a request to a served model -> rows, within limits; nothing in it is taken for a path."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from pipelines.serving.request_limits import Limits
from pipelines.serving.served_model import place
from wssis.data.images import decoded_size
from wssis.errors import InputError
from wssis.inference.predictor import check_pixels
from wssis.settings import ResizeSettings

FORMS = ("dataframe_records", "dataframe_split", "instances", "inputs")  # MLflow's
NO_RESIZE = ResizeSettings()
EXAMPLE = '{"dataframe_records": [{"image": "<base64>"}]}'
EXAMPLE_POINTS = (
    '{"dataframe_records": [{"image": "<base64>", "points": [{"x": 40, "y": 52.5, "class": "disc"}]}]}'
)


def read_rows(
    body: bytes,
    content_type: str,
    with_points: bool,
    limits: Limits,
    resize: ResizeSettings = NO_RESIZE,
) -> list[dict[str, Any]]:
    """Rows of a request: `image` as base64 of an image file, and `points` for a labeler.

    Args:
        body: JSON in one of MLflow's forms, or an image file as it is.
        content_type: application/json, or image/….
        with_points: whether the model is a labeler.
        limits: see `Limits`.
        resize: how the model's network is given images; its padded input counts.

    Raises:
        InputError: another content type or form, an image that is none or a point that is none (by headers;
            damage after the header shows when it is decoded), or more than the limits allow.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("image/") and not with_points:
        rows: list[dict[str, Any]] = [{"image": base64.b64encode(body).decode()}]
    elif kind == "application/json":
        rows = _records(body, EXAMPLE_POINTS if with_points else EXAMPLE)
    else:
        also = "" if with_points else ", or an image file as image/png, image/jpeg, …"
        raise InputError(
            f"expected application/json{also}, found {_shown(kind) if kind else 'no content type'}",
            where="Content-Type",
        )
    if not 0 < len(rows) <= limits.images:
        raise InputError(f"expected 1 to {limits.images} images, found {len(rows)}", where="request")
    allowed = float(limits.points)
    for number, row in enumerate(rows):
        _check_keys(row, {"image", "points"} if with_points else {"image"}, f"row {number}")
        where = place(number, "image")
        pixels = check_pixels(_size(row["image"], where, limits), resize, limits.pixels, where)
        if with_points:
            row["points"] = _points(row["points"], number)
            allowed -= len(row["points"]) * max(1.0, pixels / 1e6)
    if allowed < 0:
        found = sum(len(row["points"]) for row in rows)
        raise InputError(
            f"expected at most {limits.points} points (fewer in images of over a megapixel), found {found}",
            where="request",
            remedy="Send fewer images or smaller ones at a time",
        )
    return rows


def _records(body: bytes, example: str) -> list[Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "not to be parsed"
        raise InputError(f"expected JSON like {example}, found none ({reason})", where="request") from error
    forms = [form for form in FORMS if isinstance(document, dict) and form in document]
    if len(forms) != 1 or len(document) != 1:
        found = ", ".join(_shown(key) for key in list(document)[:5]) if isinstance(document, dict) else ""
        raise InputError(
            f"expected one of the keys {', '.join(FORMS)}, found {found or _type(document)}",
            where="request",
            remedy=f"Send {example}",
        )
    value = _as_rows(forms[0], document[forms[0]])
    if value is None:
        raise InputError(
            "expected a list of rows, each an object, found another form",
            where=forms[0],
            remedy=f"Send {example}",
        )
    return value


def _as_rows(form: str, value: Any) -> list[dict[str, Any]] | None:
    """A value of one of the forms as rows; None where it is not of that form."""
    if form == "dataframe_split" and isinstance(value, dict) and set(value) <= {"columns", "data", "index"}:
        columns, data = value.get("columns"), value.get("data")
        if not isinstance(columns, list) or not isinstance(data, list):
            return None
        if not all(isinstance(name, str) for name in columns):
            return None
        if not all(isinstance(row, list) and len(row) == len(columns) for row in data):
            return None
        return [dict(zip(columns, row, strict=True)) for row in data]
    if form == "inputs" and isinstance(value, dict):
        lists = list(value.values())
        if not all(isinstance(column, list) and len(column) == len(lists[0]) for column in lists):
            return None
        return [dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True)]
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return value
    return None


def _size(text: Any, where: str, limits: Limits) -> tuple[int, int]:
    """(H, W) of an image in base64."""
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (AttributeError, binascii.Error, ValueError) as error:
        raise InputError(
            f"expected the bytes of an image file in base64, found {_type(text)} that is not base64",
            where=where,
            remedy="Paths and addresses are not read",
        ) from error
    return decoded_size(data, where, limits.pixels)


def _points(value: Any, number: int) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise InputError(f"expected a list, found {_type(value)}", where=place(number, "points"))
    points = []
    for n, point in enumerate(value):
        where = place(number, f"point {n}")
        _check_keys(point, {"x", "y", "class"}, where)
        for axis in ("x", "y"):
            if isinstance(point[axis], bool) or not isinstance(point[axis], int | float):
                raise InputError(f"expected a number, found {_type(point[axis])}", where=f"{where}, {axis}")
        if not isinstance(point["class"], str):
            raise InputError(f"expected a class name, found {_type(point['class'])}", where=where)
        name = point["class"].encode(errors="replace").decode()  # half a character breaks tables of text
        points.append({"x": _float(point["x"]), "y": _float(point["y"]), "class": name})
    return points


def _float(value: float) -> float:
    """NaN, infinity and what no float holds as -1, which lies outside of every image."""
    return float(value) if abs(value) < 1e9 else -1.0


def _check_keys(value: Any, keys: set[str], where: str) -> None:
    if not isinstance(value, dict):
        raise InputError(f"expected {_list(keys)}, found {_type(value)}", where=where)
    if set(value) != keys:
        raise InputError(f"expected {_list(keys)}, found {_list(set(value)) or 'nothing'}", where=where)


def _list(keys: set[str]) -> str:
    return ", ".join(_shown(key) for key in sorted(keys)[:8])


def _shown(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"


def _type(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
