"""Training SOLOv2: it repeats bit for bit, it learns, and no legal image stops it."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from wssis.instances import Instances
from wssis.models.solov2 import SOLOv2
from wssis.settings import AugmentSettings, MixSettings, ResizeSettings, SOLOv2Settings, TrainSettings
from wssis.training.losses import solov2_loss
from wssis.training.solov2 import SOLOv2Objective, solov2_batch_loss, take_weights, train_solov2
from wssis.training.target_assignment import assign

MODEL = SOLOv2Settings(
    pretrained=False,
    frozen_stages=0,
    strides=(4, 8, 16),
    sources=(0, 1, 2),
    fpn_channels=16,
    head_channels=16,
    mask_channels=8,
)
PAPER = replace(MODEL, cells=(), grids=(12, 8, 6), parity=True)
STILL = AugmentSettings(crop=0, scale=(1.0, 1.0), flips="none", brightness=0, contrast=0, saturation=0)
RESIZE = ResizeSettings()
SHORT = TrainSettings(iterations=3, batch_size=2, warmup=0)
ONE_OBJECT = {"objects": [(1, (16, 16, 44, 40))]}


def train(*sources, model=MODEL, augment=None, settings=SHORT, seed=0, **options):
    steps = []
    augment = augment or AugmentSettings(crop=64)
    result = train_solov2(
        sources, model, RESIZE, augment, settings, seed, on_step=lambda p: steps.append(p.losses), **options
    )
    return result, steps


def network(num_classes=3, settings=MODEL) -> SOLOv2:
    torch.manual_seed(0)
    return SOLOv2(settings, num_classes).train()


def batch(*items: Instances):
    generator = torch.Generator().manual_seed(0)
    pictures = [torch.randint(0, 255, (3, *i.size), generator=generator, dtype=torch.uint8) for i in items]
    return pictures, list(items), list(range(len(items)))


def same_weights(a, b) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


def test_one_seed_gives_one_network_bit_for_bit(paint) -> None:
    data = paint(ONE_OBJECT, {"objects": [(0, (2, 2, 20, 20)), (2, (30, 30, 60, 60))]}, {})
    (first, steps), (second, again) = (train(data, seed=7) for _ in range(2))
    assert same_weights(first.model, second.model)
    assert steps == again
    other, _ = train(data, seed=8)
    assert not same_weights(first.model, other.model)


def test_processes_that_load_images_change_nothing(paint) -> None:
    data = paint(ONE_OBJECT, {"size": (80, 50)})
    (alone, _), (helped, _) = (train(data, settings=replace(SHORT, workers=workers)) for workers in (0, 2))
    assert same_weights(alone.model, helped.model)


@pytest.mark.parametrize("model", [MODEL, PAPER], ids=["default", "paper"])
def test_the_loss_falls_on_one_image(paint, model) -> None:
    data = paint({"objects": [(1, (16, 16, 44, 40)), (0, (2, 46, 30, 62))]})
    settings = TrainSettings(iterations=40, batch_size=2, warmup=2, learning_rate=5e-3)
    _, steps = train(data, model=model, augment=STILL, settings=settings)
    assert steps[-1]["loss"] < 0.5 * steps[0]["loss"]
    assert steps[-1]["mask"] < 0.5 * steps[0]["mask"]
    assert steps[-1]["category"] < 0.5 * steps[0]["category"]


@pytest.mark.parametrize("model", [MODEL, PAPER], ids=["default", "paper"])
def test_batches_with_no_object_at_all(paint, model) -> None:
    result, steps = train(paint({}, {"size": (40, 70)}), model=model)
    assert len(steps) == 3
    assert all(step["mask"] == 0 for step in steps)
    assert all(step["category"] > 0 for step in steps)
    assert all(value.isfinite().all() for value in result.model.state_dict().values())


@pytest.mark.parametrize("model", [MODEL, PAPER], ids=["default", "paper"])
def test_all_parameters_have_a_gradient_whatever_the_batch(model) -> None:
    """Also without objects: else distributed training waits for a gradient that never comes."""
    for items in ([Instances.empty((64, 64))] * 2, [Instances.empty((33, 20)), Instances.empty((64, 90))]):
        net = network(settings=model)
        sum(solov2_batch_loss(net, batch(*items)).values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_one_class_and_class_0(paint) -> None:
    result, steps = train(paint({"objects": [(0, (10, 10, 40, 40))]}, classes=1), augment=STILL)
    assert result.model.num_classes == 1
    assert all(step["mask"] > 0 for step in steps)


def test_369_objects_and_mixed_sizes(boxes) -> None:
    places = [(x, y, x + 10, y + 9) for y in range(2, 248, 12) for x in range(2, 238, 12)][:369]
    crowd = Instances((250, 240), torch.arange(369) % 3, masks=boxes((250, 240), *places))
    net = network()
    losses = solov2_batch_loss(net, batch(crowd, Instances.empty((40, 50))))
    sum(losses.values()).backward()
    assert losses["mask"] > 0
    assert all(p.grad.isfinite().all() for p in net.parameters())


class Refused(TorchDispatchMode):
    """Operations that would make the host wait for a GPU are an error."""

    names = ("_local_scalar_dense", "nonzero", "bincount", "_unique2", "masked_select", "equal")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in self.names
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("shared", ["nearest", "all"])
def test_the_loss_never_waits_for_a_gpu(boxes, shared) -> None:
    """No GPU is needed to see it: nothing in it reads a value back, targets are made before."""
    net = network()
    raw = net(net.preprocess([torch.zeros((3, 64, 64), dtype=torch.uint8)] * 2))
    objects = Instances((64, 64), torch.tensor([0, 1]), masks=boxes((64, 64), (3, 3, 30, 30), (9, 9, 60, 50)))
    given = [replace(objects, ignore=torch.ones((64, 64), dtype=torch.bool)), Instances.empty((64, 64))]
    small = (raw.features.shape[2], raw.features.shape[3])
    targets = assign(given, raw.grids, MODEL.ranges, (64, 64), small, 3, shared=shared)
    assert targets.per_image == (len(targets.cell), 0)
    with Refused():
        sum(solov2_loss(raw, targets.to("cpu")).values()).backward()
    assert any(p.grad is not None for p in net.parameters())


def test_bf16_is_off_on_a_cpu_and_near_where_it_is_on(boxes) -> None:
    item = Instances((64, 64), torch.tensor([1]), masks=boxes((64, 64), (10, 10, 40, 40)))
    ways = ({}, {"bf16": False}, {"bf16": True})
    usual, off, on = (solov2_batch_loss(network(), batch(item), **options) for options in ways)
    for name, value in usual.items():
        assert torch.equal(value, off[name])
        assert on[name].dtype == torch.float32
        assert on[name] != value
        torch.testing.assert_close(on[name], value, rtol=0.1, atol=0.05)
    sum(on.values()).backward()


def gradients(item: Instances) -> tuple[torch.Tensor, torch.Tensor, SOLOv2]:
    """Gradient of the loss of one image by class logits (T, K) and by mask features (C, Hm, Wm)."""
    net, seen = network(), []
    net.register_forward_hook(lambda module, given, raw: seen.append(raw))
    losses = solov2_batch_loss(net, batch(item))
    raw = seen[0]
    assert raw.grids == ((16, 16), (8, 8), (4, 4))
    category, features = torch.autograd.grad(sum(losses.values()), [raw.category, raw.features])
    return category[0], features[0], net


def test_an_ignore_region_gives_no_loss(boxes) -> None:
    """The right half is unknown: nothing said there costs anything, on cells and on mask pixels."""
    labels, masks = torch.tensor([1]), boxes((64, 64), (4, 4, 28, 28))
    known = Instances((64, 64), labels, masks=masks)
    right = boxes((64, 64), (32, 0, 64, 64))[0]
    for item, zero in ((known, False), (replace(known, ignore=right), True)):
        category, features, _ = gradients(item)
        cells = [
            c.view(rows, rows, 3) for c, rows in zip(category.split([256, 64, 16]), (16, 8, 4), strict=True)
        ]
        for grid in cells:
            half = grid.shape[1] // 2
            assert (grid[:, half:] == 0).all() == zero
            assert (grid[:, :half] != 0).all()
        assert (features[:, :, 8:] == 0).all() == zero
        assert (features[:, :, :7] != 0).any()


def test_an_object_in_an_ignore_region_is_learnt_all_the_same(boxes) -> None:
    """A crowd's region often lies under drawn objects of its own."""
    item = Instances(
        (64, 64),
        torch.tensor([1]),
        masks=boxes((64, 64), (8, 8, 40, 40)),
        ignore=torch.ones((64, 64), dtype=torch.bool),
    )
    category, features, _ = gradients(item)
    positive = (category != 0).any(1)
    assert 0 < positive.sum() < 20
    assert (features[:, 3:9, 3:9] != 0).any()
    assert (features[:, 11:, 11:] == 0).all()


def test_an_image_that_is_ignored_whole_teaches_nothing() -> None:
    whole = replace(Instances.empty((64, 64)), ignore=torch.ones((64, 64), dtype=torch.bool))
    category, features, net = gradients(whole)
    assert category.eq(0).all()
    assert features.eq(0).all()
    sum(solov2_batch_loss(net, batch(whole, whole)).values()).backward()
    assert all(p.grad.eq(0).all() for p in net.parameters())


def test_the_student_does_not_see_what_is_ignored(paint) -> None:
    """An unlabeled object beside a labeled one: as background it is unlearnt, as an ignore region not."""
    strong = paint(ONE_OBJECT)
    hidden = {"objects": [(1, (4, 4, 30, 30))], "ignore": [(34, 34, 62, 62)]}
    weak = paint(hidden, first_id=2)
    bare = replace(weak, images=(replace(weak.images[0], annotations=weak.images[0].annotations[:1]),))
    losses = [train(strong, source, augment=STILL)[1][0]["category"] for source in (weak, bare)]
    assert losses[0] < losses[1]


def test_a_batch_has_its_share_of_drawn_images(paint, monkeypatch) -> None:
    strong, weak = paint(ONE_OBJECT), paint(ONE_OBJECT, {}, first_id=5)
    shown = []

    prepare = SOLOv2Objective.prepare

    def spy(objective, model, given):
        shown.extend(given[2])
        return prepare(objective, model, given)

    monkeypatch.setattr(SOLOv2Objective, "prepare", spy)
    settings = replace(SHORT, iterations=5)
    train(strong, guessed=[weak], mix=MixSettings(0.6), settings=settings)
    assert sorted(shown) == [1] * 6 + [5] * 2 + [6] * 2
    shown.clear()
    train(strong, guessed=[weak], settings=replace(SHORT, iterations=3))  # each image as often as any other
    assert sorted(shown) == [1, 1, 5, 5, 6, 6]


def test_a_training_starts_from_the_weights_that_it_is_given(paint) -> None:
    data, initial = paint(ONE_OBJECT), network()
    initial.head.category.bias.data.fill_(0.25)
    still = replace(SHORT, learning_rate=1e-12, weight_decay=0.0, iterations=1, norms="frozen")
    told: list[list[str]] = []
    (result, _), (other, _) = (
        train(data, settings=still, initial=start, on_start=told.append, seed=5) for start in (initial, None)
    )
    assert told == [[]]
    ours, given = result.model.state_dict(), initial.state_dict()
    for name in given:
        assert torch.allclose(ours[name].float(), given[name].float(), atol=1e-6), name
    assert not same_weights(other.model, initial)
    assert initial.training  # and is left as it was
    assert float(initial.head.category.bias.detach().max()) == 0.25


@pytest.mark.parametrize(
    ("change", "unfitting"),
    [
        ({"cells": (), "grids": (12, 8, 6)}, ()),  # levels have no weights of their own
        ({"mask_channels": 4}, ("head.kernel.", "masks.out.")),
        ({"parity": True}, ("head.position.", "masks.")),
        ({"strides": (4, 8), "sources": (0, 1, 1)}, ("masks.", "backbone.", "fpn.")),
    ],
)
def test_weights_that_do_not_fit_are_left_out_and_named(change: dict, unfitting: tuple[str, ...]) -> None:
    model, teacher = network(settings=MODEL), network(settings=replace(MODEL, **change))
    for parameter in teacher.parameters():
        parameter.data.fill_(0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept = take_weights(model, teacher)
    assert {name for name in before if name.startswith(unfitting or "-")} >= set(kept)
    assert bool(kept) == bool(unfitting)
    given = teacher.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] if name in kept else given[name]), name


def test_snapshots_are_kept_even_where_they_fall_on_one_step(paint) -> None:
    result, _ = train(paint(ONE_OBJECT), settings=replace(SHORT, iterations=1), snapshots=(0.5, 0.833))
    assert set(result.snapshots) == {0.5, 0.833}
    assert same_weights(result.snapshots[0.5], result.model)
    assert not result.model.training
