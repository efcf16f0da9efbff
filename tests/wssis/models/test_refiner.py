"""MaskRefineNet: what goes in, what comes out, and that it begins with the mask it was given."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from wssis.models.refiner import ASPP, Refiner
from wssis.settings import RefinerSettings

SMALL = RefinerSettings(pretrained=False, width=16, crop=32)


def inputs(count: int, classes: int, side: int = 32) -> tuple[Any, ...]:
    torch.manual_seed(1)
    rough = torch.zeros(count, side, side)
    rough[:, 8:24, 8:24] = 1
    labels = [row % classes for row in range(count)]
    return torch.randn(count, 3, side, side), rough, torch.rand(count, 2, side, side), labels


@pytest.mark.parametrize("classes", [1, 3, 80])
@pytest.mark.parametrize("count", [1, 5])
def test_a_logit_a_pixel(classes: int, count: int) -> None:
    refiner = Refiner(SMALL, classes).eval()
    with torch.no_grad():
        logits = refiner(*inputs(count, classes))
    assert logits.shape == (count, 32, 32)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "resnet18"},
        {"strides": (4, 8, 16)},
        {"strides": (4, 8, 16, 32), "backbone": "resnet18"},
        {"frozen_stages": 2},
    ],
    ids=str,
)
def test_other_encoders(change: dict) -> None:
    refiner = Refiner(replace(SMALL, **change), 2).train()
    logits = refiner(*inputs(2, 2, side=64))
    logits.sum().backward()
    assert logits.shape == (2, 64, 64)
    assert refiner.out.weight.grad is not None


def test_it_begins_with_the_rough_mask() -> None:
    torch.manual_seed(0)
    refiner = Refiner(SMALL, 2).eval()
    images, rough, points, labels = inputs(4, 2)
    nn.init.zeros_(refiner.out.weight)
    with torch.no_grad():
        assert torch.equal(refiner(images, rough, points, labels) > 0, rough > 0.5)
        refiner.settings = replace(SMALL, residual=False)
        assert refiner(images, rough, points, labels).eq(0).all()


@pytest.mark.parametrize("which", [0, 1, 2, 3], ids=["image", "rough mask", "points", "class"])
def test_every_input_matters(which: int) -> None:
    refiner = Refiner(replace(SMALL, residual=False), 3).eval()
    given = list(inputs(1, 3))
    with torch.no_grad():
        before = refiner(*given)
        given[which] = [2] if which == 3 else 1 - given[which]
        assert not torch.allclose(refiner(*given), before)


def test_every_class_and_other_points_have_a_channel_of_their_own() -> None:
    refiner = Refiner(replace(SMALL, residual=False), 3).eval()
    images, rough, points, _ = inputs(1, 3)
    points[:, 1] = 0
    with torch.no_grad():
        outs = [refiner(images, rough, points, [label]) for label in range(3)]
        outs.append(refiner(images, rough, points.flip(1), [0]))
    assert all(not torch.allclose(a, b) for i, a in enumerate(outs) for b in outs[:i])


def test_a_crop_is_refined_alike_in_any_batch() -> None:
    refiner = Refiner(SMALL, 2).eval()
    given = inputs(6, 2)
    with torch.no_grad():
        whole, part = refiner(*given), refiner(*(x[2:3] for x in given))
    torch.testing.assert_close(whole[2:3], part, rtol=1e-4, atol=1e-4)


def test_aspp_looks_far_and_keeps_its_size() -> None:
    torch.manual_seed(0)
    block = ASPP(6, 8).eval()
    x = torch.randn(1, 6, 9, 7)
    assert block(x).shape == (1, 8, 9, 7)
    assert block(torch.randn(1, 6, 1, 1)).shape == (1, 8, 1, 1)
    assert [branch[0].dilation for branch in block.branches] == [(1, 1), (2, 2), (4, 4)]


def test_normalize_is_the_encoders() -> None:
    refiner = Refiner(SMALL, 1)
    white = refiner.normalize(torch.full((3, 4, 5), 255, dtype=torch.uint8))
    expected = (255 - refiner.encoder.mean) / refiner.encoder.std
    torch.testing.assert_close(white, expected.expand(3, 4, 5))


@pytest.mark.parametrize(
    "change",
    [
        {"crop": 8},
        {"crop": 40},
        {"scale_range": (2.0, 1.5)},
        {"scale_range": (0.5, 1.5)},
        {"scale": 0.5},
        {"sigma": 0.0},
        {"smallest": 1.0},
        {"passes": 0},
        {"hidden": 1.0},
        {"level": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        replace(SMALL, **change)
