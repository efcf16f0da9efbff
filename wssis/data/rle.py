"""Masks as compressed run-length encoding (RLE), COCO's form: a dict {"size": [H, W], "counts": str}."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as mask_api
from torch import Tensor

Rle = dict[str, Any]
_NUMBERS = {int, float}


def encode(masks: Tensor | NDArray[np.bool_]) -> list[Rle]:
    """Compressed RLEs, counts as str, of masks (N, H, W) bool."""
    array = np.asarray(masks.cpu() if isinstance(masks, Tensor) else masks, dtype=np.uint8)
    return [
        {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
        for mask in array  # one at a time: pycocotools wants column-major, N masks at once would be copied
        for rle in [mask_api.encode(np.asfortranarray(mask))]
    ]


def decode(rles: Sequence[Rle], size: tuple[int, int]) -> Tensor:
    """Masks (N, H, W) bool of N compressed RLEs of `size` (H, W)."""
    if not rles:
        return torch.zeros((0, *size), dtype=torch.bool)
    columns_first = torch.from_numpy(mask_api.decode(list(rles))).permute(2, 0, 1)
    return columns_first.to(torch.bool, memory_format=torch.contiguous_format)


def area(rle: Rle) -> int:
    """Number of pixels of a mask."""
    return int(mask_api.area(rle))


def areas(rles: Sequence[Rle]) -> NDArray[np.int64]:
    """Number of pixels of N masks: (N,)."""
    # pycocotools (2.0.11) makes a useless array that cannot count beyond 255.
    parts = [mask_api.area(list(rles[start : start + 255])) for start in range(0, len(rles), 255)]
    return np.concatenate([np.zeros(0), *parts]).astype(np.int64)


def bounding_box(rle: Rle) -> list[float]:
    """Box [x, y, width, height] of a mask in pixels; zeros for an empty mask."""
    return [float(value) for value in mask_api.toBbox(rle)]


def bounding_boxes(rles: Sequence[Rle]) -> list[list[float]]:
    """`bounding_box` of each of several masks, at once."""
    return mask_api.toBbox(list(rles)).tolist() if rles else []


def run_ends(rle: Rle) -> NDArray[np.int64]:
    """Ends of the runs down the columns, exclusive; background first, so that odd runs are the mask."""
    counts = rle["counts"]
    codes = _codes(counts.encode("ascii") if isinstance(counts, str) else counts)
    if not len(codes):
        return codes
    runs, _, _ = _numbers(codes, (codes & 0x20) == 0)
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return runs.cumsum()


def contains(rle: Rle, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the pixels that hold points (N, 2) xy, all inside the image, belong to the mask: (N,)."""
    return _contains(run_ends(rle), rle["size"][0], points)


def pixels(rle: Rle) -> NDArray[np.int64]:
    """Pixels (A, 2) of a mask as indices x, y, down the columns; cheaper than decoding a small mask."""
    return _pixels(run_ends(rle), rle["size"][0])


def inner_point(rle: Rle) -> tuple[float, float] | None:
    """Center of mass (x, y) of a mask if it is on it, else the middle of its nearest pixel; None if empty."""
    ends, height = run_ends(rle), rle["size"][0]
    center = _center_of_mass(ends, height)
    if center is None or _contains(ends, height, np.array([center]))[0]:
        return center
    middles = _pixels(ends, height) + 0.5
    x, y = middles[((middles - center) ** 2).sum(1).argmin()]
    return float(x), float(y)


def _contains(ends: NDArray[np.int64], height: int, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    column, row = np.floor(points).astype(np.int64).T
    return np.searchsorted(ends, column * height + row, side="right") % 2 == 1


def _pixels(ends: NDArray[np.int64], height: int) -> NDArray[np.int64]:
    starts, ends = ends[:-1:2], ends[1::2]
    lengths = ends - starts
    skipped = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths) if len(ends) else 0
    flat = np.arange(lengths.sum()) + skipped
    return np.stack(np.divmod(flat, height), 1)


def _center_of_mass(ends: NDArray[np.int64], height: int) -> tuple[float, float] | None:
    """From the runs alone: the columns of all pixels before pixel n of H-high columns sum to
    H q (q - 1) / 2 + q r, with q = n div H, r = n mod H.
    """
    starts, ends = ends[:-1:2], ends[1::2]
    count = int((ends - starts).sum())
    if count == 0:
        return None
    flat = int(((ends - starts) * (starts + ends - 1)).sum()) // 2
    columns = 0
    for sign, bound in ((1, ends), (-1, starts)):
        whole, rest = np.divmod(bound, height)
        columns += sign * int((height * (whole * (whole - 1) // 2) + whole * rest).sum())
    return columns / count + 0.5, (flat - height * columns) / count + 0.5


def check_polygons(polygons: Sequence[Any], size: tuple[int, int]) -> None:
    """Check the parts of a mask as COCO stores them.

    Args:
        polygons: each [x0, y0, x1, y1, …] in pixels.
        size: (H, W) of the image, (0, 0) if unknown.

    Raises:
        ValueError: a part is not a list of 3 or more coordinate pairs, or reaches further outside the image
            than its longer side.
    """
    reach = max(size) or 5e8
    for part in polygons:
        if not isinstance(part, list) or not set(map(type, part)) <= _NUMBERS:
            raise ValueError("expected polygons as lists of numbers")
        if len(part) % 2:
            raise ValueError(f"expected polygon coordinates in pairs, found {len(part)} numbers")
        if len(part) < 6:
            raise ValueError(f"expected polygons of 3 or more points, found {len(part) // 2}")
        low, high = min(part), max(part)
        if not (-reach <= low and high <= 2 * reach) or math.isnan(sum(part)):
            where = f"{size[1]} x {size[0]} px" if any(size) else "pixels"
            found = low if low < -reach else high
            raise ValueError(f"expected polygon coordinates in {where}, found {found}")


def from_polygons(polygons: Sequence[Any], size: tuple[int, int]) -> Rle:
    """The compressed RLE of the union of polygons; see `check_polygons` for arguments and errors."""
    check_polygons(polygons, size)
    return _as_text(mask_api.merge(mask_api.frPyObjects(list(polygons), *size)))


def from_runs(runs: Sequence[Any], size: tuple[int, int]) -> Rle:
    """The compressed RLE of uncompressed counts: lengths of runs down the columns, background first.

    Raises:
        ValueError: not whole numbers ≥ 0, or their sum is not H * W.
    """
    height, width = size
    if not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("expected RLE counts as whole numbers of 0 or more")
    if sum(runs) != height * width:
        raise ValueError(f"expected RLE counts that sum to {height} x {width}, found a sum of {sum(runs)}")
    return _as_text(mask_api.frPyObjects({"size": [height, width], "counts": list(runs)}, height, width))


def sound(counts: Sequence[str], pixels: Sequence[int]) -> NDArray[np.bool_]:
    """Which compressed counts are well formed and cover exactly as many pixels as their image has.

    pycocotools decodes others into uninitialized memory. Strings are read a thousand at once:
    5 bits a character, bit 5 says that the number continues, bit 4 of its last character is the sign, and
    from the fourth number on each is the difference to the last but one.

    Args:
        counts: N compressed counts.
        pixels: N image areas H * W.

    Returns:
        (N,) bool.
    """
    good = np.array([text.isascii() and len(text) > 0 for text in counts], dtype=bool)
    chunk = 1000  # so that the expanded numbers stay in the cache
    for begin in range(0, len(counts), chunk):
        rows = (begin + np.flatnonzero(good[begin : begin + chunk])).tolist()
        if rows:
            texts = [counts[row] for row in rows]
            good[rows] = _sound_chunk(texts, np.array([pixels[row] for row in rows], dtype=np.int64))
    return good


def _sound_chunk(texts: Sequence[str], pixels: NDArray[np.int64]) -> NDArray[np.bool_]:
    lengths = np.array([len(text) for text in texts])
    codes = _codes("".join(texts).encode("ascii"))
    owner = np.repeat(np.arange(len(texts)), lengths)
    last_character = np.cumsum(lengths) - 1
    bad = np.bincount(owner, weights=(codes < 0) | (codes > 63), minlength=len(texts)) > 0
    ends = (codes & 0x20) == 0
    bad |= ~ends[last_character]
    ends[last_character] = True  # keeps a damaged string from running into the next one

    number, start, width = _numbers(codes, ends)
    owner = owner[start]
    bad |= np.bincount(owner, weights=width > 6, minlength=len(texts)) > 0

    first = np.flatnonzero(np.diff(owner, prepend=-1))
    order = np.arange(len(number)) - np.repeat(first, np.diff(np.append(first, len(number))))
    runs = number.copy()
    for parity in (0, 1):
        chain = (order % 2 == parity) & (order > 0)
        total = np.cumsum(np.where(chain, number, 0))
        before = np.concatenate([[0], total])[first]
        runs[chain] = (total - before[owner])[chain]
    bad |= np.minimum.reduceat(runs, first) < 0
    bad |= np.add.reduceat(runs, first) != pixels
    return ~bad


def _codes(text: bytes) -> NDArray[np.int64]:
    """What the characters of compressed counts stand for."""
    return np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48


def _numbers(
    codes: NDArray[np.int64], ends: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Numbers (n,) that the characters write, the first character of each, and how many it has.

    Args:
        ends: the characters that end a number; the last one does.
    """
    stop = np.flatnonzero(ends)
    start = np.concatenate([[0], stop[:-1] + 1])
    width = stop - start + 1
    place = np.minimum(np.arange(len(codes)) - np.repeat(start, width), 6)
    number = np.add.reduceat((codes & 0x1F) << (5 * place), start)
    number -= np.where(codes[stop] & 0x10, np.int64(1) << (5 * np.minimum(width, 7)), 0)
    return number, start, width


def _as_text(rle: Rle) -> Rle:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
