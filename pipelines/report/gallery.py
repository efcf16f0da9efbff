"""Pictures of pseudo-labels for the report: rough mask, refined mask and, where it is known, the truth."""

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

SHOWN = 96  # pictures, at most: the report is one file that a phone shall load
_TILE = 160  # px, side of a panel
_GAP = 4  # px between panels
_MARGIN = 1.6  # side of what is shown over the longest side of the masks
_SMALLEST = 32  # px of the image

Panels = dict[str, CocoData]  # title -> data with a mask for (almost) every label


@dataclass(frozen=True)
class Shown:
    """A pseudo-label in the gallery.

    Attributes:
        image: file name of its image.
        image_id, id: of its image and annotation.
        name: its class.
        confidence: 0..1.
        ignored: whether it was left undecided; the masks are those that it would have got.
        rough_iou, refined_iou: with the truth, None where that is not known.
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
    """Every label of the weak images; `ious` has rough and refined IoU by annotation id."""
    found = []
    for image in labels.images:
        for item in image.annotations:
            rough, refined = ious.get(item.id, (None, None))
            confidence = float(item.extra.get("confidence", 0.0))
            name = labels.class_names[item.label]
            found.append(
                Shown(image.file_name, image.id, item.id, name, confidence, item.ignored, rough, refined)
            )
    return found


def choose(labels: Sequence[Shown], most: int = SHOWN) -> list[Shown]:
    """At most `most` labels, the surest first, spread evenly over confidences.

    At most a third are ignored ones, unless the others are fewer than two thirds.
    """
    surest = sorted(labels, key=lambda item: (-item.confidence, item.image_id, item.id))
    ignored = [item for item in surest if item.ignored]
    masks = [item for item in surest if not item.ignored]
    room = max(min(len(ignored), most // 3), most - len(masks))
    chosen = {item.id for item in (*_spread(ignored, room), *_spread(masks, most - min(room, len(ignored))))}
    return [item for item in surest if item.id in chosen]


def _spread(items: Sequence[Shown], count: int) -> list[Shown]:
    """At most `count` items, evenly spaced, first and last among them."""
    if len(items) <= count:
        return list(items)
    if count < 2:
        return list(items[:count])
    return [items[round(n * (len(items) - 1) / (count - 1))] for n in range(count)]


def gallery(chosen: Sequence[Shown], panels: Panels, total: int) -> dict[str, Any]:
    """What the report shows.

    Args:
        chosen: labels, in the order in which they are shown.
        panels: titles and data of the panels of a picture, from left to right; where one has no mask of a
            label, the picture lacks it.
        total: how many labels there are.

    Returns:
        JSON: `total`, and `labels`, each with the fields of `Shown`, `panels` (titles) and `picture` (base64
        of a WebP file).
    """
    data = next(iter(panels.values()))
    pictures: dict[int, list[tuple[int, Shown]]] = {}
    for place, item in enumerate(chosen):
        pictures.setdefault(item.image_id, []).append((place, item))
    result: list[dict[str, Any]] = [{} for _ in chosen]
    for image_id, items in pictures.items():
        record = data.by_id[image_id]
        image = read_image(data.image_dir, record.file_name, record.size)
        for place, item in items:
            masks, point = masks_of(panels, item)
            window = shown_window(list(masks.values()), point, record.size)
            strip = draw_strip(image, list(masks.values()), point, window)
            picture = base64.b64encode(as_webp(strip)).decode()
            result[place] = asdict(item) | {"panels": list(masks), "picture": picture}
    return {"total": total, "labels": result}


def masks_of(panels: Panels, item: Shown) -> tuple[dict[str, Tensor], tuple[float, float] | None]:
    """Masks (H, W) bool of a label by panel, and its point."""
    masks: dict[str, Tensor] = {}
    point = None
    for title, data in panels.items():
        record = data.by_id.get(item.image_id)
        for annotation in record.annotations if record else ():
            if annotation.id == item.id and annotation.rle is not None:
                assert record is not None
                masks[title] = rle_api.decode([annotation.rle], record.size)[0]
                point = point or annotation.point
    return masks, point


def shown_window(
    masks: Sequence[Tensor], point: tuple[float, float] | None, size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a square round all masks and the point, inside the image (H, W)."""
    union = torch.stack(list(masks)).any(0) if masks else torch.zeros(size, dtype=torch.bool)
    if point:
        union[min(int(point[1]), size[0] - 1), min(int(point[0]), size[1] - 1)] = True
    rows, columns = union.any(1).nonzero()[:, 0].tolist(), union.any(0).nonzero()[:, 0].tolist()
    ends = []
    spans = [
        (lines[0], lines[-1] + 1) if lines else (0, length)
        for lines, length in ((columns, size[1]), (rows, size[0]))
    ]
    side = max(_SMALLEST, round(_MARGIN * max(end - start for start, end in spans)))
    for (start, end), length in zip(spans, (size[1], size[0]), strict=True):
        first = max(0, min(round((start + end - side) / 2), length - side))
        ends.append((first, min(first + side, length)))
    (left, right), (top, bottom) = ends
    return left, top, right, bottom


def draw_strip(
    image: Tensor,
    masks: Sequence[Tensor],
    point: tuple[float, float] | None,
    window: tuple[int, int, int, int],
) -> Image.Image:
    """Panels of one size side by side, a mask and the point on each."""
    left, top, right, bottom = window
    crop = image[:, top:bottom, left:right]
    at = (point[0] - left, point[1] - top) if point else None
    strip = Image.new("RGB", (len(masks) * (_TILE + _GAP) - _GAP, _TILE), (255, 255, 255))
    for number, mask in enumerate(masks):
        drawn = spotlight(crop, mask[top:bottom, left:right], at).permute(1, 2, 0).contiguous().numpy()
        panel = ImageOps.pad(Image.fromarray(drawn), (_TILE, _TILE), color=(255, 255, 255))
        strip.paste(panel, (number * (_TILE + _GAP), 0))
    return strip
