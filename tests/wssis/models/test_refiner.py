"""MaskRefineNet: what goes in, what comes out, and that it begins with the mask it was given."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from wssis.models.backbone import Backbone
from wssis.models.refiner import ASPP, Refiner, widen_first_conv
from wssis.settings import RefinerSettings

SMALL = RefinerSettings(pretrained=False, width=16, crop=32)


def inputs(count: int, classes: int, side: int = 32) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    rough = torch.zeros(count, side, side)
    rough[:, 8:24, 8:24] = 1
    return torch.randn(count, 3, side, side), rough, torch.rand(count, classes + 1, side, side)


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
    images, rough, points = inputs(4, 2)
    nn.init.zeros_(refiner.out.weight)
    with torch.no_grad():
        assert torch.equal(refiner(images, rough, points) > 0, rough > 0.5)
        refiner.settings = replace(SMALL, residual=False)
        assert refiner(images, rough, points).eq(0).all()


@pytest.mark.parametrize("which", [0, 1, 2], ids=["image", "rough mask", "points"])
def test_every_input_matters(which: int) -> None:
    refiner = Refiner(replace(SMALL, residual=False), 3).eval()
    given = list(inputs(1, 3))
    with torch.no_grad():
        before = refiner(*given)
        given[which] = 1 - given[which]
        assert not torch.allclose(refiner(*given), before)


def test_every_class_has_a_channel_of_its_own() -> None:
    refiner = Refiner(replace(SMALL, residual=False), 3).eval()
    images, rough, points = inputs(1, 3)
    with torch.no_grad():
        outs = []
        for channel in range(4):
            one = torch.zeros_like(points)
            one[:, channel, 12:20, 12:20] = 1
            outs.append(refiner(images, rough, one))
    assert all(not torch.allclose(a, b) for i, a in enumerate(outs) for b in outs[:i])


def test_a_crop_is_refined_alike_in_any_batch() -> None:
    refiner = Refiner(SMALL, 2).eval()
    given = inputs(6, 2)
    with torch.no_grad():
        whole, part = refiner(*given), refiner(*(x[2:3] for x in given))
    torch.testing.assert_close(whole[2:3], part, rtol=1e-4, atol=1e-4)


def test_more_channels_leave_the_colours_weights() -> None:
    torch.manual_seed(0)
    net = Backbone("resnet18", (4, 8), pretrained=False, frozen_stages=0).net
    before = net.conv1.weight.detach().clone()
    widen_first_conv(net, 4)
    assert net.conv1.weight.shape == (64, 7, 7, 7)
    assert torch.equal(net.conv1.weight[:, :3], before)
    assert net.conv1.weight[:, 3:].abs().sum() > 0
    assert (net.conv1.stride, net.conv1.padding, net.conv1.bias) == ((2, 2), (3, 3), None)


def test_aspp_looks_far_and_keeps_its_size() -> None:
    torch.manual_seed(0)
    block = ASPP(6, 8).eval()
    x = torch.randn(1, 6, 9, 7)
    assert block(x).shape == (1, 8, 9, 7)
    assert block(torch.randn(1, 6, 1, 1)).shape == (1, 8, 1, 1)
    assert [branch[0].dilation for branch in block.branches] == [(1, 1), (2, 2), (4, 4)]


def test_normalise_is_the_encoders() -> None:
    refiner = Refiner(SMALL, 1)
    white = refiner.normalise(torch.full((3, 4, 5), 255, dtype=torch.uint8))
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
