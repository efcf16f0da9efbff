"""Pictures of pseudo-labels for the report: rough mask, refined mask and, if known, the ground truth."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from pipelines.report.pictures import as_webp
from wssis.data import rle as rle_api
from wssis.data.images import read_image
from wssis.data.records import CocoData
from wssis.visualize import spotlight

SHOWN = 96  # pictures; keeps the report small enough for a phone
_TILE = 160  # px, side of a panel
_GAP = 4  # px between panels
_MARGIN = 1.6  # side of the window over the longest side of the masks
_SMALLEST = 32  # px, side of the window

Panels = dict[str, CocoData]  # title -> data with a mask for most labels


@dataclass(frozen=True)
class Shown:
    """A pseudo-label in the gallery.

    Attributes:
        image: file name of its image.
        image_id, id: of its image and annotation.
        name: its class.
        confidence: 0..1.
        ignored: whether it was left undecided; its proposed masks are shown.
        rough_iou, refined_iou: with the ground truth, None if that is unknown.
    """

    image: str
    image_id: int
    id: int
    name: str
    confidence: float
    ignored: bool
    rough_iou: float | None = None
    refined_iou: float | None = None


def all_labels(labels: CocoData, ious: dict[int, tuple[float, float]]) -> list[Shown]:
    """Every label of the weak images; `ious` is {annotation id: (rough IoU, refined IoU)}."""
    return [
        Shown(
            image.file_name,
            image.id,
            item.id,
            labels.class_names[item.label],
            float(item.extra.get("confidence", 0.0)),
            item.ignored,
            *ious.get(item.id, (None, None)),
        )
        for image in labels.images
        for item in image.annotations
    ]


def choose(labels: Sequence[Shown], most: int = SHOWN) -> list[Shown]:
    """At most `most` labels, spread evenly over confidences, the most confident first.

    At most a third are ignored ones, unless there are too few others.
    """
    by_confidence = sorted(labels, key=lambda item: (-item.confidence, item.image_id, item.id))
    ignored = [item for item in by_confidence if item.ignored]
    masks = [item for item in by_confidence if not item.ignored]
    room = max(min(len(ignored), most // 3), most - len(masks))
    chosen = {item.id for item in (*_spread(ignored, room), *_spread(masks, most - min(room, len(ignored))))}
    return [item for item in by_confidence if item.id in chosen]


def _spread(items: Sequence[Shown], count: int) -> list[Shown]:
    """At most `count` evenly spaced items, with the first and the last."""
    if len(items) <= count:
        return list(items)
    if count < 2:
        return list(items[:count])
    return [items[round(n * (len(items) - 1) / (count - 1))] for n in range(count)]


def gallery(chosen: Sequence[Shown], panels: Panels, total: int) -> dict[str, Any]:
    """The gallery as JSON values.

    Args:
        chosen: labels, in the order of the gallery.
        panels: titles and data of a picture's panels, from left to right; one without a mask of the label is
            left out.
        total: number of all labels.

    Returns:
        `total`, and `labels`, each with the fields of `Shown`, `panels` (titles) and `picture` (a WebP file
        in base64).
    """
    data = next(iter(panels.values()))
    labels = []
    for item in chosen:
        record = data.by_id[item.image_id]
        image = read_image(data.image_dir, record.file_name, record.size)
        masks, point = _masks_of(panels, item)
        window = shown_window(list(masks.values()), point, record.size)
        picture = as_webp(draw_strip(image, list(masks.values()), point, window))
        labels.append(asdict(item) | {"panels": list(masks), "picture": base64.b64encode(picture).decode()})
    return {"total": total, "labels": labels}


def _masks_of(panels: Panels, item: Shown) -> tuple[dict[str, Tensor], tuple[float, float] | None]:
    """Masks (H, W) bool of a label by panel, and its point."""
    masks: dict[str, Tensor] = {}
    point = None
    for title, data in panels.items():
        record = data.by_id.get(item.image_id)
        if record is None:
            continue
        for annotation in record.annotations:
            if annotation.id == item.id and annotation.rle is not None:
                masks[title] = rle_api.decode([annotation.rle], record.size)[0]
                point = point or annotation.point
    return masks, point


def shown_window(
    masks: Sequence[Tensor], point: tuple[float, float] | None, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a square around all masks and the point, inside the image (H, W)."""
    height, width = size
    union = torch.stack(list(masks)).any(0) if masks else torch.zeros(size, dtype=torch.bool)
    if point:
        union[min(int(point[1]), height - 1), min(int(point[0]), width - 1)] = True
    if not union.any():
        union[:] = True
    y, x = union.nonzero(as_tuple=True)
    spans = [(int(x.min()), int(x.max()) + 1), (int(y.min()), int(y.max()) + 1)]
    side = max(_SMALLEST, round(_MARGIN * max(end - start for start, end in spans)))
    left, top = (
        max(0, min(round((start + end - side) / 2), length - side))
        for (start, end), length in zip(spans, (width, height), strict=True)
    )
    return left, top, min(left + side, width), min(top + side, height)


def draw_strip(
    image: Tensor,
    masks: Sequence[Tensor],
    point: tuple[float, float] | None,
    window: tuple[int, int, int, int],
) -> Image.Image:
    """Panels side by side, each with a mask and the point."""
    left, top, right, bottom = window
    crop = image[:, top:bottom, left:right]
    at = (point[0] - left, point[1] - top) if point else None
    strip = Image.new("RGB", (len(masks) * (_TILE + _GAP) - _GAP, _TILE), (255, 255, 255))
    for number, mask in enumerate(masks):
        drawn = spotlight(crop, mask[top:bottom, left:right], at).permute(1, 2, 0).contiguous().numpy()
        panel = ImageOps.pad(Image.fromarray(drawn), (_TILE, _TILE), color=(255, 255, 255))
        strip.paste(panel, (number * (_TILE + _GAP), 0))
    return strip
