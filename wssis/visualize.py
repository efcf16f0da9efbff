"""Pictures of instances: masks, outlines, points and names over an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from wssis.instances import Instances

# Bright, and distinguishable with color blindness (after Okabe and Ito).
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 200, 140),
    (240, 228, 66),
    (110, 150, 255),
    (235, 90, 20),
    (220, 110, 180),
    (160, 240, 90),
    (190, 140, 255),
    (255, 255, 255),
)
_FILL = 0.35  # opacity of a mask
_DARK = 0.35  # brightness outside the spotlight
_MIN_SIDE = 320  # px; smaller images are enlarged by an integer factor
_MAX_NAMED = 40  # objects; more names would hide the picture
_TITLE = 24  # px, height of a title
_GAP = 8  # px between pictures

Pixels = NDArray[np.uint8]


def draw_instances(image: Tensor, instances: Instances, class_names: Sequence[str]) -> Tensor:
    """The image with its objects drawn over it, enlarged by an integer factor if its long side is < 320 px.

    Each object has its own color: a translucent mask with an outline (larger ones beneath), a dot on its
    point, its class (if there are several) and its score. Ignore regions are hatched in gray.

    Args:
        image: (3, H, W) uint8.
        instances: of the image's size; masks, points, scores and ignore may each be None.
        class_names: names of the labels.

    Returns:
        (3, s H, s W) uint8, s ≥ 1.

    Raises:
        ValueError: instances of another size than the image.

    Example:
        >>> image = torch.zeros((3, 40, 60), dtype=torch.uint8)
        >>> mask = torch.zeros((1, 40, 60), dtype=torch.bool)
        >>> mask[0, 10:20, 10:30] = True
        >>> draw_instances(image, Instances((40, 60), torch.tensor([0]), masks=mask), ["cell"]).shape
        torch.Size([3, 240, 360])
    """
    if tuple(image.shape[1:]) != tuple(instances.size):
        raise ValueError(f"draw_instances: image is {tuple(image.shape[1:])}, instances {instances.size}")
    scale = max(1, -(-_MIN_SIDE // max(instances.size)))
    pixels = _enlarge(image.permute(1, 2, 0).cpu().numpy(), scale)
    if instances.ignore is not None:
        _hatch(pixels, _enlarge(instances.ignore.cpu().numpy(), scale))
    masks = None if instances.masks is None else instances.masks.cpu().numpy()
    anchors: list[tuple[int, int] | None] = [None] * len(instances)
    if masks is not None:
        for row in np.argsort(-masks.sum((1, 2)), kind="stable").tolist():
            anchors[row] = _paint(pixels, masks[row], PALETTE[row % len(PALETTE)], scale)
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    points = None if instances.points is None else (instances.points * scale).tolist()
    if points is not None:
        for row, (x, y) in enumerate(points):
            _dot(pen, x, y, PALETTE[row % len(PALETTE)])
            anchors[row] = anchors[row] or ((int(x) + 6, int(y) + 6) if masks is None else None)
    if len(instances) <= _MAX_NAMED:
        for row, name in enumerate(_names(instances, class_names)):
            if (place := anchors[row]) and name:
                _write(pen, picture.size, place, name, PALETTE[row % len(PALETTE)])
    return _tensor(picture)


def spotlight(image: Tensor, mask: Tensor, point: tuple[float, float] | None = None) -> Tensor:
    """The image with one mask outlined and the rest darkened, enlarged as by `draw_instances`.

    Unlike a tint, this shows the mask's shape on any color.

    Args:
        image: (3, H, W) uint8.
        mask: (H, W) bool.
        point: xy in pixels; gets a dot.

    Returns:
        (3, s H, s W) uint8, s ≥ 1.
    """
    scale = max(1, -(-_MIN_SIDE // max(mask.shape)))
    pixels = _enlarge(image.permute(1, 2, 0).cpu().numpy(), scale)
    lit = _enlarge(mask.cpu().numpy(), scale)
    pixels[~lit] = (_DARK * pixels[~lit]).astype(np.uint8)
    pixels[lit & ~_erode(lit, 3)] = PALETTE[3]
    picture = Image.fromarray(pixels)
    if point is not None:
        _dot(ImageDraw.Draw(picture), point[0] * scale, point[1] * scale, PALETTE[1])
    return _tensor(picture)


def side_by_side(images: Sequence[Tensor], titles: Sequence[str]) -> Tensor:
    """Images (3, H_i, W_i) uint8 in a row on white, each under its title: (3, H, W) uint8."""
    height = max(image.shape[1] for image in images)
    width = sum(image.shape[2] for image in images) + _GAP * (len(images) - 1)
    canvas = Image.new("RGB", (width, height + _TITLE), (255, 255, 255))
    pen = ImageDraw.Draw(canvas)
    left = 0
    for image, title in zip(images, titles, strict=True):
        canvas.paste(Image.fromarray(image.permute(1, 2, 0).cpu().contiguous().numpy()), (left, _TITLE))
        pen.text((left + 2, 3), _fitted(pen, title, image.shape[2] - 4), fill=(20, 20, 20), font=_font(15))
        left += image.shape[2] + _GAP
    return _tensor(canvas)


def _tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _enlarge(array: NDArray, scale: int) -> NDArray:
    return array.repeat(scale, 0).repeat(scale, 1)


def _hatch(pixels: Pixels, region: NDArray[np.bool_]) -> None:
    """Gray out a region (H, W) of pixels (H, W, 3), with diagonal lines."""
    rows, columns = np.nonzero(region)
    tone = np.where((rows + columns) % 8 < 2, 60.0, 150.0)[:, None]
    pixels[rows, columns] = (0.5 * pixels[rows, columns] + 0.5 * tone).astype(np.uint8)


def _paint(
    pixels: Pixels, mask: NDArray[np.bool_], color: tuple[int, int, int], scale: int
) -> tuple[int, int] | None:
    """Blend a mask (H, W) into enlarged pixels; returns the top left corner of its box, None if empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return None
    top, left = rows[0], columns[0]
    part = _enlarge(mask[top : rows[-1] + 1, left : columns[-1] + 1], scale)
    line = _erode(part, 2)
    # A dark line inside the outline separates similar colors.
    inner = _erode(line, 1) if min(part.shape) >= 24 else line
    window = pixels[scale * top :, scale * left :][: part.shape[0], : part.shape[1]]
    paint = np.array(color, dtype=np.float64)
    window[inner] = ((1 - _FILL) * window[inner] + _FILL * paint).astype(np.uint8)
    window[line & ~inner] = (0.4 * window[line & ~inner]).astype(np.uint8)
    window[part & ~line] = paint
    return int(scale * left), int(scale * top)


def _erode(mask: NDArray[np.bool_], times: int) -> NDArray[np.bool_]:
    """Erode a mask `times` times with the 4-neighborhood; outside is background."""
    for _ in range(times):
        wide = np.pad(mask, 1)
        mask = mask & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return mask


def _dot(pen: ImageDraw.ImageDraw, x: float, y: float, color: tuple[int, int, int]) -> None:
    for radius, fill in ((4.5, (0, 0, 0)), (3.5, (255, 255, 255)), (2.0, color)):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def _names(instances: Instances, class_names: Sequence[str]) -> list[str]:
    """Class (if there are several) and score of each object."""
    names = [class_names[label] if len(class_names) > 1 else "" for label in instances.labels.tolist()]
    if instances.scores is None:
        return names
    scores = instances.scores.tolist()
    return [f"{name} {score:.2f}".strip() for name, score in zip(names, scores, strict=True)]


def _write(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    place: tuple[int, int],
    text: str,
    color: tuple[int, int, int],
) -> None:
    """Text on a dark tag with its lower left corner at `place`, moved inside the picture of `size` (W, H)."""
    text = _fitted(pen, text, size[0] - 4, 11)
    box = pen.textbbox((0, 0), text, font=_font(11))
    width, height = int(box[2]) + 4, int(box[3]) + 3
    left = max(0, min(place[0], size[0] - width))
    top = max(0, min(place[1] - height, size[1] - height))
    pen.rectangle((left, top, left + width, top + height), fill=(20, 20, 20))
    pen.text((left + 2, top + 1), text, fill=color, font=_font(11))


def _fitted(pen: ImageDraw.ImageDraw, text: str, width: int, size: int = 15) -> str:
    """The text, shortened with an ellipsis if it is wider than `width` px."""
    shown = text
    while shown and pen.textlength(shown, font=_font(size)) > width:
        text = text[:-1]
        shown = f"{text.rstrip()}…" if text else ""
    return shown
