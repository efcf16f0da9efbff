"""Pictures and plots as PNG files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from wssis.files import atomic_path


def save_picture(picture: Tensor, path: Path) -> None:
    """Write a uint8 (3, H, W) picture as PNG, atomically."""
    with atomic_path(path) as temporary:
        Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(temporary)


def save_scatter(
    x: Sequence[float], y: Sequence[float], labels: tuple[str, str], title: str, path: Path
) -> None:
    """Write a scatter plot of values in 0..1."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(x, y, s=10, alpha=0.5, linewidths=0)
    axes.set(xlabel=labels[0], ylabel=labels[1], title=title, xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})


def as_webp(picture: Image.Image) -> bytes:
    """A picture as a small WebP file."""
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=78, method=4)
    return file.getvalue()


def stack(pictures: list[Tensor]) -> Tensor:
    """uint8 (3, H, W) pictures in a column, padded with white to one width."""
    width = max(picture.shape[2] for picture in pictures)
    padded = []
    for picture in pictures:
        canvas = picture.new_full((3, picture.shape[1], width), 255)
        canvas[:, :, : picture.shape[2]] = picture
        padded.append(canvas)
    return torch.cat(padded, 1)
