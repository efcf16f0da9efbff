"""wssis.data.split: who is strong, where points lie, what the ledger says, and that no mask leaks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from wssis.data import rle as rle_api
from wssis.data.coco import load_coco, save_coco
from wssis.data.label_cost import count_labels
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.data.split import split
from wssis.errors import InputError

SIZE = (40, 60)


def mask_at(x, y, w=6, h=6):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[y : y + h, x : x + w] = True
    return rle_api.encode(mask[None])[0]


def data_of(count=20, objects=3, empty=()):
    """`count` images of `objects` squares each; the images numbered in `empty` show none."""
    images = []
    for number in range(count):
        annotations = tuple(
            Annotation(100 * number + k, k % 2, mask_at(3 + 18 * k, 5 + number), extra={"bbox_note": 1})
            for k in range(0 if number in empty else objects)
        )
        images.append(ImageRecord(number + 1, f"{number}.png", *SIZE, annotations))
    return CocoData((Category(1, "a"), Category(7, "b")), tuple(images), "images")


def ids(data):
    return [image.id for image in data.images]


def points_of(data):
    return {item.id: item.point for image in data.images for item in image.annotations}


def test_every_image_is_in_exactly_one_part_and_sizes_follow_the_fractions():
    data = data_of(20)
    parts = split(data, 0.5, 0.3, seed=0)
    assert sorted(ids(parts.strong) + ids(parts.holdout) + ids(parts.points)) == ids(data)
    assert (len(parts.strong.images), len(parts.holdout.images)) == (7, 3)
    assert ids(parts.truth) == ids(parts.points)
    assert all(a.rle for part in (parts.strong, parts.holdout) for im in part.images for a in im.annotations)


def test_nothing_of_a_mask_is_left_in_the_points_file(tmp_path):
    parts = split(data_of(), 0.2, 0.2, seed=0)
    save_coco(parts.points, tmp_path / "points.json")
    written = json.loads((tmp_path / "points.json").read_text())
    allowed = {"id", "image_id", "category_id", "point", "iscrowd"}
    assert written["annotations"]
    assert all(set(item) == allowed for item in written["annotations"])
    loaded = load_coco(tmp_path / "points.json")
    assert loaded.images == parts.points.images
    assert loaded.images[0].instances().masks is None


def test_truth_has_the_masks_of_the_same_annotations():
    parts = split(data_of(), 0.2, 0.2, seed=0)
    truth = {item.id: item for image in parts.truth.images for item in image.annotations}
    assert points_of(parts.points).keys() == truth.keys()
    for key, point in points_of(parts.points).items():
        assert rle_api.contains(truth[key].rle, np.array([point]))[0]


def test_the_draw_is_fixed_by_the_seed_and_not_by_the_order_of_the_file():
    data = data_of()
    turned = replace(data, images=data.images[::-1])
    first, again, other = split(data, 0.3, 0.2, 4), split(turned, 0.3, 0.2, 4), split(data, 0.3, 0.2, 5)
    assert set(ids(first.strong)) == set(ids(again.strong))
    assert set(ids(first.holdout)) == set(ids(again.holdout))
    assert set(ids(first.strong)) != set(ids(other.strong))


def test_a_larger_fraction_keeps_the_strong_images_of_a_smaller_one():
    data = data_of(40)
    drawn = [split(data, fraction, 0.2, 1) for fraction in (0.1, 0.3, 0.6)]
    sets = [set(ids(parts.strong) + ids(parts.holdout)) for parts in drawn]
    assert sets[0] < sets[1] < sets[2]


@pytest.mark.parametrize(("points", "jitter"), [("center", 0), ("random", 0), ("random", 3), ("center", 3)])
def test_points_do_not_change_with_the_fraction(points, jitter):
    data = data_of(40)
    small, large = (split(data, f, 0.2, 1, points, jitter).points for f in (0.1, 0.5))
    assert points_of(large).items() < points_of(small).items()


def test_center_points_are_mean_index_and_a_half():
    parts = split(data_of(4), 0.5, 0.5, 0)
    for image in parts.points.images:
        assert [item.point for item in image.annotations] == [
            (3 + 18 * k + 3.0, 5 + image.id - 1 + 3.0) for k in range(3)
        ]


def test_the_center_of_a_ring_moves_onto_the_ring():
    ring = torch.zeros(SIZE, dtype=torch.bool)
    ring[10:30, 10:30] = True
    ring[13:27, 13:27] = False
    data = data_of(5)
    hollow = Annotation(9000, 0, rle_api.encode(ring[None])[0])
    data = replace(
        data, images=tuple(replace(im, annotations=(hollow_of(hollow, im.id),)) for im in data.images)
    )
    for point in points_of(split(data, 0.4, 0.2, 0).points).values():
        x, y = point
        assert ring[int(y), int(x)]
        assert (x % 1, y % 1) == (0.5, 0.5)


def hollow_of(annotation, number):
    return replace(annotation, id=annotation.id + number)


def test_random_points_are_middles_of_mask_pixels_and_vary():
    parts = split(data_of(60), 0.1, 0.2, 0, points="random")
    truth = {item.id: item for image in parts.truth.images for item in image.annotations}
    offsets = set()
    for key, (x, y) in points_of(parts.points).items():
        assert rle_api.contains(truth[key].rle, np.array([[x, y]]))[0]
        left, top, *_ = rle_api.bounding_box(truth[key].rle)
        offsets.add((x - left, y - top))
    assert len(offsets) > 25  # of 36 pixels
    assert all(dx % 1 == 0.5 and dy % 1 == 0.5 for dx, dy in offsets)


def test_jitter_moves_within_its_radius_and_stays_in_the_image():
    still = points_of(split(data_of(60), 0.1, 0.2, 0).points)
    moved = points_of(split(data_of(60), 0.1, 0.2, 0, jitter=2.0).points)
    far = points_of(split(data_of(60), 0.1, 0.2, 0, jitter=500.0).points)
    steps = np.array([np.subtract(moved[key], still[key]) for key in still])
    lengths = np.hypot(*steps.T)
    assert lengths.max() <= 2
    assert (lengths < 1).mean() == pytest.approx(0.25, abs=0.1)  # uniform over the disc
    assert len(far) == len(still)
    x, y = torch.tensor(list(far.values()), dtype=torch.float32).T
    assert x.min() >= 0
    assert x.max() < SIZE[1]
    assert y.min() >= 0
    assert y.max() < SIZE[0]


def test_an_image_with_an_object_without_mask_is_weak_and_keeps_its_point():
    data = data_of(10)
    clicked = Annotation(5000, 1, point=(1.25, 2.5))
    images = [replace(im, annotations=(*im.annotations, clicked)) if im.id == 3 else im for im in data.images]
    data = replace(data, images=tuple(images))
    for seed in range(5):
        parts = split(data, 0.8, 0.2, seed)
        assert 3 in ids(parts.points)
        assert points_of(parts.points)[5000] == (1.25, 2.5)
        assert 5000 not in points_of(parts.truth)
        assert len(parts.points.by_id[3].annotations) == 4


@pytest.mark.parametrize(("points", "jitter"), [("center", 0), ("random", 3)])
def test_strong_objects_have_the_points_they_would_have_if_weak(points, jitter):
    """What is learnt and tuned on strong images meets prompts like those of the weak ones."""
    data = data_of(30)
    few, many = (split(data, fraction, 0.2, 1, points, jitter) for fraction in (0.1, 0.5))
    strong = points_of(many.strong) | points_of(many.holdout)
    assert all(point is not None for point in strong.values())
    both = strong.keys() & points_of(few.points).keys()
    assert len(both) > 30
    assert all(strong[key] == points_of(few.points)[key] for key in both)
    drawn = [entry["kind"] for entry in many.ledger["labels"] if entry["image_id"] in ids(many.strong)]
    assert set(drawn) == {"mask"}  # such a point costs nobody a click


def test_a_point_in_the_data_wins_over_one_made_from_its_mask():
    data = data_of(4)
    images = [
        replace(im, annotations=tuple(replace(a, point=(0.5, 0.5)) for a in im.annotations))
        for im in data.images
    ]
    parts = split(replace(data, images=tuple(images)), 0.5, 0.2, 0, jitter=3)
    assert set(points_of(parts.points).values()) == {(0.5, 0.5)}


def test_images_without_objects_are_split_too():
    data = data_of(20, empty=range(10))
    parts = split(data, 0.5, 0.2, 0)
    weak_empty = [image for image in parts.points.images if not image.annotations]
    strong_empty = [im for part in (parts.strong, parts.holdout) for im in part.images if not im.annotations]
    assert weak_empty
    assert strong_empty


@pytest.mark.parametrize("seed", range(8))
def test_strong_and_holdout_both_have_an_object(seed):
    parts = split(data_of(20, empty=range(11)), 0.5, 0.1, seed)
    assert parts.strong.num_objects
    assert parts.holdout.num_objects


def test_crowds_and_ignore_regions_are_no_points_but_stay_in_the_truth():
    data = data_of(6)
    region = Annotation(7000, 0, mask_at(40, 30), crowd=True)
    flagged = Annotation(7001, 0, mask_at(50, 30), extra={"ignore": True})
    image = replace(data.images[0], annotations=(*data.images[0].annotations, region, flagged))
    hidden = Annotation(7002, 0, point=(1.0, 1.0))  # makes the image weak
    image = replace(image, annotations=(*image.annotations, hidden))
    parts = split(replace(data, images=(image, *data.images[1:])), 0.4, 0.2, 0)
    assert not {7000, 7001} & points_of(parts.points).keys()
    assert {7000, 7001} < points_of(parts.truth).keys()


def test_an_empty_mask_has_no_point_and_is_named():
    data = data_of(4)
    nothing = rle_api.encode(torch.zeros((1, *SIZE), dtype=torch.bool))[0]
    images = [
        replace(im, annotations=(*im.annotations, Annotation(8000 + im.id, 0, nothing))) for im in data.images
    ]
    for points in ("center", "random"):
        parts = split(replace(data, images=tuple(images)), 0.5, 0.2, 0, points=points)
        assert parts.ledger["without_point"] == [8000 + key for key in ids(parts.points)]
        assert len(points_of(parts.points)) == 6


def test_clicked_points_replace_made_ones_and_find_their_masks():
    data = data_of(6)
    marks = {
        image.id: [
            (22.0, image.id + 5.0, 1),  # on the second square
            (3.0, image.id + 4.0, 0),  # on the corner of the first
            (4.0, image.id + 5.0, 0),  # on the first again: taken
            (22.0, image.id + 5.0, 0),  # on the second, of another class
            (59.0, 39.0, 0),  # on nothing
        ]
        for image in data.images
    }
    parts = split(data, 0.4, 0.2, 0, jitter=5, clicked=marks)
    for image in parts.points.images:
        first = 100 * (image.id - 1)
        found = [item.id for item in image.annotations]
        assert found[:2] == [first + 1, first]
        assert min(found[2:]) > max(item.id for im in data.images for item in im.annotations)
        assert [(*item.point, item.label) for item in image.annotations] == marks[image.id]
    every = [item.id for image in parts.points.images for item in image.annotations]
    assert len(set(every)) == len(every)
    assert len(points_of(parts.truth)) == 3 * len(parts.points.images)


def test_nested_masks_the_smallest_under_the_click_is_meant():
    data = data_of(4, objects=0)
    nested = [
        replace(
            im,
            annotations=(
                Annotation(2 * im.id, 0, mask_at(0, 0, 30, 30)),
                Annotation(2 * im.id + 1, 0, mask_at(5, 5, 4, 4)),
            ),
        )
        for im in data.images
    ]
    marks = {im.id: [(6.0, 6.0, 0), (7.0, 7.0, 0)] for im in nested}
    parts = split(replace(data, images=tuple(nested)), 0.5, 0.2, 0, clicked=marks)
    for image in parts.points.images:
        assert [item.id for item in image.annotations] == [2 * image.id + 1, 2 * image.id]


def test_with_clicked_points_images_nobody_has_looked_at_are_not_used():
    data = data_of(20, empty=range(10, 20))  # ids 11..20 have no annotations
    marks = {key: [(1.0, 1.0, 0)] for key in range(11, 18)} | {18: []}
    parts = split(data, 0.5, 0.2, 0, clicked=marks)
    assert parts.ledger["unlabelled"] == [19, 20]
    used = ids(parts.strong) + ids(parts.holdout) + ids(parts.points)
    assert sorted(used) == list(range(1, 19))
    assert set(ids(parts.strong)) <= set(range(1, 11))  # clicked images without masks are weak
    assert parts.points.by_id[18].annotations == ()


CLICKED = Annotation(5000, 1, point=(1.25, 2.5))


def mixed(data, *numbers, extra=CLICKED):
    """The data with an object that has no mask in some of the images."""
    images = [
        replace(im, annotations=(*im.annotations, replace(extra, id=extra.id + im.id)))
        if im.id in numbers
        else im
        for im in data.images
    ]
    return replace(data, images=tuple(images))


@pytest.mark.parametrize("clicked", [None, {3: [(50.0, 30.0, 0)]}])
def test_drawn_masks_are_those_of_mixed_images_and_of_no_other(tmp_path, clicked):
    data = mixed(data_of(10), 3, 7)
    parts = split(data, 0.3, 0.2, 0, clicked=clicked)
    assert len(parts.points.images) > 2  # others are weak by the draw: their masks stay unseen
    assert set(ids(parts.drawn)) == {3, 7}
    masks = {item.id: item for image in parts.drawn.images for item in image.annotations}
    assert masks.keys() == {200, 201, 202, 600, 601, 602}
    assert masks.keys() <= points_of(parts.points).keys()
    assert masks[200].rle == data.by_id[3].annotations[0].rle
    save_coco(parts.points, tmp_path / "points.json")
    assert "segmentation" not in (tmp_path / "points.json").read_text()
    training = parts.ledger["totals"]["training"]
    assert training["mask"]["count"] == parts.strong.num_objects + 6
    weak = parts.points.num_objects
    assert training["point"]["count"] == weak - 6
    drawn_by_draw = sum(len(im.annotations) for im in parts.truth.images if im.id not in (3, 7))
    assert parts.ledger["totals"]["evaluation"]["mask"]["count"] == drawn_by_draw


def test_boxes_and_labels_of_val_have_their_price():
    box = Annotation(5000, 1, point=(4.0, 5.0), extra={"box": [1, 2, 6, 6]})
    data = mixed(data_of(6, objects=1), 2, 4, extra=box)
    val = count_labels(data_of(3, objects=2), "val")
    totals = split(data, 0.4, 0.2, 0, val_labels=val).ledger["totals"]
    assert totals["training"]["box"] == {"count": 2, "seconds": 14.0}
    weak = split(data, 0.4, 0.2, 0).ledger["totals"]
    assert totals["evaluation"]["mask"]["count"] - weak["evaluation"]["mask"]["count"] == 6
    assert totals["label_hours"] == weak["label_hours"]  # what is needed to train, not to measure
    # A click takes the place of what the file says of an image: its box was not used.
    clicked = split(data, 0.4, 0.2, 0, clicked={2: [(1.0, 1.0, 0)]}).ledger["totals"]["training"]
    assert clicked["box"]["count"] == 1


def test_the_ledger_adds_up():
    data = data_of(20)
    prices = {"mask": 100.0, "box": 7.0, "point": 2.0}
    parts = split(data, 0.5, 0.3, 0, prices=prices)
    totals = parts.ledger["totals"]
    assert totals["training"] == {
        "mask": {"count": 21, "seconds": 2100.0},
        "point": {"count": 30, "seconds": 60.0},
    }
    assert totals["selection"] == {"mask": {"count": 9, "seconds": 900.0}}
    assert totals["evaluation"] == {"mask": {"count": 30, "seconds": 3000.0}}
    assert totals["label_hours"] == pytest.approx((2100 + 60 + 900) / 3600, abs=1e-6)
    assert totals["full_label_hours"] == pytest.approx(60 * 100 / 3600, abs=1e-6)
    entry = next(e for e in parts.ledger["labels"] if e["use"] == "selection")
    assert entry["image_id"] in ids(parts.holdout)
    assert (entry["kind"], entry["count"], entry["seconds"]) == ("mask", 3, 300)
    json.dumps(parts.ledger)


@pytest.mark.parametrize(
    ("strong", "says"), [(0.0, "found 0 of 20"), (0.05, "found 1 of 20"), (1.0, "no.*weak|weak image")]
)
def test_fractions_that_leave_nothing(strong, says):
    with pytest.raises(InputError, match=says) as error:
        split(data_of(20), strong, 0.2, 0)
    assert "split.strong" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_remedy_of_a_small_fraction_works():
    with pytest.raises(InputError, match=r"Set it to 0\.1 or more"):
        split(data_of(20), 0.05, 0.2, 0)
    assert split(data_of(20), 0.1, 0.2, 0).strong.images


def test_the_whole_strong_set_cannot_be_held_out():
    assert len(split(data_of(20), 0.5, 1.0, 0).strong.images) == 1
    assert len(split(data_of(20), 0.5, 0.0, 0).holdout.images) == 1


def test_without_masks_or_objects_there_is_nothing_to_learn_from():
    points_only = [
        replace(im, annotations=(Annotation(im.id, 0, point=(1.0, 1.0)),)) for im in data_of(6).images
    ]
    with pytest.raises(InputError, match="masks of all their objects"):
        split(replace(data_of(6), images=tuple(points_only)), 0.5, 0.2, 0)
    with pytest.raises(InputError, match="strong images with objects"):
        split(data_of(6, objects=0), 0.5, 0.2, 0)


def test_dsb2018_as_a_whole(shared_folder):
    folder = shared_folder / "data" / "dsb2018"
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}")
    data = load_coco(folder / "instances_val.json", folder / "val")
    parts = split(data, 0.1, 0.2, 0)
    truth = {item.id: item for image in parts.truth.images for item in image.annotations}
    assert points_of(parts.points).keys() == truth.keys()
    inside = [rle_api.contains(truth[k].rle, np.array([p]))[0] for k, p in points_of(parts.points).items()]
    assert all(inside)
    objects = sum(part.num_objects for part in (parts.strong, parts.holdout, parts.points))
    assert objects == data.num_objects
