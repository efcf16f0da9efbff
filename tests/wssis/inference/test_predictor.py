"""Prediction: each image's answer is its own, whatever else is in the batch."""

import pytest
import torch

from wssis.data.images import read_image
from wssis.inference.predictor import Predictor
from wssis.instances import Instances
from wssis.models.solov2 import SOLOv2, padded_size
from wssis.ops.masks import mask_iou
from wssis.settings import DecodeSettings, ResizeSettings, SOLOv2Settings

SETTINGS = SOLOv2Settings(
    pretrained=False,
    strides=(4, 8, 16),
    sources=(0, 1, 2),
    fpn_channels=16,
    head_channels=16,
    mask_channels=8,
)
DECODE = DecodeSettings(max_detections=20)
SIZES = [(64, 64), (40, 100), (64, 64), (96, 70), (33, 20), (64, 60), (200, 31), (64, 64)]


@pytest.fixture(scope="module")
def model() -> SOLOv2:
    """An untrained network that thinks every cell likely: it answers with discs."""
    torch.manual_seed(0)
    model = SOLOv2(SETTINGS, num_classes=3).eval().requires_grad_(False)
    model.head.category.weight.mul_(20)
    model.head.category.bias.zero_()
    return model


def noise(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 255, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes]


def same(a: Instances, b: Instances) -> bool:
    """Equal up to the rounding of convolutions, which depends on the number of images."""
    alike = len(a) == len(b) and a.size == b.size and torch.equal(a.labels, b.labels)
    alike = alike and torch.allclose(a.scores, b.scores, atol=1e-3)
    return alike and bool((mask_iou(a.masks, b.masks) > 0.98).all())


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize(
    "resize", [ResizeSettings(), ResizeSettings(short=64, long=128)], ids=["1", "short 64"]
)
def test_a_batch_of_mixed_sizes_is_predicted_as_one_by_one(model, batch_size, resize) -> None:
    images = noise(*SIZES)
    together = Predictor(model, resize, DECODE, batch_size).predict(images)
    alone = [Predictor(model, resize, DECODE).predict([image])[0] for image in images]
    assert [found.size for found in together] == SIZES
    assert all(len(found) for found in alone)
    assert all(same(a, b) for a, b in zip(together, alone, strict=True))


def test_padding_would_change_more_than_borders(model) -> None:
    """Why images of other padded sizes do not go together: the far corner of the image changes, too."""
    small, large = noise((64, 64), (192, 192))
    predictor = Predictor(model, ResizeSettings(), DECODE)
    alone, padded = predictor.raw([small]), predictor.raw([small, large])
    assert padded.image_size == (192, 192)
    assert not torch.allclose(padded.category[0, 0], alone.category[0, 0], atol=1e-2)
    assert not torch.allclose(padded.features[0, :8, 0, 0], alone.features[0, :8, 0, 0], atol=1e-2)
    twin = predictor.raw([small, small])
    torch.testing.assert_close(twin.category[1], alone.category[0], rtol=1e-3, atol=1e-4)


def test_padded_sizes() -> None:
    assert padded_size([(64, 64)]) == (64, 64)
    assert padded_size([(1, 65), (33, 2)]) == (64, 96)


def test_what_is_found_lies_on_the_image_at_its_own_size(model) -> None:
    image = noise((50, 70))[0]
    for resize in (ResizeSettings(), ResizeSettings(scale=2.0), ResizeSettings(scale=0.5)):
        found = Predictor(model, resize, DECODE).predict([image])[0]
        assert found.masks.shape == (len(found), 50, 70)
        assert found.scores.diff().le(0).all()
        assert set(found.labels.tolist()) <= {0, 1, 2}


def test_nothing_is_found_in_the_padding_alone(model) -> None:
    """33 x 20 px become 64 x 32: half of the cells, with their discs, lie beside the image."""
    for found in Predictor(model, ResizeSettings(), DECODE).predict(noise((33, 20), (97, 33))):
        assert len(found) > 0
        assert found.masks.flatten(1).any(1).all()


def test_no_image_and_nothing_found(model) -> None:
    predictor = Predictor(model, ResizeSettings(), DecodeSettings(score_threshold=0.9999))
    assert predictor.predict([]) == []
    nothing = predictor.predict(noise((64, 64)))[0]
    assert len(nothing) == 0
    assert nothing.masks.shape == (0, 64, 64)


def test_a_data_set_is_predicted_in_its_order(model, paint) -> None:
    data = paint(*({"size": size} for size in SIZES))
    predictor, told = Predictor(model, ResizeSettings(), DECODE, batch_size=2), []
    results = predictor.predict_dataset(data, lambda done, total: told.append((done, total)))
    assert list(results) == [record.id for record in data.images]
    assert told[-1] == (8, 8)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    for record in data.images:
        image = read_image(data.image_dir, record.file_name, record.size)
        assert same(results[record.id], predictor.predict([image])[0])
    assert predictor.predict_dataset(data.subset([])) == {}


def test_one_class() -> None:
    torch.manual_seed(0)
    single = SOLOv2(SETTINGS, num_classes=1).eval().requires_grad_(False)
    single.head.category.bias.fill_(1)
    found = Predictor(single, ResizeSettings(), DECODE).predict(noise((64, 64)))[0]
    assert len(found) > 0
    assert found.labels.eq(0).all()
