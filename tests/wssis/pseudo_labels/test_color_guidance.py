"""Masks move to color edges, and stay where the image shows none."""

import pytest
import torch
from torch import Tensor

from wssis.pseudo_labels.color_guidance import follow_colors


def disc(size: int, radius: float, blur: float) -> Tensor:
    """(size, size) probability of a disc whose outline is `blur` pixels wide."""
    axis = torch.arange(size) + 0.5 - size / 2
    return torch.sigmoid((radius - torch.hypot(axis[:, None], axis)) / blur)


def iou(first: Tensor, second: Tensor) -> float:
    return float((first & second).sum() / (first | second).sum())


def crop_of(mask: Tensor, inside: tuple[int, int, int], outside: tuple[int, int, int]) -> Tensor:
    """(3, S, S) uint8 with noise of 5 levels."""
    colors = torch.tensor(inside)[:, None, None] * mask + torch.tensor(outside)[:, None, None] * ~mask
    noise = torch.randn(3, *mask.shape, generator=torch.Generator().manual_seed(0)) * 5
    return (colors + noise).clamp(0, 255).byte()


@pytest.mark.parametrize("size", [16, 33, 64])
@pytest.mark.parametrize("inside", [(200, 60, 60), (90, 90, 90)])
def test_a_mask_takes_the_outline_that_the_image_shows(size: int, inside: tuple[int, int, int]) -> None:
    square = torch.zeros(size, size, dtype=torch.bool)
    square[size // 4 : -size // 4, size // 4 : -size // 4] = True
    probs = disc(size, size / 5, size / 16)
    guided = follow_colors(probs[None], crop_of(square, inside, (60, 60, 60))[None], 10.0, 0.2)[0]
    assert iou(probs > 0.5, square) < 0.6
    assert iou(guided > 0.5, square) > 0.95


def test_a_mask_stays_where_all_pixels_look_alike() -> None:
    mask = disc(64, 14, 1) > 0.5
    crop = crop_of(mask, (100, 100, 100), (100, 100, 100))
    guided = follow_colors(disc(64, 14, 1)[None], crop[None], 3.0, 0.15)[0]
    assert iou(guided > 0.5, mask) > 0.8


def test_without_weight_or_objects_nothing_changes() -> None:
    probs, crops = torch.rand(2, 8, 8).half(), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    assert torch.equal(follow_colors(probs, crops, 0.0, 0.2), probs.float())
    assert follow_colors(probs[:0], crops[:0], 10.0, 0.2).shape == (0, 8, 8)


def test_objects_do_not_depend_on_one_another() -> None:
    probs = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    crops = torch.randint(256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(2)).byte()
    together = follow_colors(probs, crops, 5.0, 0.2)
    assert torch.equal(together[1:2], follow_colors(probs[1:2], crops[1:2], 5.0, 0.2))
    assert float(together.min()) >= 0
    assert float(together.max()) <= 1
