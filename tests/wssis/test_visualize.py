"""wssis.visualize: drawings are in the right place, for every kind of instances."""

from __future__ import annotations

import pytest
import torch

from wssis.instances import Instances
from wssis.visualize import PALETTE, draw_instances, side_by_side, spotlight

NAMES = ("cat", "dog")


def gray(height=40, width=60):
    return torch.full((3, height, width), 120, dtype=torch.uint8)


def square(size=(40, 60), x=10, y=5, side=20):
    mask = torch.zeros(size, dtype=torch.bool)
    mask[y : y + side, x : x + side] = True
    return mask


def of(masks=None, points=None, scores=None, ignore=None, labels=None, size=(40, 60)):
    count = next(len(value) for value in (masks, points, labels) if value is not None)
    return Instances(
        size=size,
        labels=torch.tensor(labels or [0] * count, dtype=torch.int64),
        masks=masks,
        points=points,
        scores=scores,
        ignore=ignore,
    )


def test_small_images_are_enlarged_and_large_ones_are_not():
    assert draw_instances(gray(), Instances.empty((40, 60)), NAMES).shape == (3, 240, 360)
    large = gray(330, 200)
    assert torch.equal(draw_instances(large, Instances.empty((330, 200)), NAMES), large)


def test_a_mask_is_blended_and_outlined_and_nothing_else_changes():
    image = gray()
    drawn = draw_instances(image, of(square()[None]), ("one",))  # one class, no score: no text
    scale = drawn.shape[1] // 40
    changed = (drawn != 120).any(0)
    assert torch.equal(changed, square().repeat_interleave(scale, 0).repeat_interleave(scale, 1))
    assert drawn[:, 5 * scale, 10 * scale].tolist() == list(PALETTE[0])
    inside = drawn[:, 15 * scale, 20 * scale].float()
    assert torch.allclose(inside, 0.65 * 120 + 0.35 * torch.tensor(PALETTE[0]).float(), atol=1)
    assert (image == 120).all()


def test_a_spotlight_darkens_everything_but_the_mask():
    image = gray()
    lit = spotlight(image, square(), (40.5, 30.5))
    assert lit.shape == (3, 240, 360)
    assert lit[:, 6 * 15, 6 * 20].tolist() == [120] * 3
    assert lit[:, 6 * 2, 6 * 50].tolist() == [42] * 3
    assert lit[:, 6 * 5, 6 * 10].tolist() == list(PALETTE[3])
    assert lit[:, 183, 243].tolist() == list(PALETTE[1])  # the point
    assert (image == 120).all()
    assert (spotlight(image, torch.zeros((40, 60), dtype=torch.bool)) == 42).all()


def test_a_small_object_stays_visible_on_a_large_one():
    masks = torch.stack([square(x=20, y=12, side=6), square()])
    drawn = draw_instances(gray(), of(masks), ("one",))
    scale = drawn.shape[1] // 40
    assert drawn[:, 12 * scale, 20 * scale].tolist() == list(PALETTE[0])


def test_a_point_is_a_dot_at_its_place():
    drawn = draw_instances(gray(), of(points=torch.tensor([[30.5, 20.5]])), ("one",))
    scale = drawn.shape[1] // 40
    assert drawn[:, int(20.5 * scale), int(30.5 * scale)].tolist() == list(PALETTE[0])
    rows, columns = (drawn != 120).any(0).nonzero(as_tuple=True)
    assert columns.float().mean() == pytest.approx(30.5 * scale, abs=1)
    assert rows.float().mean() == pytest.approx(20.5 * scale, abs=1)


def test_an_ignore_region_turns_gray():
    image = gray()
    image[0] = 250
    drawn = draw_instances(
        image, of(labels=[], masks=torch.zeros((0, 40, 60), dtype=torch.bool), ignore=square()), NAMES
    )
    scale = drawn.shape[1] // 40
    changed = (drawn != image.repeat_interleave(scale, 1).repeat_interleave(scale, 2)).any(0)
    assert torch.equal(changed, square().repeat_interleave(scale, 0).repeat_interleave(scale, 1))


def test_names_and_scores_are_written_and_differ():
    masks = square(x=20, y=18)[None]
    plain = draw_instances(gray(), of(masks), ("one",))
    cat, dog = (draw_instances(gray(), of(masks, labels=[label]), NAMES) for label in (0, 1))
    scored = draw_instances(gray(), of(masks, scores=torch.tensor([0.5])), ("one",))
    pictures = [plain, cat, dog, scored]
    assert all((a != b).any() for i, a in enumerate(pictures) for b in pictures[:i])


@pytest.mark.parametrize(
    "instances",
    [
        Instances.empty((40, 60)),
        of(torch.zeros((2, 40, 60), dtype=torch.bool), scores=torch.tensor([0.1, 1.0])),
        of(torch.ones((1, 40, 60), dtype=torch.bool), points=torch.tensor([[59.9, 39.9]]), labels=[1]),
        of(square().expand(369, -1, -1), points=torch.rand(369, 2) * 40, labels=[1] * 369),
        of(points=torch.tensor([[0.0, 0.0], [59.9, 39.9]]), labels=[0, 1]),
        of(square(x=0, y=0, side=1)[None], labels=[1]),
        of(labels=[1]),
    ],
)
def test_edges(instances):
    drawn = draw_instances(gray(), instances, ("a", "a name that is much wider than the picture " * 4))
    assert drawn.shape == (3, 240, 360)
    assert drawn.dtype == torch.uint8
    assert drawn.is_contiguous()


def test_one_pixel_image():
    drawn = draw_instances(
        gray(1, 1), of(torch.ones((1, 1, 1), dtype=torch.bool), labels=[1], size=(1, 1)), NAMES
    )
    assert drawn.shape == (3, 320, 320)


def test_another_size_is_an_error():
    with pytest.raises(ValueError, match="image is"):
        draw_instances(gray(41), Instances.empty((40, 60)), NAMES)


def test_side_by_side_keeps_the_pictures_and_writes_titles():
    first, second = gray(50, 100), torch.zeros((3, 80, 60), dtype=torch.uint8)
    row = side_by_side([first, second], ["truth", "a title that does not fit above it"])
    head = row.shape[1] - 80
    assert row.shape[2] == 100 + 60 + 8
    assert torch.equal(row[:, head : head + 50, :100], first)
    assert torch.equal(row[:, head:, 108:], second)
    assert (row[:, :head, :100] != 255).any()
    assert (row[:, :head, 100:108] == 255).all()  # the first title stays above its picture
    assert (row[:, head + 50 :, :108] == 255).all()
