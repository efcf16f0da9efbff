"""torchvision's Mask R-CNN with GroupNorm heads on this project's backbone: what a user would pick instead.

Same timm network, same frozen stages, same images and augmentation as SOLOv2's training here; the rest is
torchvision's own. Its defaults are made for a GPU and large images (a step of 8 images of 96 px: a minute of
a core), so that there is a smaller one, too (`LIGHT`). Anchors can be fitted to the objects, and images
enlarged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from wssis.data.dataset import Batch
from wssis.instances import Instances
from wssis.models.backbone import Backbone
from wssis.ops.masks import mask_boxes
from wssis.settings import SOLOv2Settings

STOCK_ANCHORS = (32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Heads:
    """What follows the backbone.

    Attributes:
        width: channels of pyramid and heads.
        convs: convolutions of the box head, and of the mask head.
        regions: sampled from an image's proposals in training; a quarter of them gets masks.
        proposals: of the region proposal network in training, before and after its NMS.
        strides: of the pyramid, without the last level.
    """

    width: int = 256
    convs: int = 4
    regions: int = 512
    proposals: int = 2000
    strides: tuple[int, ...] = (4, 8, 16, 32)

    @property
    def levels(self) -> int:
        """Of the pyramid: the strides, and one more."""
        return len(self.strides) + 1


STOCK = Heads()
# A default SOLOv2 here has 48 channels, on strides 2 to 16. Half the regions cost a quarter less a step, and
# learn far less from one.
LIGHT = Heads(width=64, convs=2, regions=64, proposals=300, strides=(4, 8, 16))
TINY = Heads(width=32, regions=64, proposals=100)


class Pyramid(nn.Module):
    """Backbone and feature pyramid, as torchvision wants them."""

    def __init__(self, settings: SOLOv2Settings, strides: Sequence[int], width: int) -> None:
        super().__init__()
        self.body = Backbone(settings.backbone, tuple(strides), settings.pretrained, settings.frozen_stages)
        norm = partial(nn.GroupNorm, 32 if width % 32 == 0 else 4)
        self.fpn = FeaturePyramidNetwork(
            list(self.body.channels), width, extra_blocks=LastLevelMaxPool(), norm_layer=norm
        )
        self.out_channels = width

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to maps by name, fine to coarse."""
        return self.fpn({str(i): x for i, x in enumerate(self.body(images))})


class Scaled(GeneralizedRCNNTransform):
    """Normalises, and enlarges by a fixed factor instead of to a fixed size."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(1, 1, list(mean), list(std))
        self.factor = 1.0

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Training images come at their size: the augmentation has enlarged them."""
        if self.training or self.factor == 1:
            return image, target
        size = [round(side * self.factor) for side in image.shape[-2:]]
        return F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0], target


def fitted_anchors(sizes: Sequence[float], levels: int) -> tuple[float, ...]:
    """A size of anchor for each pyramid level, spread over the objects' sizes (sqrt of box area, pixels)."""
    low, high = (float(q) for q in torch.tensor(list(sizes)).quantile(torch.tensor([0.1, 0.9])))
    ratio = (max(high, 1.3 * low) / low) ** (1 / (levels - 1))
    return tuple(low * ratio**level for level in range(levels))


def mask_rcnn(
    settings: SOLOv2Settings,
    classes: int,
    anchors: Sequence[float] = STOCK_ANCHORS,
    heads: Heads = STOCK,
    detections: int = 100,
    device: str = "cpu",
    score_threshold: float = 0.05,
    seed: int = 0,
) -> MaskRCNN:
    """Mask R-CNN on the backbone that `settings` name.

    Args:
        classes: K, background not counted.
        anchors: a size in pixels of the network's input for each pyramid level (`heads.levels`).
    """
    torch.manual_seed(seed)
    width = heads.width
    pyramid = Pyramid(settings, heads.strides, width)
    norm = partial(nn.GroupNorm, 32 if width % 32 == 0 else 4)
    model = MaskRCNN(
        pyramid,
        rpn_anchor_generator=AnchorGenerator(
            tuple((float(size),) for size in anchors), ((0.5, 1.0, 2.0),) * len(anchors)
        ),
        box_head=FastRCNNConvFCHead((width, 7, 7), [width] * heads.convs, [4 * width], norm_layer=norm),
        box_predictor=FastRCNNPredictor(4 * width, classes + 1),
        mask_head=MaskRCNNHeads(width, [width] * heads.convs, 1, norm_layer=norm),
        mask_predictor=MaskRCNNPredictor(width, width, classes + 1),
        box_detections_per_img=detections,
        box_score_thresh=score_threshold,
        box_batch_size_per_image=heads.regions,
        rpn_pre_nms_top_n_train=heads.proposals,
        rpn_post_nms_top_n_train=heads.proposals,
    )
    scale = 255.0
    model.transform = Scaled(
        (pyramid.body.mean.flatten() / scale).tolist(), (pyramid.body.std.flatten() / scale).tolist()
    )
    return model.to(device)


def peers(
    settings: SOLOv2Settings,
    classes: int,
    sizes: Sequence[float],
    tiny: bool,
    device: str,
    threshold: float = 0.05,
) -> dict[str, MaskRCNN]:
    """The networks that a benchmark of speed sets beside ours, by name; `sizes`: see `object_sizes`."""
    kinds = {"Mask R-CNN": TINY} if tiny else {"Mask R-CNN, small heads": LIGHT, "Mask R-CNN": STOCK}
    return {
        name: mask_rcnn(
            settings,
            classes,
            fitted_anchors(sizes, heads.levels),
            heads,
            device=device,
            score_threshold=threshold,
        )
        for name, heads in kinds.items()
    }


def loss_of(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """torchvision's own losses of a batch as wssis' loader makes it; `wssis.training.trainer.fit` takes
    it."""
    images, instances, _ = batch
    device = next(model.parameters()).device
    inputs = [image.to(device, non_blocking=True).float() / 255 for image in images]
    return model(inputs, [target_of(item, device) for item in instances])


def target_of(item: Instances, device: torch.device) -> dict[str, Tensor]:
    """Boxes, labels from 1 and masks of one image; objects without a pixel are left out."""
    boxes = mask_boxes(item.get_masks())
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    target = {
        "boxes": boxes[kept],
        "labels": item.labels[kept] + 1,
        "masks": item.get_masks()[kept].to(torch.uint8),
    }
    return {name: value.to(device) for name, value in target.items()}


@torch.inference_mode()
def predict(model: MaskRCNN, images: Sequence[Tensor], factor: float = 1.0) -> list[Instances]:
    """Instances with masks of each image's own size, for uint8 (3, H, W) images."""
    device = next(model.parameters()).device
    assert isinstance(model.transform, Scaled)
    model.eval()
    model.transform.factor = factor
    found = model([image.to(device).float() / 255 for image in images])
    results = []
    for image, item in zip(images, found, strict=True):
        masks = item["masks"][:, 0] > 0.5
        keep = masks.flatten(1).any(1)
        results.append(
            Instances(
                size=(int(image.shape[1]), int(image.shape[2])),
                labels=item["labels"][keep] - 1,
                masks=masks[keep],
                scores=item["scores"][keep],
            ).to("cpu")
        )
    return results


def object_sizes(items: Sequence[Instances]) -> list[float]:
    """sqrt(box area) in pixels of all objects."""
    boxes = torch.cat([mask_boxes(item.masks) for item in items if item.masks is not None])
    sides = boxes[:, 2:] - boxes[:, :2]
    return [size for size in sides.prod(1).sqrt().tolist() if size > 0]


def parameters(model: nn.Module) -> int:
    """How many numbers a model learns."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
