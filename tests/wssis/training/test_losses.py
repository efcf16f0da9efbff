"""wssis.training.losses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from wssis.instances import Instances
from wssis.models.raw_maps import RawMaps
from wssis.training import losses
from wssis.training.losses import (
    dice_loss,
    focal_loss_of_labels,
    focal_loss_sum,
    paper_refiner_dice,
    solov2_loss,
)
from wssis.training.target_assignment import Targets, assign

RANGES = ((1, 16), (16, 40), (40, 1000))


def image(size: tuple[int, int], count: int, seed: int, ignore: bool = False) -> Instances:
    """Random rectangles."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros((count, *size), dtype=torch.bool)
    for mask in masks:
        y, x, h, w = torch.randint(2, min(size) // 2, (4,), generator=generator).tolist()
        mask[y : y + h, x : x + w] = True
    area = torch.zeros(size, dtype=torch.bool)
    area[: size[0] // 3] = True
    labels = torch.randint(0, 3, (count,), generator=generator)
    return Instances(size=size, labels=labels, masks=masks, ignore=area if ignore else None)


def targets_for(raw: RawMaps, *images: Instances, **options) -> Targets:
    mask_size = (raw.features.shape[2], raw.features.shape[3])
    classes = raw.category.shape[2]
    return assign(list(images), raw.grids, RANGES, raw.image_size, mask_size, classes, **options)


def trainable(raw: RawMaps) -> RawMaps:
    parts = {
        name: getattr(raw, name).clone().requires_grad_() for name in ("category", "kernels", "features")
    }
    return replace(raw, **parts)


def plain_mask_loss(raw: RawMaps, targets: Targets) -> Tensor:
    """README item 6, pair by pair, by autograd."""
    terms = []
    for i, cell, instance in zip(targets.image, targets.cell, targets.instance, strict=True):
        logits = torch.einsum("c,chw->hw", raw.kernels[i, cell], raw.features[i])
        terms.append(dice_loss(logits.sigmoid()[None], targets.masks[i][instance][None], targets.valid[i]))
    return 3 * (torch.cat(terms) * targets.weight).sum() / targets.weight.sum()


# Formulas


def test_dice_formula(parity):
    out = dice_loss(parity["dice/pred"], parity["dice/target"])
    torch.testing.assert_close(out, parity["dice/out"], rtol=1e-5, atol=1e-6)


def test_focal_formula(parity):
    logits, target = parity["focal/logits"], parity["focal/target"]
    torch.testing.assert_close(focal_loss_sum(logits, target), parity["focal/out"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tag", ["separate", "overlap", "shared"])
def test_loss_is_normalized_as_the_papers(parity, tag):
    loss = solov2_loss(parity.raw("loss"), parity.targets(tag, shared="all"))
    torch.testing.assert_close(loss["mask"], parity[f"loss/{tag}/mask_loss"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss["category"], parity[f"loss/{tag}/class_loss"], rtol=1e-5, atol=1e-6)


def test_loss_with_an_image_without_objects(parity):
    full = parity.targets("separate", shared="all")
    first = full.image == 0
    category = full.category.clone()
    category[1] = 5
    targets = Targets(
        category,
        full.image[first],
        full.cell[first],
        full.instance[first],
        full.weight[first],
        [full.masks[0], full.masks[1][:0]],
        [None, None],
        int((category < 5).sum()),
        float(first.sum()),
        (int(first.sum()), 0),
    )
    loss = solov2_loss(parity.raw("loss"), targets)
    expected = {"mask": "mask_loss", "category": "class_loss"}
    for term, name in expected.items():
        stored = parity[f"loss/second_image_empty/{name}"]
        torch.testing.assert_close(loss[term], stored, rtol=1e-5, atol=1e-6)


def test_a_shared_cell_is_torn_between_masks_in_the_paper_and_not_in_the_default(parity):
    """README item 6: with the last mask of each cell only, the loss of `shared` is 1.901493, not 1.770647."""
    raw, paper = parity.raw("loss"), parity.targets("shared", shared="all")
    flat = paper.image * paper.category.shape[1] + paper.cell
    last = torch.tensor([(flat == cell).nonzero().max().item() for cell in flat.unique()]).sort()[0]
    rows = {name: getattr(paper, name)[last] for name in ("image", "cell", "instance", "weight")}
    per_image = tuple(rows["image"].bincount(minlength=2).tolist())
    loss = solov2_loss(raw, replace(paper, **rows, num_pairs=float(len(last)), per_image=per_image))["mask"]
    torch.testing.assert_close(loss, torch.tensor(1.901493), rtol=1e-5, atol=1e-6)
    ours = parity.targets("shared")
    assert len(ours.cell) == ours.num_cells < len(paper.cell)


# Dice


def test_dice_of_perfect_empty_and_soft_masks():
    target = torch.zeros((2, 6, 7), dtype=torch.bool)
    target[0, 2:4, 1:5] = True
    torch.testing.assert_close(dice_loss(target.float(), target), torch.tensor([0.0, 1.0]), atol=2e-4, rtol=0)
    share = torch.rand((1, 6, 7))
    assert dice_loss(share, share).item() == pytest.approx(0, abs=1e-3)
    assert dice_loss(share.round(), share).item() > 0.01


def test_dice_leaves_ignored_pixels_out():
    generator = torch.Generator().manual_seed(0)
    pred, target = (
        torch.rand((3, 6, 8), generator=generator),
        torch.rand((3, 6, 8), generator=generator) < 0.4,
    )
    valid = torch.zeros((6, 8), dtype=torch.bool)
    valid[:, :5] = True
    torch.testing.assert_close(dice_loss(pred, target, valid), dice_loss(pred[..., :5], target[..., :5]))
    assert not torch.allclose(dice_loss(pred, target, valid), dice_loss(pred, target))
    torch.testing.assert_close(
        dice_loss(pred, target, valid.expand(3, -1, -1)), dice_loss(pred, target, valid)
    )


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("quality_power", [0.0, 2.0])
@pytest.mark.parametrize("chunk", [1, 1000, 1 << 22])
def test_mask_loss_and_its_gradient_are_autograds(make_raw, monkeypatch, soft, quality_power, chunk):
    monkeypatch.setattr(losses, "_CHUNK_CPU", chunk)
    ours, plain = trainable(make_raw(batch=3)), trainable(make_raw(batch=3))
    images = [image((64, 96), 5, 0), image((50, 70), 4, 1, ignore=True), image((64, 96), 0, 2)]
    images = [replace(each, scores=torch.linspace(0.3, 0.9, len(each))) for each in images[:2]] + images[2:]
    targets = targets_for(ours, *images, soft=soft, quality_power=quality_power)
    assert len(targets.cell) > 9
    assert (len(targets.weight.unique()) == 1) == (quality_power == 0)
    expected = plain_mask_loss(plain, targets)
    (2 * expected).backward()
    loss = solov2_loss(ours, targets)["mask"]
    (2 * loss).backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.kernels.grad, plain.kernels.grad, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(ours.features.grad, plain.features.grad, rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        torch.testing.assert_close(solov2_loss(ours, targets)["mask"], expected)


def test_what_lies_in_an_ignore_region_does_not_matter(make_raw):
    raw = trainable(make_raw())
    targets = targets_for(raw, image((64, 96), 4, 1, ignore=True))
    loss = solov2_loss(raw, targets)
    (loss["mask"] + loss["category"]).backward()
    assert not targets.valid[0].all()
    assert (raw.features.grad[0][:, ~targets.valid[0]] == 0).all()
    assert (raw.features.grad[0][:, targets.valid[0]] != 0).any()
    ignored = targets.category == -1
    assert ignored.any()
    assert (raw.category.grad[ignored] == 0).all()
    assert (raw.category.grad[~ignored] != 0).all()


# Focal


def test_focal_of_labels_is_focal_of_their_one_hot():
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn((2, 50, 4), generator=generator) * 8).requires_grad_()
    labels = torch.randint(-1, 5, (2, 50), generator=generator)
    one_hot = labels[..., None] == torch.arange(4)
    expected = focal_loss_sum(logits, one_hot, (labels >= 0).float()[..., None])
    out = focal_loss_of_labels(logits, labels)
    torch.testing.assert_close(out, expected)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (out, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_focal_is_finite_for_any_logit():
    logits = torch.tensor([[-1e4, 1e4], [1e4, -1e4]], requires_grad=True)
    out = focal_loss_of_labels(logits, torch.tensor([0, 2]))
    out.backward()
    assert torch.isfinite(out)
    assert torch.isfinite(logits.grad).all()


def test_class_0_is_a_class(make_raw):
    raw = trainable(make_raw(classes=1))
    objects = image((64, 96), 3, 0)
    objects = replace(objects, labels=torch.zeros(3, dtype=torch.int64))
    targets = targets_for(raw, objects)
    solov2_loss(raw, targets)["category"].backward()
    positive = targets.category[0] == 0
    assert positive.any()
    assert (raw.category.grad[0, positive, 0] < 0).all()
    assert (raw.category.grad[0, ~positive, 0] > 0).all()


# Edge


@pytest.mark.parametrize("shared", ["nearest", "all"])
def test_no_object_in_the_batch(make_raw, shared):
    raw = trainable(make_raw(batch=2))
    loss = solov2_loss(raw, targets_for(raw, image((64, 96), 0, 0), image((40, 40), 0, 0), shared=shared))
    assert loss["mask"].item() == 0
    assert loss["category"].item() > 0
    (loss["mask"] + loss["category"]).backward()
    assert (raw.kernels.grad == 0).all()
    assert (raw.features.grad == 0).all()
    assert (raw.category.grad != 0).all()


def test_an_empty_target_costs_1_and_stays_finite(make_raw):
    raw = trainable(make_raw())
    tiny = torch.zeros((1, 64, 96), dtype=torch.bool)
    tiny[0, 20, 20] = True
    one = Instances(size=(64, 96), labels=torch.zeros(1, dtype=torch.int64), masks=tiny)
    loss = solov2_loss(raw, targets_for(raw, one, shared="all"))["mask"]
    loss.backward()
    assert loss.item() == pytest.approx(3, rel=1e-5)
    assert torch.isfinite(raw.kernels.grad).all()


def test_gradient_step_lowers_the_loss(make_raw):
    raw = trainable(make_raw(batch=2))
    targets = targets_for(raw, image((64, 96), 5, 0), image((64, 64), 3, 1), soft=True)
    leaves = [raw.category, raw.kernels, raw.features]
    optimizer = torch.optim.Adam(leaves, 0.1)
    values = []
    for _ in range(30):
        loss = sum(solov2_loss(raw, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.3 * values[0]


def test_under_autocast_the_loss_is_float32(make_raw):
    raw = make_raw(batch=2)
    targets = targets_for(raw, image((64, 96), 5, 0), image((64, 96), 0, 1))
    expected = solov2_loss(raw, targets)
    half = replace(raw, kernels=raw.kernels.bfloat16(), features=raw.features.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        same, near = solov2_loss(raw, targets), solov2_loss(half, targets)
    for term in ("category", "mask"):
        assert same[term].dtype == near[term].dtype == torch.float32
        torch.testing.assert_close(same[term], expected[term])
        torch.testing.assert_close(near[term], expected[term], rtol=0.02, atol=0)


def test_paper_refiner_dice(parity) -> None:
    """1 - mean over classes and columns of 2 sum(p t) / (sum(p + t) + 1e-7); 255 counts as 0."""
    logits, labels = parity["refiner_dice/logits"], parity["refiner_dice/labels"]
    loss = paper_refiner_dice(logits, labels)
    torch.testing.assert_close(loss, parity["refiner_dice/out"].to(loss.dtype), rtol=1e-5, atol=1e-6)
    p = logits.softmax(1)
    t = torch.nn.functional.one_hot((labels == 1).long(), 2).movedim(3, 1).float()
    usual = 1 - (2 * (p * t).sum((0, 2, 3)) / ((p + t).sum((0, 2, 3)) + 1e-7)).mean()
    assert usual.item() == pytest.approx(0.520229, abs=1e-5)  # not the same thing
