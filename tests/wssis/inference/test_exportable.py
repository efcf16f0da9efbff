"""The network that is exported finds what the predictor finds."""

import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from wssis.errors import InputError
from wssis.inference.agreement import parity
from wssis.inference.exportable import Deployable
from wssis.inference.predictor import Predictor
from wssis.instances import Instances
from wssis.models.solov2 import SOLOv2
from wssis.ops.uint8_resize import Resample
from wssis.settings import DecodeSettings, ResizeSettings, SOLOv2Settings

SMALL = {"pretrained": False, "fpn_channels": 16, "head_channels": 16, "mask_channels": 8, "head_depth": 1}
CELLS = SOLOv2Settings(strides=(4, 8, 16), sources=(0, 1, 2), **SMALL)
PAPER = SOLOv2Settings(
    backbone="test_resnet",
    strides=(4, 8),
    extra_level=True,
    sources=(0, 2),
    cells=(),
    grids=(12, 5),
    ranges=((0, 40), (20, 400)),
    parity=True,
    **SMALL,
)


def network(settings: SOLOv2Settings = CELLS, classes: int = 3) -> SOLOv2:
    torch.manual_seed(0)
    model = SOLOv2(settings, classes).eval().requires_grad_(False)
    model.head.category.weight.mul_(20)
    model.head.category.bias.zero_()
    if settings.parity:
        model.head.kernel.weight.mul_(20)
    return model


def noise(count: int, *size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 255, (count, 3, 5, 7), generator=generator, dtype=torch.uint8)
    return TF.resize(coarse, list(size))


def found(predictor: Predictor, images: torch.Tensor, candidates: int = 2000) -> list[Instances]:
    """What the exported network says, after checking its padding."""
    size = (images.shape[2], images.shape[3])
    with torch.no_grad():
        scores, labels, masks, counts = Deployable(predictor, size, candidates)(images)
    assert masks.shape[2:] == size
    assert scores.shape[1] >= max(1, int(counts.max()))
    for row, n in enumerate(counts.tolist()):
        assert not masks[row, n:].any()
        assert scores[row, n:].eq(0).all()
        assert labels[row, n:].eq(-1).all()
        assert masks[row, :n].flatten(1).any(1).all()
        assert scores[row, :n].diff().le(0).all()
    return [
        Instances(size=size, labels=labels[row, :n], masks=masks[row, :n], scores=scores[row, :n])
        for row, n in enumerate(counts.tolist())
    ]


@pytest.mark.parametrize(
    ("settings", "classes", "size", "resize", "decode"),
    [
        (CELLS, 3, (64, 64), ResizeSettings(), DecodeSettings()),
        (CELLS, 1, (50, 70), ResizeSettings(), DecodeSettings(max_detections=7)),
        (CELLS, 3, (33, 20), ResizeSettings(scale=2.0), DecodeSettings(nms="linear", pre_nms=60)),
        (CELLS, 3, (90, 61), ResizeSettings(short=45), DecodeSettings(area_strides=(3.0, 20.0, 0.0))),
        (PAPER, 4, (70, 50), ResizeSettings(), DecodeSettings(mask_threshold=0.4, keep_threshold=0.2)),
    ],
    ids=["plain", "one class", "twice", "half", "paper"],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_it_finds_what_the_predictor_finds(settings, classes, size, resize, decode, batch) -> None:
    predictor, images = Predictor(network(settings, classes), resize, decode), noise(batch, *size)
    own = [predictor.predict([image])[0] for image in images]
    assert all(len(instances) for instances in own)
    result = parity(own, found(predictor, images), decode.keep_threshold, decode.max_detections)
    assert result.holds, str(result)
    assert result.instances == sum(map(len, own))


def test_an_image_without_objects_beside_one_with_them() -> None:
    model, images = network(), noise(2, 64, 64)
    images[1] = 0
    raw = Predictor(model, ResizeSettings(), DecodeSettings()).raw(list(images))
    full, empty = raw.category.flatten(1).amax(1)
    assert full > empty
    model.head.category.bias.sub_((full + empty) / 2)
    predictor = Predictor(model, ResizeSettings(), DecodeSettings(score_threshold=0.5))
    both = found(predictor, images)
    assert len(both[0]) == len(predictor.predict([images[0]])[0]) > 0
    assert len(both[1]) == 0
    assert len(found(predictor, images[1:])[0]) == 0


def test_few_candidates_are_the_likeliest() -> None:
    predictor, images = (
        Predictor(network(), ResizeSettings(), DecodeSettings(max_detections=400)),
        noise(1, 64, 64),
    )
    few, all_ = found(predictor, images, candidates=20)[0], found(predictor, images)[0]
    assert 0 < len(few) < len(all_)


def test_greedy_nms_is_refused() -> None:
    with pytest.raises(InputError, match="matrix or linear"):
        Deployable(Predictor(network(), ResizeSettings(), DecodeSettings(nms="mask")), (64, 64))


@pytest.mark.parametrize(
    ("size", "out"),
    [
        ((96, 96), (192, 192)),
        ((100, 90), (17, 90)),
        ((33, 77), (64, 99)),
        ((64, 43), (133, 80)),
        ((5, 7), (5, 3)),
    ],
)
def test_images_are_resized_to_the_pixel(size, out) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, *size), generator=generator, dtype=torch.uint8)
    wanted = TF.resize(images, list(out), antialias=True)
    difference = (Resample(size, out)(images) - wanted.int()).abs()
    assert difference.max() <= 1  # 0 where torch has AVX2
    assert difference.float().mean() < 0.01
