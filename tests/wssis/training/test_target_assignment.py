"""wssis.training.target_assignment, wssis.training.target_assignment, wssis.ops.masks: centers, boxes, small
masks, and which cell learns what."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from wssis.instances import Instances
from wssis.models.raw_maps import RawMaps
from wssis.ops.masks import area_average, mask_areas
from wssis.training.target_assignment import Targets, assign, center_of_mass, downscale_masks, mask_boxes

GRIDS = ((16, 16), (8, 8), (4, 4))
RANGES = ((4, 24), (24, 48), (48, 100))
SIZE = (128, 128)
SMALL = (32, 32)


def boxes_image(
    *boxes: tuple[int, int, int, int], labels: list[int] | None = None, size: tuple[int, int] = SIZE
) -> Instances:
    """Rectangles x0, y0, x1, y1 as objects."""
    masks = torch.zeros((len(boxes), *size), dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances(
        size=size, labels=torch.tensor(labels or [0] * len(boxes), dtype=torch.int64), masks=masks
    )


def run(*images: Instances, **options) -> Targets:
    settings = {"grids": GRIDS, "ranges": RANGES, "image_size": SIZE, "mask_size": SMALL, "num_classes": 3}
    return assign(list(images), **(settings | options))


def random_image(count: int, seed: int, size: tuple[int, int] = SIZE) -> Instances:
    """Ellipses of 1 to 60 px and a few empty masks, at any place."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.arange(size[0])[:, None], torch.arange(size[1])
    u = torch.rand((count, 4), generator=generator)
    masks = torch.stack(
        [
            ((x - a * size[1]) / (0.3 + 30 * c**2)) ** 2 + ((y - b * size[0]) / (0.3 + 30 * d**2)) ** 2 < 1
            for a, b, c, d in u.tolist()
        ]
    )
    return Instances(size=size, labels=torch.randint(0, 3, (count,), generator=generator), masks=masks)


# Centers, boxes, small masks


def test_center_of_mass_is_the_mean_index_of_the_foreground(parity):
    out = center_of_mass(parity["center_of_mass/masks"])
    torch.testing.assert_close(out, parity["center_of_mass/out_xy"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(7, 5), (8, 8), (300, 17), (3, 2100), (2100, 8), (64, 61)])
def test_centers_and_boxes_against_coordinates(size):
    generator = torch.Generator().manual_seed(1)
    masks = (
        torch.rand((6, *size), generator=generator)
        < torch.tensor([0.001, 0.1, 0.9, 1.0, 0.5, 0.02])[:, None, None]
    )
    masks = torch.cat([masks, torch.zeros((1, *size), dtype=torch.bool)])
    centers, boxes = center_of_mass(masks), mask_boxes(masks)
    assert torch.equal(mask_areas(masks), masks.flatten(1).sum(1))
    for mask, center, box in zip(masks, centers, boxes, strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        if not len(rows):
            assert center.tolist() == [0, 0]
            assert box.tolist() == [0, 0, 0, 0]
            continue
        expected = [columns.double().mean().item(), rows.double().mean().item()]
        assert center.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_centers_of_views_and_of_no_mask():
    whole = torch.rand((5, 40, 48)) < 0.3
    expected = center_of_mass(whole.clone())
    assert torch.equal(center_of_mass(whole[1:]), expected[1:])
    assert torch.equal(center_of_mass(whole.transpose(1, 2)), expected.flip(1))
    shifted = torch.cat([torch.zeros(3, dtype=torch.bool), whole.flatten()])[3:].view(whole.shape)
    assert torch.equal(center_of_mass(shifted), expected)
    assert center_of_mass(whole[:0]).shape == (0, 2)
    assert mask_boxes(whole[:0]).shape == (0, 4)
    assert mask_areas(whole[:0]).shape == (0,)
    assert torch.equal(mask_areas(shifted), whole.flatten(1).sum(1))


@pytest.mark.parametrize("tag", ["a", "b", "c"])
def test_downscale_is_the_bilinear_half_rule(parity, tag):
    masks, expected = parity[f"downscale/{tag}_masks"], parity[f"downscale/{tag}_out"]
    size = (expected.shape[1], expected.shape[2])
    assert torch.equal(downscale_masks(masks, size, exact=True), expected)
    assert (downscale_masks(masks, size) != expected).sum() <= 1


@pytest.mark.parametrize(("size", "small"), [((64, 96), (16, 24)), ((64, 96), (32, 48)), ((64, 96), (8, 12))])
def test_downscale_by_an_even_stride_is_the_same_by_all_rules(size, small):
    masks = torch.rand((5, *size), generator=torch.Generator().manual_seed(0)) < 0.5
    expected = F.interpolate(masks[None].float(), small, mode="bilinear", align_corners=False)[0] >= 0.5
    assert torch.equal(downscale_masks(masks, small), expected)
    assert torch.equal(downscale_masks(masks, small, exact=True), expected)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(64, 96), (61, 83), (3, 5)])
def test_area_average_is_the_share_of_the_pixels_inside_the_image(stride, size):
    masks = torch.rand((40, *size), generator=torch.Generator().manual_seed(0)) < 0.5
    small = (64 // stride, 96 // stride)
    out = area_average(masks, (64, 96), small)
    padded = F.pad(masks.float(), (0, 96 - size[1], 0, 64 - size[0]))
    inside = F.pad(torch.ones(size), (0, 96 - size[1], 0, 64 - size[0]))
    expected = F.avg_pool2d(padded, stride) / F.avg_pool2d(inside[None], stride).clamp(min=1e-9)
    torch.testing.assert_close(out, expected)


def test_area_average_by_an_odd_stride():
    masks = torch.rand((3, 60, 90), generator=torch.Generator().manual_seed(0)) < 0.5
    torch.testing.assert_close(area_average(masks, (60, 90), (20, 30)), F.avg_pool2d(masks.float(), 3))
    assert area_average(masks[:0], (60, 90), (20, 30)).shape == (0, 20, 30)


# The paper's rule


@pytest.mark.parametrize("tag", ["separate", "overlap", "shared"])
def test_all_assigns_as_the_paper_does(parity, tag):
    targets = parity.targets(tag, shared="all")
    category = torch.cat([parity[f"targets/{tag}/cate_{level}"].flatten(1) for level in range(5)], 1)
    assert torch.equal(targets.category, category)
    pos = parity[f"targets/{tag}/pos"]
    offsets = torch.tensor([0, 144, 244, 308, 344])
    assert torch.equal(targets.image, pos[:, 1])
    assert torch.equal(targets.cell, offsets[pos[:, 0]] + pos[:, 2])
    assert torch.equal(targets.instance, pos[:, 3])
    assert targets.num_cells == int(parity[f"targets/{tag}/num_cells"])
    for i in (0, 1):
        assert torch.equal(targets.masks[i], parity[f"targets/{tag}/small_{i}"])


def loop_assign(images: list[Instances]) -> list[tuple[int, int, int, int]]:
    """The rule of README item 5, object by object: (level, image, cell, instance)."""
    found = []
    for level, ((rows, columns), (low, high)) in enumerate(zip(GRIDS, RANGES, strict=True)):
        offset = sum(r * c for r, c in GRIDS[:level])
        for i, image in enumerate(images):
            for j, mask in enumerate(image.masks):
                y, x = mask.nonzero(as_tuple=True)
                if not len(y):
                    continue
                h, w = (y.max() - y.min() + 1).item(), (x.max() - x.min() + 1).item()
                if not low <= math.sqrt(h * w) < high:
                    continue
                cy, cx = y.double().mean().item(), x.double().mean().item()

                def row(v, n=rows, length=SIZE[0]):
                    return min(n - 1, max(0, math.floor(v * n / length)))

                def column(v, n=columns, length=SIZE[1]):
                    return min(n - 1, max(0, math.floor(v * n / length)))

                for r in range(max(row(cy - 0.1 * h), row(cy) - 1), min(row(cy + 0.1 * h), row(cy) + 1) + 1):
                    for c in range(
                        max(column(cx - 0.1 * w), column(cx) - 1),
                        min(column(cx + 0.1 * w), column(cx) + 1) + 1,
                    ):
                        found.append((level, i, offset + r * columns + c, j))
    return found


def test_all_is_the_loop_over_objects_for_hundreds_of_them():
    images = [
        random_image(369, seed=1),
        boxes_image(),
        random_image(60, seed=2),
    ]
    targets = run(*images, shared="all")
    expected = loop_assign(images)
    assert len(expected) > 300
    got = list(zip(targets.image.tolist(), targets.cell.tolist(), targets.instance.tolist(), strict=True))
    assert got == [(image, cell, instance) for _, image, cell, instance in expected]
    category = torch.full_like(targets.category, 3)
    for _, image, cell, instance in sorted(expected, key=lambda row: row[3]):
        category[image, cell] = images[image].labels[instance]
    assert torch.equal(targets.category, category)
    assert targets.num_cells == len({(image, cell) for _, image, cell, _ in expected})


# What the default does better


def test_a_shared_cell_belongs_to_one_object():
    """The paper trains one cell towards both masks, and its class is that of the last object in the file."""
    far_first = boxes_image(
        (36, 36, 52, 52), (40, 40, 48, 48), labels=[1, 2]
    )  # the second is nearer to a middle
    near_first = boxes_image((40, 40, 48, 48), (36, 36, 52, 52), labels=[2, 1])
    for image in (far_first, near_first):
        paper, ours = run(image, shared="all"), run(image)
        assert len(paper.cell) > paper.num_cells
        assert len(ours.cell) == ours.num_cells == len(ours.cell.unique())
        assert set(ours.cell.tolist()) == set(paper.cell.tolist())
    paper = [run(image, shared="all").category for image in (far_first, near_first)]
    ours = [run(image).category for image in (far_first, near_first)]
    assert not torch.equal(*paper)
    assert torch.equal(*ours)


def test_the_nearest_center_wins_a_cell():
    # The middle of cell (5, 5) at level 0 is (44, 44); the centers are (41, 41) and (44, 44).
    targets = run(boxes_image((37, 37, 45, 45), (40, 40, 48, 48), labels=[1, 2]))
    assert targets.instance[targets.cell == 5 * 16 + 5].tolist() == [1]
    assert targets.category[0, 5 * 16 + 5] == 2


def test_nested_objects_with_one_center_go_to_the_smaller():
    for order in ([0, 1], [1, 0]):
        image = boxes_image((36, 36, 52, 52), (40, 40, 48, 48), labels=[1, 2])[torch.tensor(order)]
        targets = run(image)
        assert targets.category[0, 5 * 16 + 5] == 2
    nested_over_levels = run(boxes_image((24, 24, 64, 64), (40, 40, 48, 48), labels=[1, 2]))
    assert sorted(nested_over_levels.instance.unique().tolist()) == [0, 1]


@pytest.mark.parametrize("shared", ["nearest", "all"])
def test_an_empty_mask_gets_no_cell(shared):
    ranges = ((0, 24), *RANGES[1:])
    targets = run(boxes_image((3, 3, 3, 3), (40, 40, 56, 56)), shared=shared, ranges=ranges)
    assert targets.instance.unique().tolist() == [1]


def test_no_size_is_dropped():
    image = boxes_image(
        (10, 10, 12, 12), (0, 0, 128, 128), labels=[1, 2]
    )  # 2 px and 128 px: outside all ranges
    assert len(run(image, shared="all").cell) == 0
    targets = run(image)
    assert targets.instance.unique().tolist() == [0, 1]
    assert targets.cell[targets.instance == 0].max() < 256
    assert targets.cell[targets.instance == 1].min() >= 320
    gap = run(boxes_image((10, 10, 40, 40)), ranges=((4, 24), (32, 48), (48, 100)))  # 30 px: nearer to 32
    assert gap.cell.min() >= 256
    assert gap.cell.max() < 320


def test_an_object_that_vanishes_at_mask_size_keeps_a_pixel():
    image = boxes_image((17, 21, 18, 22), (50, 50, 60, 60), (3, 3, 3, 3))
    assert run(image, shared="all").masks[0][0].sum() == 0
    masks = run(image).masks[0]
    assert masks[0].nonzero().tolist() == [[5, 4]]
    assert masks[2].sum() == 0  # nothing to begin with
    assert masks[1].nonzero()[[0, -1]].tolist() == [[12, 13], [14, 14]]  # half is enough, a quarter is not
    soft = run(image, soft=True).masks[0]
    assert soft[0].nonzero().tolist() == [[5, 4]]
    assert soft[0].max() == 1 / 16


def test_the_cell_that_holds_an_objects_center_is_positive():
    """The center as a point, in pixels: what a person would click, and what prompting will look up."""
    image = random_image(40, seed=3)
    targets = run(image)
    raw = RawMaps(targets.category[..., None], targets.category, torch.zeros(1, 1, *SMALL), GRIDS, SIZE)
    cells = raw.cells_of(center_of_mass(image.masks) + 0.5)
    area = image.masks.flatten(1).sum(1)
    assert (targets.category[0][cells] < 3).any(1)[area > 0].all()


@pytest.mark.parametrize("shared", ["nearest", "all"])
def test_images_without_objects(shared):
    targets = run(boxes_image(), boxes_image(size=(100, 90)), shared=shared)
    assert targets.category.shape == (2, 336)
    assert (targets.category == 3).all()
    assert targets.num_cells == 0
    assert [len(rows) for rows in (targets.image, targets.cell, targets.instance)] == [0, 0, 0]
    assert [tuple(mask.shape) for mask in targets.masks] == [(0, 32, 32), (0, 32, 32)]
    unmasked = Instances(size=SIZE, labels=torch.zeros(0, dtype=torch.int64))
    assert run(unmasked, shared=shared).num_cells == 0


@pytest.mark.parametrize("shared", ["nearest", "all"])
def test_class_0_and_one_class(shared):
    targets = run(boxes_image((40, 40, 56, 56)), shared=shared, num_classes=1)
    assert (targets.category == 0).sum() == targets.num_cells > 0
    assert (targets.category == 1).sum() == 336 - targets.num_cells


@pytest.mark.parametrize("shared", ["nearest", "all"])
def test_an_image_is_assigned_alike_in_any_batch(shared):
    images = [
        random_image(20, 5),
        random_image(9, 6, size=(97, 99)),
        boxes_image(),
        random_image(3, 7, (50, 128)),
    ]
    together = run(*images, shared=shared)
    for i, image in enumerate(images):
        alone, rows = run(image, shared=shared), together.image == i
        assert torch.equal(together.category[i], alone.category[0])
        assert torch.equal(together.cell[rows], alone.cell)
        assert torch.equal(together.instance[rows], alone.instance)
        assert torch.equal(together.masks[i], alone.masks[0])


def test_more_masks_than_are_made_at_once():
    image = random_image(100, 8)
    for options in ({}, {"soft": True}, {"shared": "all"}):
        together = run(image, **options).masks[0]
        apart = torch.cat([run(image[slice(i, i + 1)], **options).masks[0] for i in range(100)])
        assert torch.equal(together, apart)


def test_369_objects_all_have_cells_where_there_is_room():
    boxes = [(x, y, x + 5, y + 5) for y in range(0, 120, 6) for x in range(0, 120, 6)][:369]
    targets = run(boxes_image(*boxes), grids=((32, 32),), ranges=((1, 200),))
    assert len(targets.instance.unique()) == 369


# Ignore regions


def test_ignored_cells_and_pixels():
    image = boxes_image((40, 40, 56, 56))
    ignore = torch.zeros(SIZE, dtype=torch.bool)
    ignore[32:64, 32:96] = True
    targets = run(Instances(size=SIZE, labels=image.labels, masks=image.masks, ignore=ignore))
    plain = run(image)
    positive = plain.category < 3
    assert torch.equal(targets.category[positive], plain.category[positive])
    level = targets.category[0, 256:320].view(8, 8)  # cells of 16 px
    assert (level == -1).nonzero().tolist() == [[r, c] for r in (2, 3) for c in (2, 3, 4, 5)]
    valid = targets.valid[0]
    expected = torch.ones(SMALL, dtype=torch.bool)
    expected[8:16, 8:24] = False
    expected[10:14, 10:14] = True  # its own mask is never ignored
    assert torch.equal(valid, expected)
    assert plain.valid == [None]


def test_a_small_ignored_object_between_cell_middles_is_no_background():
    ignore = torch.zeros(SIZE, dtype=torch.bool)
    ignore[41:43, 41:43] = True  # cell (5, 5) of 8 px has its middle at 44
    empty = boxes_image()
    targets = run(Instances(size=SIZE, labels=empty.labels, masks=empty.masks, ignore=ignore))
    assert (targets.category[0] == -1).nonzero().flatten().tolist() == [5 * 16 + 5]


def test_an_ignore_region_of_an_image_smaller_than_the_batch():
    image = boxes_image(size=(61, 43))
    image = Instances(
        size=(61, 43), labels=image.labels, masks=image.masks, ignore=torch.ones((61, 43)).bool()
    )
    targets = run(image)
    level = targets.category[0, :256].view(16, 16)
    assert (level[:8, :6] == -1).all()
    assert (level == -1).sum() == 48
    assert (~targets.valid[0]).sum() == 16 * 11


# Form


def test_work_does_not_loop_over_objects(count_operations):
    few, many = random_image(3, 1), random_image(300, 1)
    for shared in ("nearest", "all"):
        small = count_operations(partial(run, few, shared=shared))
        large = count_operations(partial(run, many, shared=shared))
        assert large - small < 2 * 297  # masks are made small in chunks of 32


def test_wrong_calls_say_what_is_wrong():
    with pytest.raises(ValueError, match="a range for each grid, got 2 and 3"):
        run(boxes_image(), ranges=RANGES[:2])
    with pytest.raises(ValueError, match="got masks=None"):
        run(Instances(size=SIZE, labels=torch.zeros(1, dtype=torch.int64)))
    with pytest.raises(ValueError, match="at most"):
        run(boxes_image(size=(129, 10)))
