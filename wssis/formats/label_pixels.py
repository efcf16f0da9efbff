"""Masks stored as pictures: the numbers as the file has them, and the objects in them.

Other than `wssis.data.images`, which makes every picture RGB, nothing here scales, composites or turns.
"""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from wssis.data import rle as rle_api
from wssis.data.images import MAX_PIXELS, without_libtiff
from wssis.data.rle import Rle
from wssis.errors import InputError
from wssis.files import read_bytes

SUFFIXES = (".png", ".tif", ".tiff")
MAX_OBJECTS = 1_000_000  # of one picture: more are a picture of something else
_FORMATS = ("PNG", "TIFF")  # without loss


def read_pixels(path: Path, colors: bool = False) -> NDArray[Any]:
    """The pixels (H, W) or (H, W, channels) of a PNG or TIFF file as stored.

    1-bit pictures are bool, others uint8, uint16, int32 or float32. Channels are as in the file: nothing is
    multiplied by alpha.

    Args:
        path: the file.
        colors: palette pictures as colors (H, W, 4) RGBA; otherwise as indices (H, W).

    Raises:
        InputError: missing, neither PNG nor TIFF, damaged, of several pages, to be turned (EXIF), or over
            100 megapixels (found before decoding).
    """
    data = read_bytes(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                _check(image, path)
                with without_libtiff(image):
                    return np.array(image.convert("RGBA") if colors and image.mode == "P" else image)
        except InputError:
            raise
        except Exception as error:  # decoders raise nearly anything on damaged files
            raise InputError(
                f"expected a mask as PNG or TIFF, found another or a damaged file ({error})",
                where=path,
                remedy="Save it again as PNG or TIFF of 8, 16 or 32 bits",
            ) from error


def _check(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise InputError(
            f"expected a mask of 1 px to {MAX_PIXELS / 1e6:g} megapixels, found {width} x {height}",
            where=path,
            remedy="Cut image and mask into tiles",
        )
    if getattr(image, "n_frames", 1) != 1:
        raise InputError(
            f"expected one page, found {getattr(image, 'n_frames', 0)}",
            where=path,
            remedy="Save every page as a file of its own",
        )
    turned: Any = 1
    with suppress(Exception):  # damaged EXIF says nothing
        turned = image.getexif().get(ExifTags.Base.Orientation, 1)
    if turned in range(2, 9):
        raise InputError(
            f"expected a mask stored upright, found EXIF orientation {turned}",
            where=path,
            remedy="Turn its pixels and remove the EXIF orientation",
        )


def read_labels(path: Path) -> NDArray[Any]:
    """A label image (H, W), integers of 0 or more: 0 is background, every other value one object.

    Raises:
        InputError: as `read_pixels`; colors, negative numbers or fractions.
    """
    labels = read_pixels(path)
    if labels.ndim != 2:
        raise InputError(
            f"expected a label image of one channel, found {labels.shape[2]} channels",
            where=path,
            remedy="Save the labels, not their colors: gray of 8, 16 or 32 bits",
        )
    if labels.dtype.kind == "f":
        whole = (labels >= 0) & (labels <= 2.0**31) & (labels == np.floor(labels))  # NaN is not
        if not whole.all():
            raise InputError(
                f"expected whole numbers of 0 or more, found {labels[~whole][0]:g}",
                where=path,
                remedy="Save the labels as integers of 16 or 32 bits",
            )
        return labels.astype(np.int64)
    if labels.dtype.kind == "i" and labels.min() < 0:
        raise InputError(f"expected numbers of 0 or more, found {labels.min()}", where=path)
    return labels


def read_foreground(path: Path) -> NDArray[np.bool_]:
    """The mask (H, W) of one object: pixels that are neither black nor fully transparent.

    Raises:
        InputError: as `read_pixels`; numbers that are not finite.
    """
    pixels = read_pixels(path, colors=True)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError("expected numbers, found one that is not finite", where=path)
    if pixels.ndim == 2:
        return pixels != 0
    colors, alpha = (pixels[..., :-1], pixels[..., -1]) if pixels.shape[2] in (2, 4) else (pixels, None)
    mask = (colors != 0).any(2)
    return mask if alpha is None else mask & (alpha != 0)


def objects(labels: NDArray[Any], where: Path) -> list[tuple[int, Rle]]:
    """Every value but 0 of a label image (H, W) with its mask, by value.

    One pass down the columns finds the runs of all values; the picture is not looked at once an object.

    Raises:
        InputError: over `MAX_OBJECTS` values.
    """
    height, width = labels.shape
    flat = labels.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, ends = np.concatenate([[0], changes]), np.concatenate([changes, [flat.size]])
    values = flat[starts]
    kept = np.flatnonzero(values)
    kept = kept[np.argsort(values[kept], kind="stable")]
    values, starts, ends = values[kept], starts[kept], ends[kept]
    first = np.flatnonzero(np.diff(values, prepend=0) != 0) if len(values) else kept
    if len(first) > MAX_OBJECTS:
        raise InputError(f"expected at most {MAX_OBJECTS} objects, found {len(first)}", where=where)
    found = []
    for begin, end in zip(first, [*first[1:], len(values)], strict=False):  # none, where all is background
        bounds = np.stack([starts[begin:end], ends[begin:end]], 1).ravel()
        runs = np.diff(bounds, prepend=0).tolist()
        if bounds[-1] < flat.size:
            runs.append(int(flat.size - bounds[-1]))
        found.append((int(values[begin]), rle_api.from_runs(runs, (height, width))))
    return found
