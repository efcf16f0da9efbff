"""Masks kept in their boxes give the crops that whole masks give."""

import pytest
import torch

from wssis.data import rle as rle_api
from wssis.data.mask_patches import MaskPatches
from wssis.data.records import Annotation, ImageRecord

SIZE = (40, 60)


def record(masks: torch.Tensor, **kinds: list[int]) -> ImageRecord:
    annotations = []
    for row, rle in enumerate(rle_api.encode(masks)):
        extra = {"ignore": True} if row in kinds.get("ignored", []) else {}
        annotations.append(Annotation(row, row % 3, rle, crowd=row in kinds.get("crowds", []), extra=extra))
    return ImageRecord(1, "a.png", *SIZE, tuple(annotations))


@pytest.mark.parametrize("window", [(0, 0, 40, 60), (5, 7, 20, 30), (39, 59, 1, 1), (30, 0, 10, 60)])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_a_crop_is_the_slice_of_the_whole_masks(window, count) -> None:
    torch.manual_seed(count)
    masks = torch.zeros((count, *SIZE), dtype=torch.bool)
    for mask in masks:
        y, x = int(torch.randint(36, ())), int(torch.randint(55, ()))
        mask[y : y + 12, x : x + 15] = torch.rand(mask[y : y + 12, x : x + 15].shape) > 0.4
    source = record(masks, crowds=[3], ignored=[5])
    top, left, height, width = window
    whole = source.instances()
    expected = whole.masks[:, top : top + height, left : left + width]
    crop = MaskPatches.of(source).crop(*window)
    seen = expected.flatten(1).any(1)
    empty = ~crop.masks.flatten(1).any(1)  # a box may reach in where its mask does not
    assert torch.equal(crop.masks[~empty], expected[seen])
    assert torch.equal(crop.labels[~empty], whole.labels[seen])
    if count > 5:
        assert torch.equal(crop.ignore, whole.ignore[top : top + height, left : left + width])
    else:
        assert crop.ignore is None


def test_memory_is_that_of_the_boxes() -> None:
    masks = torch.zeros((2, *SIZE), dtype=torch.bool)
    masks[0, 3:7, 4:9] = True
    assert MaskPatches.of(record(masks)).nbytes == 20
