"""Training the refiner: crops that belong together, and rough masks as bad as they come."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from wssis.data import rle
from wssis.models.refiner import Refiner
from wssis.settings import RefinerSettings, TrainSettings
from wssis.training.refiner import RefinerCrops, collate_crops, refiner_loss, train_refiner

SMALL = RefinerSettings(pretrained=False, width=16, crop=32, hidden=0.0)
SHORT = TrainSettings(iterations=3, batch_size=4, warmup=0)
OBJECTS = [(0, (6, 8, 26, 30)), (2, (34, 10, 58, 26)), (1, (20, 38, 50, 60))]


def rough_of(truth, change, order=slice(None)):
    """The rough counterpart of `truth`: `change` of each object's mask, under the same ids."""
    records = []
    for record in truth.images:
        items = [
            replace(item, rle=rle.encode(change(rle.decode([item.rle], record.size)))[0])
            for item in record.objects
        ]
        records.append(replace(record, annotations=tuple(items[order])))
    return replace(truth, images=tuple(records))


def as_is(mask):
    return mask


def empty(mask):
    return torch.zeros_like(mask)


def one_pixel(mask):
    pixel = torch.zeros_like(mask)
    _, y, x = mask.nonzero()[0]
    pixel[0, y, x] = True
    return pixel


def shrunk(mask):
    return mask & mask.roll(7, 1) & mask.roll(7, 2)


def everything(mask):
    return torch.ones_like(mask)


@pytest.fixture
def refiner() -> Refiner:
    torch.manual_seed(0)
    return Refiner(SMALL, 3)


@pytest.mark.parametrize("change", [as_is, empty, one_pixel, shrunk, everything])
def test_any_rough_mask_can_be_trained_on(paint, change) -> None:
    truth, losses = paint({"objects": OBJECTS}, {"size": (40, 90), "objects": OBJECTS[:2]}), []
    model = train_refiner(
        truth, [rough_of(truth, change)] * 2, SMALL, SHORT, 0, on_step=lambda p: losses.append(p.losses)
    )
    assert all(0 <= step["dice"] <= 1 and step["loss"] > 0 for step in losses)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert not model.training


@pytest.mark.parametrize("change", [as_is, empty, one_pixel, everything])
def test_crops_belong_together(paint, refiner, change) -> None:
    """Image, target and point move as one: the picture has the object's color where the target is 1."""
    truth = paint({"objects": OBJECTS})
    samples = RefinerCrops(truth, [rough_of(truth, change)], refiner, crops=3, seed=0)
    orientations = set()
    for position in range(32):
        images, rough, points, target, labels = samples[(position, 0)]
        assert images.shape == (3, 3, 32, 32)
        assert rough.shape == target.shape == (3, 32, 32)
        assert points.shape == (3, 2, 32, 32)
        assert sorted(labels.tolist()) == sorted(label for label, _ in OBJECTS)
        for n, label in enumerate(labels.tolist()):
            assert points[n, 0].max() > 0.5
            inside, outside = target[n] > 0.95, target[n] < 0.05
            assert inside.flatten()[points[n, 0].argmax()]
            if outside.any():
                tint = images[n, label] - images[n].mean(0)
                assert tint[inside].mean() > tint[outside].mean() + 0.3
            if change is as_is:
                assert torch.equal(rough[n], target[n])
        orientations.add(int((points[0].amax(0).flatten()).argmax()))
    assert len(orientations) > 3


def test_some_rough_masks_are_hidden_in_training(paint, refiner) -> None:
    """A hidden mask says nothing (.5), everything else of the crop stays as it was."""
    truth = paint({"objects": OBJECTS})
    half = Refiner(replace(SMALL, hidden=0.5), truth.num_classes)
    shown, hidden = (
        RefinerCrops(truth, [rough_of(truth, as_is)], model, crops=3, seed=0) for model in (refiner, half)
    )
    count = 0
    for position in range(8):
        for n, (rough, other) in enumerate(
            zip(shown[(position, 0)][1], hidden[(position, 0)][1], strict=True)
        ):
            blank = bool((other == 0.5).all())
            count += blank
            assert blank or other.unique().tolist() == rough.unique().tolist(), (position, n)
    assert 4 < count < 20


def test_points_of_the_other_objects_are_told_apart(paint, refiner) -> None:
    truth = paint({"objects": [(0, (10, 10, 30, 30)), (0, (30, 10, 50, 30)), (1, (20, 30, 40, 50))]})
    samples = RefinerCrops(truth, [rough_of(truth, as_is)], refiner, crops=3, seed=0)
    _, _, points, target, _ = samples[(0, 0)]
    others = points[:, 1]
    assert (others.flatten(1).amax(1) > 0.5).all()
    best = others.flatten(1).argmax(1)
    assert (target.flatten(1).gather(1, best[:, None]) < 0.5).all()


def test_masks_are_matched_by_id_and_not_by_place(paint, refiner) -> None:
    truth = paint({"objects": OBJECTS})
    rough = rough_of(truth, as_is, order=slice(None, None, -1))
    _, given, _, target, _ = RefinerCrops(truth, [rough], refiner, crops=3, seed=0)[(0, 0)]
    assert torch.equal(given, target)


def test_a_rough_file_with_fewer_objects_or_images(paint, refiner) -> None:
    truth = paint({"objects": OBJECTS}, {}, {"objects": OBJECTS[:1]})
    rough = rough_of(truth, as_is, order=slice(1, None))
    samples = RefinerCrops(truth, [rough, truth.subset([3])], refiner, crops=4, seed=0)
    assert len(samples) == 2  # image 1 of the first, image 3 of the second: others have no rough object
    assert [len(samples[(0, i)][0]) for i in range(2)] == [2, 1]
    batch = collate_crops([samples[(0, 0)], samples[(1, 1)]])
    assert [len(part) for part in batch] == [3] * 5
    assert refiner_loss(refiner, batch)["dice"] > 0


def test_a_sample_depends_on_seed_position_and_image_alone(paint, refiner) -> None:
    truth = paint({"objects": OBJECTS})
    samples = RefinerCrops(truth, [rough_of(truth, shrunk)], refiner, crops=2, seed=0)
    torch.manual_seed(1)
    first = samples[(3, 0)]
    torch.manual_seed(2)
    assert all(torch.equal(a, b) for a, b in zip(first, samples[(3, 0)], strict=True))
    assert not torch.equal(first[0], samples[(4, 0)][0])


def test_crops_hold_no_network(paint, refiner) -> None:
    """A network may lie on a GPU, where a forked process that loads crops cannot reach."""
    truth = paint({"objects": OBJECTS})
    samples = RefinerCrops(truth, [rough_of(truth, as_is)], refiner, crops=2, seed=0)
    modules = [value for value in vars(samples).values() if isinstance(value, nn.Module)]
    assert not any([*module.parameters(), *module.buffers()] for module in modules)
    assert samples.mean.device.type == samples.std.device.type == "cpu"
    assert not any(isinstance(value, Refiner) for value in vars(samples).values())


def test_one_seed_gives_one_refiner_bit_for_bit(paint) -> None:
    truth = paint({"objects": OBJECTS})
    rough = [rough_of(truth, shrunk), rough_of(truth, one_pixel)]
    first, second, other = (train_refiner(truth, rough, SMALL, SHORT, seed) for seed in (3, 3, 4))
    one, two, three = (model.state_dict() for model in (first, second, other))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not all(torch.equal(one[k], three[k]) for k in one)


def test_it_learns_to_mend(paint) -> None:
    truth, losses = paint({"objects": OBJECTS}), []
    settings = TrainSettings(iterations=40, batch_size=6, warmup=2, learning_rate=3e-3)
    train_refiner(
        truth,
        [rough_of(truth, shrunk)],
        SMALL,
        settings,
        0,
        crops=3,
        on_step=lambda p: losses.append(p.losses["loss"]),
    )
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_dice_share_weighs_the_terms_and_a_half_leaves_them(paint, refiner) -> None:
    truth = paint({"objects": OBJECTS})
    batch = collate_crops([RefinerCrops(truth, [rough_of(truth, shrunk)], refiner, crops=3, seed=0)[(0, 0)]])
    with torch.no_grad():
        plain = refiner_loss(refiner.eval(), batch)
        dice, bce = refiner_loss(refiner, batch, 1.0), refiner_loss(refiner, batch, 0.0)
    assert dice == {"bce": 0, "dice": 2 * plain["dice"]}
    assert bce == {"bce": 2 * plain["bce"], "dice": 0}


def test_augment_0_changes_neither_color_nor_scale(paint, refiner) -> None:
    """What is left, flips and quarter turns, changes no sum over a crop."""
    truth = paint({"objects": OBJECTS[:1]})

    def spread(augment: float) -> tuple[float, float]:
        samples = RefinerCrops(truth, [rough_of(truth, as_is)], refiner, 1, seed=0, augment=augment)
        crops = [samples[(position, 0)] for position in range(8)]
        colors = torch.stack([images.mean() for images, *_ in crops])
        areas = torch.stack([target.sum() for *_, target, _ in crops])
        return float(colors.std() / colors.mean().abs()), float(areas.std() / areas.mean())

    assert max(spread(0.0)) < 1e-4
    assert 0.01 < spread(1.0)[1] < spread(2.0)[1]
    assert spread(1.0)[0] < spread(2.0)[0]


def test_a_training_can_be_stopped_at_a_snapshot(paint) -> None:
    truth, shares = paint({"objects": OBJECTS}), []

    def enough(share: float, model) -> None:
        assert not model.training
        shares.append(share)
        if len(shares) == 2:
            raise KeyError("enough")

    steps = []
    with pytest.raises(KeyError, match="enough"):
        train_refiner(
            truth,
            [rough_of(truth, shrunk)],
            SMALL,
            replace(SHORT, iterations=8),
            0,
            on_step=steps.append,
            snapshots=(0.25, 0.5, 0.75),
            on_snapshot=enough,
        )
    assert shares == [0.25, 0.5]
    assert len(steps) == 3


def test_one_class_one_object(paint) -> None:
    truth = paint({"objects": [(0, (6, 8, 26, 30))]}, classes=1)
    model = train_refiner(truth, [rough_of(truth, shrunk)], SMALL, SHORT, 0)
    assert model.num_classes == 1


def test_nothing_to_learn_from_is_said(paint) -> None:
    truth = paint({})
    with pytest.raises(ValueError, match="no strong image has an object"):
        train_refiner(truth, [truth], SMALL, SHORT, 0)
