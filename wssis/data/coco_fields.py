"""Fields of COCO records that may be invalid: what is usable in them, and how messages name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

from wssis.data import rle as rle_api
from wssis.data.records import Click
from wssis.data.rle import Rle

MAX_ID = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Picture:
    """A listed image; `height` and `width` are 0 if the file does not give a valid size."""

    place: int
    id: int
    file_name: str
    height: int
    width: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.height, self.width


def usable_id(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number in 0…2^63 - 1."""
    return type(value) is int and 0 <= value <= MAX_ID


def is_number(value: Any) -> bool:
    """Whether it is a finite number (true and false are not)."""
    return type(value) in (int, float) and -1e18 < value < 1e18  # false for NaN; isfinite(10**400) raises


def point_of(raw: dict[str, Any]) -> tuple[float, float] | None:
    """An annotation's point, inside the image or not; None if it has none or it is invalid."""
    point = raw.get("point")
    if isinstance(point, list) and len(point) == 2 and all(map(is_number, point)):
        return float(point[0]), float(point[1])
    return None


def clicks_of(raw: dict[str, Any], size: tuple[int, int] = (0, 0)) -> tuple[Click, ...]:
    """An annotation's further clicks, inside the image of this (H, W) if that is known.

    Raises:
        ValueError: they are no list of [x, y, 0 or 1] in the image; says what was found.
    """
    clicks = raw.get("clicks")
    if clicks is None:
        return ()
    if not isinstance(clicks, list):
        raise ValueError(kind_of_json(clicks))
    for click in clicks:
        sound = isinstance(click, list) and len(click) == 3 and all(map(is_number, click))
        if not sound or click[2] not in (0, 1):
            raise ValueError(shown_ids(click))
        if size[0] and not (0 <= click[0] < size[1] and 0 <= click[1] < size[0]):
            raise ValueError(f"{shown_ids(click)} outside of {size[1]} x {size[0]} px")
    return tuple((float(x), float(y), bool(inside)) for x, y, inside in clicks)


def box_of(raw: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """x, y, width, height of an annotation's `box` or else `bbox`; None if neither is valid."""
    for name in ("box", "bbox"):
        box = raw.get(name)
        if isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) and min(box[2:]) > 0:
            x, y, width, height = map(float, box)
            return x, y, width, height
    return None


def rle_of(raw: dict[str, Any], picture: Picture) -> Rle:
    """The mask of an annotation whose segmentation is known to be sound."""
    segmentation = raw["segmentation"]
    if isinstance(segmentation, list):
        return rle_api.from_polygons(segmentation, picture.size)
    if isinstance(segmentation["counts"], list):
        return rle_api.from_runs(segmentation["counts"], picture.size)
    return {"size": list(picture.size), "counts": segmentation["counts"]}


def record_name(raw: Any, place: int) -> str:
    """What a message calls an annotation."""
    key = raw.get("id") if isinstance(raw, dict) else None
    return f"annotation {key}" if type(key) is int else f"annotations[{place}]"


def kind_of_json(value: Any) -> str:
    """The JSON type of a value, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def shown_ids(value: Any) -> str:
    """A value of the file, at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
