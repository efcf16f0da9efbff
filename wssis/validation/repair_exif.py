"""Labels that were drawn on a picture lying down, turned upright with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from wssis.data import rle as rle_api
from wssis.data.coco_fields import Picture, box_of, point_of, rle_of
from wssis.data.exif import turn_mask, turn_points


def turned(raw: dict[str, Any], picture: Picture, orientation: int) -> dict[str, Any]:
    """An annotation as it is on the upright picture.

    Args:
        raw: in pixels of the picture as it is stored.
        picture: with the stored height and width.
        orientation: EXIF's, 5 to 8.
    """
    size = (picture.height, picture.width)

    def place(x: float, y: float) -> tuple[float, float]:
        across, down = turn_points(np.array([[x, y]], dtype=np.float64), size, orientation)[0].tolist()
        return across, down

    record = dict(raw)
    if point := point_of(raw):
        x, y = place(*point)
        # The far edge is no longer inside where it was the near one.
        record["point"] = [
            min(x, picture.height - 1e-3) if orientation in (6, 7) and x >= 0 else x,
            min(y, picture.width - 1e-3) if orientation in (7, 8) and y >= 0 else y,
        ]
    for name in ("box", "bbox"):
        if name in raw and (box := box_of({name: raw[name]})):
            (x0, y0), (x1, y1) = place(box[0], box[1]), place(box[0] + box[2], box[1] + box[3])
            record[name] = [min(x0, x1), min(y0, y1), box[3], box[2]]
    segmentation = raw.get("segmentation")
    if isinstance(segmentation, dict):
        try:
            rle = rle_of(raw, picture)
        except Exception:  # reported and repaired as an invalid mask
            return record
        if not (
            isinstance(rle["counts"], str)
            and rle_api.sound([rle["counts"]], [picture.height * picture.width])[0]
        ):
            return record
        record["segmentation"] = turn_mask(rle, orientation)
    elif isinstance(segmentation, list):
        record["segmentation"] = [_line(part, place) for part in segmentation]
    return record


def _line(part: Any, place: Any) -> Any:
    try:
        return [value for x, y in zip(part[::2], part[1::2], strict=True) for value in place(x, y)]
    except Exception:  # likewise
        return part
