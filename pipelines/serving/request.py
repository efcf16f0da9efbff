"""Requests to a served model: JSON in one of MLflow's forms, parsed once and validated by pydantic.

Nothing in a request is used as a path or an address.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    FailFast,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from wssis.errors import InputError

EXAMPLES = {
    "student": '{"dataframe_records": [{"image": "<base64>"}]}',
    "labeler": '{"dataframe_records": [{"image": "<base64>", "points": '
    '[{"x": 40, "y": 52.5, "class": "disc"}]}]}',
}

MAX_KEYS = 8  # of an object


@dataclass(frozen=True)
class Limits:
    """Limits of one request.

    Attributes:
        mib: size of the body.
        images: images in it.
        megapixels: size of an image, or of the network's padded input, read from the header before decoding.
        points: points in it. In an image of over a megapixel each counts for as many as it has, since every
            point gets a mask of the image's size.
        seconds: time to the answer, waiting included.
        waiting: requests in hand at a time.
    """

    mib: float = 32
    images: int = 16
    megapixels: float = 4
    points: int = 500
    seconds: float = 60
    waiting: int = 64

    @property
    def body(self) -> int:
        """Size of a body in bytes."""
        return int(self.mib * 2**20)

    @property
    def pixels(self) -> int:
        """Size of an image in pixels."""
        return int(self.megapixels * 1e6)


def _decode_base64(value: Any) -> bytes:
    try:
        return value if isinstance(value, bytes) else base64.b64decode("".join(value.split()), validate=True)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError("expected an image file in base64; paths and addresses are not read") from error


def _check_key_count(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > MAX_KEYS:
        raise ValueError(f"expected at most {MAX_KEYS} keys, found {len(value)}")
    return value


class _Strict(BaseModel, extra="forbid"):
    """Refuses unknown keys; one error per object, since millions of them would exhaust memory."""

    _few_keys = model_validator(mode="before")(_check_key_count)


class Point(_Strict, strict=True, allow_inf_nan=False):
    """A point in pixels, origin at the top left corner, and its class."""

    x: float
    y: float
    label: str = Field(alias="class")


class StudentRow(_Strict):
    """An image file: base64 in JSON, bytes from Python."""

    image: Annotated[bytes, BeforeValidator(_decode_base64)]


class LabelerRow(StudentRow):
    """An image file and the points whose masks are wanted."""

    points: Annotated[list[Point], FailFast()]


Row = StudentRow | LabelerRow
ROWS: dict[str, TypeAdapter] = {
    "student": TypeAdapter(list[StudentRow]),
    "labeler": TypeAdapter(list[LabelerRow]),
}


class _Split(_Strict):
    columns: Annotated[list[str], FailFast()]
    data: Annotated[list[list[Any]], FailFast()]
    index: Any = None


class _Document(_Strict):
    """MLflow's forms of JSON input; a request has one of them. `check_rows` validates the rows."""

    dataframe_records: list[Any] = []
    dataframe_split: _Split = _Split(columns=[], data=[])
    instances: list[Any] = []
    inputs: Annotated[list[Any] | dict[str, list[Any]], BeforeValidator(_check_key_count)] = []

    @model_validator(mode="after")
    def _has_one_form(self) -> _Document:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"expected one of the keys {', '.join(_Document.model_fields)}")
        lengths = {len(column) for column in self.inputs.values()} if isinstance(self.inputs, dict) else set()
        split = self.dataframe_split
        if len(lengths) > 1 or any(len(row) != len(split.columns) for row in split.data):
            raise ValueError("expected columns and rows of equal lengths")
        return self

    def rows(self, most: int) -> list[Any]:
        """The first `most` rows, whichever form they have."""
        [form] = self.model_fields_set
        value = getattr(self, form)
        if isinstance(value, _Split):
            return [dict(zip(value.columns, row, strict=True)) for row in value.data[:most]]
        if isinstance(value, dict):
            columns = [column[:most] for column in value.values()]
            return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
        return value[:most]


def parse_rows(body: bytes, content_type: str, kind: str, limits: Limits) -> Sequence[Row]:
    """The rows of a request.

    Args:
        body: JSON, or for a student also an image file.
        content_type: application/json or image/….
        kind: "student" or "labeler".
        limits: the numbers of images and points are checked here.

    Raises:
        InputError: another content type, JSON of another form, or more rows or points than allowed.
    """
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type.startswith("image/") and kind == "student":
        return [StudentRow(image=body)]
    if media_type != "application/json":
        also = ", or an image file as image/png, image/jpeg, …" if kind == "student" else ""
        found = media_type[:40] or "no content type"
        raise InputError(f"expected application/json{also}, found {found}", where="Content-Type")
    try:
        values = _Document.model_validate_json(body).rows(limits.images + 1)
    except ValidationError as error:
        raise _as_input_error(error, ["request"], f"Send {EXAMPLES[kind]}") from error
    if not 0 < len(values) <= limits.images:
        found = "more" if values else "none"
        raise InputError(f"expected 1 to {limits.images} images, found {found}", where="request")
    return check_rows(values, kind)


def check_rows(values: Sequence[Any], kind: str) -> list[Row]:
    """Rows of the model's kind.

    Raises:
        InputError: a column or a point is missing, unknown or of another type.
    """
    try:
        return ROWS[kind].validate_python(values)
    except ValidationError as error:
        raise _as_input_error(error, ["row"]) from error


def _as_input_error(error: ValidationError, place: list[str], remedy: str = "") -> InputError:
    """The first problem on one line; (0, "points", 1, "x") becomes "row 0, point 1, x"."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    for part in first["loc"]:
        if isinstance(part, int):
            place[-1] = f"{place[-1].removesuffix('s')} {part}"
        else:
            place.append(part if len(part) <= 40 else f"{part[:40]}…")
    return InputError(first["msg"].removeprefix("Value error, "), where=", ".join(place), remedy=remedy)
