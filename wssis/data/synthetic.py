"""`shapes`: generated scenes of textured figures, the data set that needs no download.

Four classes differ in outline only: color, texture, size and place come from the same distributions for
all, and the background has them too. Objects hide one another; masks are of what is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wssis.data import rle as rle_api
from wssis.data.coco import save_coco
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.files import atomic_path

CLASSES = ("disc", "square", "triangle", "star")
MIN_VISIBLE = 20  # pixels; smaller ones look like texture
EMPTY_SHARE = 0.03
_FINE = 4  # subpixels a side, for smooth edges

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """image (size, size, 3) uint8; masks (N, size, size) bool of what is seen; labels: N class indices."""

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    labels: tuple[int, ...]


def generate(
    folder: str | Path, seed: int = 0, n_train: int = 200, n_val: int = 150, size: int = 96
) -> tuple[CocoData, CocoData]:
    """Write `train/`, `val/` (PNG), `train.json` and `val.json` to `folder`; same seed, same bytes.

    A scene depends on the seed, its split and its number only, so that more scenes leave the first as they
    are. About 3 % of them show no object.

    Args:
        folder: made if missing.
        seed: ≥ 0.
        n_train: scenes to train on.
        n_val: scenes to report on.
        size: side in pixels, ≥ 32; objects scale with it (14–56 px at 96).

    Returns:
        Training and validation data, with `image_dir` inside `folder`.
    """
    train = _write_split(Path(folder), "train", seed, 0, n_train, size)
    val = _write_split(Path(folder), "val", seed, 1, n_val, size)
    return train, val


def draw_scene(rng: np.random.Generator, size: int = 96) -> Scene:
    """One scene of 1–6 objects (3 % have none), drawn back to front."""
    canvas = _texture(rng, size, _color(rng))
    drawn: list[tuple[int, NDArray[np.bool_]]] = []
    for _ in range(0 if rng.random() < EMPTY_SHARE else int(rng.integers(1, 7))):
        label = int(rng.integers(len(CLASSES)))
        coverage = _figure(rng, CLASSES[label], size)
        backdrop = canvas[coverage > 0.5].mean(0) if (coverage > 0.5).any() else _color(rng)
        surface = _texture(rng, size, _near(rng, backdrop))
        canvas += coverage[..., None] * (surface - canvas)
        mask = coverage >= 0.5
        drawn = [(other, seen & ~mask) for other, seen in drawn] + [(label, mask)]
    canvas += rng.normal(0, 4, canvas.shape)  # the camera's noise
    kept = [(label, mask) for label, mask in drawn if mask.sum() >= MIN_VISIBLE]
    return Scene(
        image=np.rint(canvas).clip(0, 255).astype(np.uint8),
        masks=np.stack([mask for _, mask in kept]) if kept else np.zeros((0, size, size), bool),
        labels=tuple(label for label, _ in kept),
    )


def _write_split(folder: Path, split: str, seed: int, stream: int, count: int, size: int) -> CocoData:
    images, next_id = [], 1
    for number in range(count):
        scene = draw_scene(np.random.default_rng([seed, stream, number]), size)
        name = f"{number:05d}.png"
        with atomic_path(folder / split / name) as path:
            Image.fromarray(scene.image).save(path, compress_level=6)
        annotations = tuple(
            Annotation(next_id + row, label, rle)
            for row, (label, rle) in enumerate(zip(scene.labels, rle_api.encode(scene.masks), strict=True))
        )
        next_id += len(annotations)
        images.append(ImageRecord(number + 1, name, size, size, annotations))
    categories = tuple(Category(label + 1, name) for label, name in enumerate(CLASSES))
    data = CocoData(categories, tuple(images), str(folder / split), folder / f"{split}.json")
    save_coco(data, folder / f"{split}.json")
    return data


def _color(rng: np.random.Generator) -> Float:
    return rng.uniform(50, 205, 3)


def _near(rng: np.random.Generator, color: Float) -> Float:
    """A color at a distance of 60–130 levels, drawn anew where it would leave the range."""
    for _ in range(20):
        step = rng.normal(size=3)
        other = color + step / np.linalg.norm(step) * rng.uniform(60, 130)
        if (other > 20).all() and (other < 235).all():
            break
    return other.clip(20, 235)


def _texture(rng: np.random.Generator, size: int, color: Float) -> Float:
    """(size, size, 3): the color with stripes, checks, blotches or grain, and a gradient over it."""
    rows, columns = np.mgrid[:size, :size] * (96 / size)
    angle, period = rng.uniform(0, 2 * np.pi), rng.uniform(5, 14)
    along = rows * np.sin(angle) + columns * np.cos(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    kind = rng.integers(4)
    if kind == 0:
        pattern = np.sin(2 * np.pi * along / period)
    elif kind == 1:
        pattern = np.sign(np.sin(2 * np.pi * along / period) * np.sin(2 * np.pi * across / period))
    elif kind == 2:
        pattern = _blotches(rng, size, int(rng.integers(4, 13)))
    else:
        pattern = rng.uniform(-1, 1, (size, size))
    tint = rng.normal(0, 0.35, 3) + 1
    slope = (rng.uniform(-0.5, 0.5) * rows + rng.uniform(-0.5, 0.5) * columns)[..., None]
    return color + rng.uniform(6, 22) * pattern[..., None] * tint + slope - slope.mean()


def _blotches(rng: np.random.Generator, size: int, cells: int) -> Float:
    """Smooth noise in -1…1: random values on a grid of `cells` a side, blended with a cosine."""
    grid = rng.uniform(-1, 1, (cells + 2, cells + 2))
    place = np.arange(size) * (cells / size)
    low = place.astype(int)
    part = (1 - np.cos(np.pi * (place - low))) / 2
    rows = grid[low] * (1 - part)[:, None] + grid[low + 1] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, low + 1] * part


def _figure(rng: np.random.Generator, name: str, size: int) -> Float:
    """(size, size) share of each pixel that a figure of random size, place and turn covers, 0…1."""
    # log-uniform: as many from 14 to 28 px as from 28 to 56
    diameter = size / 96 * 14 * (56 / 14) ** rng.uniform()
    center = rng.uniform(0.04, 0.96, 2) * size
    turn, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.0)
    low = np.maximum(np.floor(center - 0.6 * diameter), 0).astype(int)  # only the figure's own window
    high = np.minimum(np.ceil(center + 0.6 * diameter), size).astype(int)
    x, y = (
        (np.arange(low[axis] * _FINE, high[axis] * _FINE) + 0.5) / _FINE - center[axis] for axis in (0, 1)
    )
    u = (x[None] * np.cos(turn) + y[:, None] * np.sin(turn)) * (2 / diameter)
    v = (y[:, None] * np.cos(turn) - x[None] * np.sin(turn)) * (2 / (diameter * stretch))
    width, height = high - low
    coverage = np.zeros((size, size))
    coverage[low[1] : high[1], low[0] : high[0]] = (
        _inside(name, u, v).reshape(height, _FINE, width, _FINE).mean((1, 3))
    )
    return coverage


def _inside(name: str, u: Float, v: Float) -> NDArray[np.bool_]:
    """Whether points (u, v) lie in the figure, which reaches out to 1 (corners: to 1.14)."""
    if name == "disc":
        return u**2 + v**2 <= 1
    if name == "square":
        return np.maximum(np.abs(u), np.abs(v)) <= 0.8
    if name == "triangle":
        half = 0.55  # inradius; three half-planes
        sides = [np.cos(a) * u + np.sin(a) * v for a in 2 * np.pi / 3 * np.arange(3)]
        return np.maximum.reduce(sides) <= half
    spike = np.pi / 5  # five points: the radius falls linearly from a tip to the notch
    away = np.abs((np.arctan2(v, u) % (2 * spike)) - spike) / spike
    return np.hypot(u, v) <= 0.45 + 0.6 * away
