"""Backbones: weights that come with a package, trimming, freezing, errors."""

import pytest
import timm
import torch

from wssis.errors import InputError
from wssis.models.backbone import Backbone, lite0_weights


def test_lite0_weights_load_strictly_into_timm() -> None:
    state = lite0_weights()
    network = timm.create_model("efficientnet_lite0", pretrained=False)
    result = network.load_state_dict(state, strict=True)
    assert not result.missing_keys
    assert len(state) == 296


def test_features_are_timms_own() -> None:
    """Trimming the unused last blocks changes no feature."""
    torch.manual_seed(0)
    trimmed = Backbone("efficientnet_lite0", (4, 8, 16), pretrained=True, frozen_stages=0).eval()
    whole = timm.create_model(
        "efficientnet_lite0", features_only=True, out_indices=(1, 2, 3), pretrained=False
    )
    whole.load_state_dict(lite0_weights(), strict=False)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(trimmed(x), whole.eval()(x), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert len(trimmed.net.blocks) < len(whole.blocks)
    assert trimmed.strides == (4, 8, 16)


def test_frozen_stages_do_not_learn_and_keep_their_statistics() -> None:
    backbone = Backbone("efficientnet_lite0", (4, 8), pretrained=False, frozen_stages=2).train()
    before = {k: v.clone() for k, v in backbone.net.bn1.state_dict().items()}
    sum(f.mean() for f in backbone(torch.randn(2, 3, 64, 64))).backward()
    assert backbone.net.conv_stem.weight.grad is None
    assert all(p.grad is None for p in backbone.net.blocks[0].parameters())
    assert all(p.grad is not None for p in backbone.net.blocks[1].parameters())
    assert all(torch.equal(v, before[k]) for k, v in backbone.net.bn1.state_dict().items())


def test_other_timm_backbones_work() -> None:
    backbone = Backbone("resnet18", (4, 8, 16, 32), pretrained=False, frozen_stages=1).eval()
    shapes = [tuple(f.shape[1:]) for f in backbone(torch.zeros(1, 3, 64, 64))]
    assert shapes == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]


def test_wrong_names_strides_and_weights_are_input_errors(tmp_path) -> None:
    with pytest.raises(InputError, match=r"model\.backbone, resnet999"):
        Backbone("resnet999", (4,), pretrained=False, frozen_stages=0)
    with pytest.raises(InputError, match="no features of stride"):
        Backbone("resnet18", (3,), pretrained=False, frozen_stages=0)
    with pytest.raises(InputError, match="no such file"):
        Backbone("resnet18", (4,), pretrained=str(tmp_path / "none.pth"), frozen_stages=0)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"abc")
    with pytest.raises(InputError, match="not a state dict"):
        Backbone("resnet18", (4,), pretrained=str(broken), frozen_stages=0)
