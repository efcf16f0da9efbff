"""The refiner's first convolution gives what one over all channels of classes gives, and learns the same."""

import pytest
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from wssis.models.backbone import Backbone
from wssis.models.refiner import ClassConv, with_class_conv

CLASSES = 4


def dense(crops: Tensor, labels: list[int]) -> Tensor:
    """All K + 5 channels, those of other classes 0."""
    wide = torch.zeros(len(crops), CLASSES + 5, *crops.shape[2:])
    wide[:, :4], wide[:, -1] = crops[:, :4], crops[:, 5]
    wide[torch.arange(len(crops)), 4 + torch.tensor(labels, dtype=torch.int64)] = crops[:, 4]
    return wide


@pytest.mark.parametrize("labels", [[], [0], [3, 3], [2, 0, 3, 2, 0]], ids=str)
@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_a_convolution_over_all_channels(labels: list[int], kind: type[nn.Conv2d], bias: bool) -> None:
    torch.manual_seed(0)
    first = kind(3, 8, 3, stride=2, bias=bias)
    conv = ClassConv(first, CLASSES)
    whole = kind(3 + CLASSES + 2, 8, 3, stride=2, bias=bias)
    whole.load_state_dict(conv.state_dict())
    crops = torch.randn(len(labels), 6, 9, 11)
    ours, theirs = conv.convolve(crops, labels), whole(dense(crops, labels))
    torch.testing.assert_close(ours, theirs)
    for made in (ours, theirs):
        made.square().sum().backward()
    torch.testing.assert_close(conv.weight.grad, whole.weight.grad)


def test_colors_keep_their_weights_and_the_network_its_names() -> None:
    torch.manual_seed(0)
    net = Backbone("resnet18", (4, 8), pretrained=False, frozen_stages=1).net
    before, names = net.conv1.weight.detach().clone(), set(net.state_dict())
    assert with_class_conv(net, 2) == "conv1"
    assert set(net.state_dict()) == names
    assert net.conv1.weight.shape == (64, 7, 7, 7)
    assert torch.equal(net.conv1.weight[:, :3], before)
    assert net.conv1.weight[:, 3:].abs().sum() > 0
    assert not net.conv1.weight.requires_grad
    assert net.conv1.convolve(torch.zeros(1, 6, 32, 32), [1]).shape == (1, 64, 16, 16)
