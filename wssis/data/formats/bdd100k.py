"""BDD100K: instance masks as RGBA bitmasks, or labels as scalabel JSON.

A folder with PNG files is one of bitmasks (`labels/ins_seg/bitmasks/train`), a file `.json` (or a folder of
these) is scalabel's: see `wssis.data.formats.scalabel`. A bitmask is a PNG of 8-bit RGBA, whose alpha is a
number as the others are:

    R          category, 1 … 8 in the order of `CLASSES`; 0 is background; 9, 10 (traffic light, traffic
               sign) belong to other tasks and are left out
    G          truncated · 8 + occluded · 4 + crowd · 2 + ignored
    B, A       the instance: B · 256 + A

Crowds and ignored instances take no part in evaluation; truncated and occluded ones are objects as others.
The image has the mask's path, with .jpg for .png. The dataset's `colormaps` and `masks` are pictures of other
kinds and refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from wssis.data.formats import scalabel
from wssis.data.formats.fields import files
from wssis.data.formats.labels import Label, LabelledImage, Options
from wssis.data.formats.pixels import objects, read_pixels
from wssis.data.formats.scalabel import CLASSES
from wssis.errors import InputError

_OTHER_TASKS = (9, 10)
_LAST_FLAG = 15


def read(source: Path, options: Options) -> Iterator[LabelledImage]:
    """The image of every bitmask, or of every frame; see the module."""
    suffix = source.suffix.lower()
    try:
        folder = source.is_dir()
        if folder:
            suffix = next((".png" for path in source.rglob("*") if path.suffix.lower() == ".png"), ".json")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", where=source) from error
    for path in files(source, suffix):
        where = str(path) if folder else ""
        if suffix == ".png":
            file = path.relative_to(source) if folder else Path(path.name)
            yield _bitmask(path, file.with_suffix(".jpg").as_posix(), where)
        else:
            yield from scalabel.read(path, where)


def _bitmask(path: Path, file: str, where: str) -> LabelledImage:
    pixels = read_pixels(path)
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        raise InputError(
            "expected a bitmask: PNG of 8-bit RGBA, found other channels",
            where=path,
            remedy="Import the dataset's bitmasks, not its colormaps or masks",
        )
    numbers = np.ascontiguousarray(pixels).view("<u4")[..., 0]  # all four as one; red is its lowest byte
    numbers = np.where(pixels[..., 0] == 0, np.uint32(0), numbers)
    labels: dict[int, Label] = {}
    for number, rle in objects(numbers, path):
        red, green, blue, alpha = number & 255, number >> 8 & 255, number >> 16 & 255, number >> 24
        instance = blue * 256 + alpha
        record = f"instance {instance}"
        if red > len(CLASSES) and red not in _OTHER_TASKS:
            raise InputError(
                f"expected a category (red) of 0 to {_OTHER_TASKS[-1]}, found {red}",
                where=path,
                record=record,
            )
        if green > _LAST_FLAG:
            raise InputError(
                f"expected attributes (green) of 0 to {_LAST_FLAG}, found {green}", where=path, record=record
            )
        if instance in labels:
            raise InputError(
                "expected one category and one set of attributes, found two", where=path, record=record
            )
        name = CLASSES[red - 1] if red <= len(CLASSES) else ""
        labels[instance] = Label(name, record, rle=rle, crowd=bool(green & 2), ignore=bool(green & 1))
    kept = tuple(labels[instance] for instance in sorted(labels) if labels[instance].name)
    return LabelledImage(file, kept, size=(pixels.shape[0], pixels.shape[1]), where=where)
