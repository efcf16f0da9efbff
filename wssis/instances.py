"""`Instances`: the objects of one image, the type that every package exchanges."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Instances:
    """N objects of one image. Every field except `size`, `labels` and `ignore` has N rows or is None.

    `get_masks()` and its siblings return a field and raise if it is None.

    Attributes:
        size: (H, W) of the image in pixels.
        labels: (N,) int64, class index 0..K-1.
        masks: (N, H, W) bool.
        points: (N, 2) float32, pixels, x then y, origin at the image's top left corner.
        scores: (N,) float32 in 0..1.
        ids: (N,) int64, ids of the objects' annotations.
        ignore: (H, W) bool, pixels whose content is unknown (crowds, undecided points).

    Raises:
        ValueError: a field's shape or dtype is not as above.

    Example:
        >>> found = Instances((2, 3), torch.tensor([1]), masks=torch.ones((1, 2, 3), dtype=torch.bool))
        >>> len(found), found.get_masks().sum().item()
        (1, 6)
    """

    size: tuple[int, int]
    labels: Tensor
    masks: Tensor | None = None
    points: Tensor | None = None
    scores: Tensor | None = None
    ids: Tensor | None = None
    ignore: Tensor | None = None

    def __post_init__(self) -> None:
        count = self.labels.shape[0]
        expected = {
            "labels": ((count,), torch.int64),
            "masks": ((count, *self.size), torch.bool),
            "points": ((count, 2), torch.float32),
            "scores": ((count,), torch.float32),
            "ids": ((count,), torch.int64),
            "ignore": (tuple(self.size), torch.bool),
        }
        for name, (shape, dtype) in expected.items():
            value = getattr(self, name)
            if value is not None and (tuple(value.shape) != shape or value.dtype != dtype):
                raise ValueError(
                    f"Instances.{name}: expected {shape} {dtype}, got {tuple(value.shape)} {value.dtype}"
                )

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def __getitem__(self, rows: Tensor | slice) -> Instances:
        """The objects selected by `rows` (index tensor, bool tensor or slice); `ignore` is unchanged."""
        per_object = (name for name in self._tensors() if name != "ignore")
        return replace(self, **{name: getattr(self, name)[rows] for name in per_object})

    def to(self, device: torch.device | str) -> Instances:
        """The same objects with every tensor on `device`."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in self._tensors()}
        return replace(self, **moved)

    def get_masks(self) -> Tensor:
        """`masks` (N, H, W) bool; ValueError if it is None."""
        return self._get("masks")

    def get_points(self) -> Tensor:
        """`points` (N, 2) float32; ValueError if it is None."""
        return self._get("points")

    def get_scores(self) -> Tensor:
        """`scores` (N,) float32; ValueError if it is None."""
        return self._get("scores")

    def get_ids(self) -> Tensor:
        """`ids` (N,) int64; ValueError if it is None."""
        return self._get("ids")

    def _get(self, name: str) -> Tensor:
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise ValueError(f"expected instances with {name}, got {name}=None")
        return value

    def _tensors(self) -> list[str]:
        """Names of the fields that hold a tensor."""
        return [f.name for f in fields(self) if f.name != "size" and getattr(self, f.name) is not None]

    @staticmethod
    def empty(size: tuple[int, int]) -> Instances:
        """No object, with empty masks, points, scores and ids, for an image of `size` (H, W)."""
        return Instances(
            size=size,
            labels=torch.zeros(0, dtype=torch.int64),
            masks=torch.zeros((0, *size), dtype=torch.bool),
            points=torch.zeros((0, 2)),
            scores=torch.zeros(0),
            ids=torch.zeros(0, dtype=torch.int64),
        )
