"""Augmentation: masks and ignore regions move with the picture; what is cut away goes with its label."""

from dataclasses import replace

import pytest
import torch

from wssis.data.transforms import (
    TrainTransform,
    mirrored_labels,
    resize_image,
    resize_mask_stack,
    resize_points,
)
from wssis.errors import InputError
from wssis.instances import Instances
from wssis.ops.masks import mask_iou
from wssis.settings import AugmentSettings, ResizeSettings

PLAIN = AugmentSettings(crop=0, scale=(1.0, 1.0), flips="none", brightness=0, contrast=0, saturation=0)
LABELS = [0, 2]


def painted(boxes, size=(60, 90), ignore=True) -> tuple[torch.Tensor, Instances]:
    """Object 0 is red, object 1 green, the ignore region blue; nothing overlaps."""
    masks = boxes(size, (4, 6, 34, 30), (50, 20, 80, 56), (6, 38, 30, 58))
    image = masks.to(torch.uint8) * 255
    labels = torch.tensor(LABELS)
    return image, Instances(size, labels, masks=masks[:2], ignore=masks[2] if ignore else None)


def apply(augment: AugmentSettings, image, instances, seed=0, **resize):
    torch.manual_seed(seed)
    return TrainTransform(ResizeSettings(**resize), augment)(image, instances)


MOVES = [
    replace(PLAIN, flips="all", scale=(0.6, 1.7)),
    replace(PLAIN, flips="horizontal", scale=(0.6, 1.7), crop=48),
    replace(PLAIN, flips="all", scale=(0.6, 1.7), crop=64),
    replace(PLAIN, flips="all", scale=(0.6, 0.9), crop=96),
]


@pytest.mark.parametrize("augment", MOVES, ids=["whole", "crop 48", "crop 64", "larger crop"])
def test_masks_and_ignore_regions_move_with_the_picture(boxes, augment) -> None:
    seen, gone = set(), 0
    for seed in range(40):
        image, instances = painted(boxes)
        picture, moved = apply(augment, image, instances, seed)
        assert picture.dtype == torch.uint8
        assert moved.size == tuple(picture.shape[1:])
        where = picture > 127
        area = where.flatten(1).sum(1)
        # Labels say which color a mask must lie on: a label that does not follow its mask fails here.
        colors = torch.tensor([LABELS.index(label) for label in moved.labels.tolist()], dtype=torch.int64)
        large = area[colors] > 200  # not a sliver at the edge
        assert (mask_iou(moved.masks, where[colors])[large] > 0.88).all()
        assert not area[[c for c in (0, 1) if c not in colors.tolist()]].gt(8).any()
        if area[2] > 200:
            assert mask_iou(moved.ignore[None], where[2:])[0] > 0.88
        seen.add(moved.size)
        gone += 2 - len(moved)
    assert len(seen) > 1 or augment.crop == 48
    assert (gone > 0) == (augment.crop in (48, 64))


@pytest.mark.parametrize("factor", [1 / 3, 0.4, 0.7, 1.4, 2.0])
def test_masks_are_not_shifted_against_the_picture(boxes, factor) -> None:
    """The center of mass of mask and picture differ by less than 0.1 px (under corners: 0.5)."""
    shifts = []
    for offset in range(12):
        mask = boxes((72, 72), (12 + offset, 12 + offset, 40 + offset, 40 + offset))
        image = mask.to(torch.uint8).expand(3, -1, -1) * 255
        instances = Instances((72, 72), torch.tensor([0]), masks=mask)
        for crop in (0, 256):
            picture, moved = apply(replace(PLAIN, scale=(factor, factor), crop=crop), image, instances)
            weight = picture[0].float() / 255
            columns = torch.arange(weight.shape[1]) + 0.5
            of_picture = (weight.sum(0) * columns).sum() / weight.sum()
            of_mask = (moved.masks[0].sum(0) * columns).sum() / moved.masks[0].sum()
            shifts.append(float(of_mask - of_picture))
    assert abs(sum(shifts) / len(shifts)) < 0.1


def test_masks_take_the_pixel_under_the_middle() -> None:
    row = torch.tensor([[0, 1, 0, 0, 1, 0, 0, 0, 0]], dtype=torch.uint8).expand(3, 9)[None]
    assert resize_mask_stack(row, [1, 3])[0].tolist() == [[1, 1, 0]]
    assert resize_mask_stack(torch.zeros((0, 5, 5), dtype=torch.uint8), [7, 3]).shape == (0, 7, 3)


def test_nothing_changes_where_nothing_is_asked_for(boxes) -> None:
    image, instances = painted(boxes)
    for crop in (0, 200):
        picture, same = apply(replace(PLAIN, crop=crop), image, instances)
        assert torch.equal(picture, image)
        assert torch.equal(same.masks, instances.masks)
        assert torch.equal(same.ignore, instances.ignore)
        assert torch.equal(same.labels, instances.labels)


def test_an_image_smaller_than_the_crop_stays_whole(boxes) -> None:
    image, instances = painted(boxes)
    picture, moved = apply(replace(PLAIN, crop=256, scale=(1.5, 1.5)), image, instances)
    assert moved.size == (90, 135)
    assert len(moved) == 2
    # One side longer than the crop, the other shorter.
    wide, cut = apply(replace(PLAIN, crop=70), image, instances)
    assert cut.size == (60, 70)
    assert wide.shape == (3, 60, 70)
    assert picture.shape == (3, 90, 135)


def test_the_crop_is_at_the_networks_scale(boxes) -> None:
    image, instances = painted(boxes, ignore=False)
    for resize in ({"scale": 2.0}, {"short": 120}):
        _, whole = apply(PLAIN, image, instances, **resize)
        assert whole.size == (120, 180)
        assert whole.masks.flatten(1).sum(1).tolist() == [4 * 30 * 24, 4 * 30 * 36]
        _, cut = apply(replace(PLAIN, crop=50), image, instances, **resize)
        assert cut.size == (50, 50)


def test_an_object_cut_away_disappears_with_its_label(boxes) -> None:
    left, right = boxes((40, 100), (2, 10, 22, 30), (78, 10, 98, 30)), []
    instances = Instances((40, 100), torch.tensor([1, 0]), masks=left)
    image = torch.zeros((3, 40, 100), dtype=torch.uint8)
    for seed in range(30):
        _, moved = apply(replace(PLAIN, crop=40), image, instances, seed)
        assert len(moved) <= 1
        right.append(tuple(moved.labels.tolist()))
        assert moved.masks.shape == (len(moved), 40, 40)
    assert set(right) == {(), (0,), (1,)}


def test_an_image_without_objects(boxes) -> None:
    image = torch.zeros((3, 50, 70), dtype=torch.uint8)
    region = boxes((50, 70), (0, 0, 50, 40))[0]
    for crop in (0, 32, 96):
        augment = replace(PLAIN, crop=crop, flips="all")
        for none in (Instances.empty((50, 70)), Instances((50, 70), torch.zeros(0, dtype=torch.int64))):
            picture, moved = apply(augment, image, none)
            assert len(moved) == 0
            assert moved.masks.shape == (0, *picture.shape[1:])
            assert moved.ignore is None
        _, ignored = apply(augment, image, replace(Instances.empty((50, 70)), ignore=region))
        assert len(ignored) == 0
        assert ignored.ignore.any()


def test_369_objects_keep_their_own_labels() -> None:
    """Object i is painted in a color that says i; its mask and its label must say the same after a crop."""
    count, side = 369, 20
    masks = torch.zeros((count, 400, 400), dtype=torch.bool)
    image = torch.zeros((3, 400, 400), dtype=torch.uint8)
    for i in range(count):
        y, x = i // side * 20, i % side * 20
        masks[i, y + 3 : y + 15, x + 3 : x + 15] = True
        image[0, masks[i]], image[1, masks[i]], image[2, masks[i]] = i % side * 10, i // side * 10, 255
    labels = torch.arange(count) % 7
    augment = replace(PLAIN, crop=150, flips="all")
    picture, moved = apply(augment, image, Instances((400, 400), labels, masks=masks))
    assert 30 < len(moved) < 80
    for mask, label in zip(moved.masks, moved.labels.tolist(), strict=True):
        color = picture[:, mask].unique(dim=1)
        assert color.shape[1] == 1
        number = int(color[0, 0]) // 10 + int(color[1, 0]) // 10 * side
        assert label == number % 7
    whole = apply(replace(PLAIN, flips="all"), image, Instances((400, 400), labels, masks=masks))[1]
    assert torch.equal(whole.labels, labels)


def test_colors_change_and_masks_do_not(boxes) -> None:
    image, instances = painted(boxes)
    image = image // 2 + 40
    augment = replace(PLAIN, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    picture, same = apply(augment, image, instances)
    assert not torch.equal(picture, image)
    assert torch.equal(same.masks, instances.masks)
    assert type(picture) is torch.Tensor
    assert type(same.masks) is torch.Tensor


def test_the_same_random_state_gives_the_same_sample(boxes) -> None:
    augment = AugmentSettings(crop=40)
    first, second, other = (apply(augment, *painted(boxes), seed) for seed in (5, 5, 6))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1].masks, second[1].masks)
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])


@pytest.mark.parametrize("flips", ["horizontal", "all"])
def test_a_flip_swaps_the_classes_of_a_pair(boxes, flips) -> None:
    """The red object, left, and the green one, right, are a pair: the mirror image's left one is "left"."""
    image, instances = painted(boxes)
    augment = replace(PLAIN, flips=flips, flip_pairs=(("left", "right"),))
    transform = TrainTransform(ResizeSettings(), augment, ("left", "middle", "right"))
    flipped = set()
    for seed in range(12):
        torch.manual_seed(seed)
        picture, moved = transform(image, instances)
        red = (picture[0] > 127)[moved.get_masks()[0]].all()  # mask 0 stays that of the red object
        assert red
        mirrored = moved.labels.tolist() == [2, 0]
        assert mirrored or moved.labels.tolist() == [0, 2]
        if flips == "horizontal":
            assert mirrored == (int((picture[0] > 127).nonzero()[0, 1]) > 40)
        flipped.add(mirrored)
    assert flipped == {True, False}


def test_a_pair_of_unknown_classes_is_refused() -> None:
    with pytest.raises(InputError, match=r"flip_pairs: expected one of left, right, found up"):
        mirrored_labels((("left", "up"),), ("left", "right"))


def test_points_and_sizes_go_to_the_networks_scale() -> None:
    short = ResizeSettings(short=100, long=150)
    assert short.size(50, 60) == (100, 120)
    assert short.size(50, 500) == (15, 150)
    assert ResizeSettings(scale=0.5).size(33, 1) == (16, 1)
    points = torch.tensor([[0.0, 0.0], [60.0, 50.0], [30.0, 10.0]])
    assert resize_points(points, short, 50, 60).tolist() == [[0, 0], [120, 100], [60, 20]]
    image = torch.zeros((3, 50, 60), dtype=torch.uint8)
    assert resize_image(image, short).shape == (3, 100, 120)
    assert resize_image(image, ResizeSettings()) is image


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (AugmentSettings, {"flips": "vertical"}),
        (AugmentSettings, {"scale": (1.2, 0.8)}),
        (AugmentSettings, {"scale": (0.0, 0.8)}),
        (AugmentSettings, {"crop": -1}),
        (ResizeSettings, {"scale": 0.0}),
        (ResizeSettings, {"short": -1}),
        (ResizeSettings, {"long": 0}),
    ],
)
def test_settings_out_of_range_are_refused(kind, change: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        kind(**change)
