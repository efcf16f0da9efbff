"""Training samples: fixed by seed, position and image alone; an order in which no image is left out."""

from dataclasses import replace

import pytest
import torch

from wssis.data import dataset
from wssis.data.dataset import ShuffledPositions, TrainingImages, collate, training_loader
from wssis.data.images import read_image
from wssis.data.transforms import TrainTransform
from wssis.errors import InputError
from wssis.settings import AugmentSettings, ResizeSettings

TRANSFORM = TrainTransform(ResizeSettings(), AugmentSettings(crop=48))


def order(sampler: ShuffledPositions) -> list[tuple[int, int]]:
    return [key for batch in sampler for key in batch]


def order_of(count: int, batch_size: int, iterations: int, seed: int = 3, **options) -> ShuffledPositions:
    return ShuffledPositions(count, batch_size, iterations, seed, **options)


def samples(loader) -> list:
    return [sample for batch in loader for sample in zip(*batch, strict=True)]


@pytest.fixture
def images(paint) -> TrainingImages:
    first = paint(
        {"objects": [(0, (4, 4, 30, 30))]}, {"size": (40, 70), "objects": [(2, (40, 10, 60, 30))]}, {}
    )
    second = paint(
        {"size": (90, 80), "objects": [(1, (20, 20, 60, 70))], "ignore": [(0, 0, 80, 10)]}, first_id=9
    )
    return TrainingImages([first, second], TRANSFORM, seed=3)


def equal(a, b) -> bool:
    same = a[2] == b[2] and a[0].shape == b[0].shape and torch.equal(a[0], b[0])
    return same and torch.equal(a[1].masks, b[1].masks) and torch.equal(a[1].labels, b[1].labels)


def test_a_sample_depends_on_seed_position_and_image_alone(images) -> None:
    torch.manual_seed(0)
    wanted = [images[(position, position % 4)] for position in range(12)]
    torch.manual_seed(1)
    again = [images[(position, position % 4)] for position in reversed(range(12))][::-1]
    assert all(equal(a, b) for a, b in zip(wanted, again, strict=True))
    assert not any(equal(a, b) for a, b in zip(wanted[:4], wanted[4:8], strict=True))
    images.seed = 4
    assert not any(equal(images[(p, p % 4)], wanted[p]) for p in range(12))


def test_keeping_images_in_memory_changes_nothing(images, monkeypatch) -> None:
    wanted = [images[(position, position % 4)] for position in range(16)]
    monkeypatch.setattr(dataset, "KEEP_BYTES", 0)
    forgetful = TrainingImages([], TRANSFORM, seed=3)
    forgetful.items = images.items
    again = [forgetful[(position, position % 4)] for position in range(16)]
    assert not forgetful._kept
    assert len(images._kept) == 4
    assert all(equal(a, b) for a, b in zip(wanted, again, strict=True))


def test_a_sample_is_the_transform_of_the_whole_image(images) -> None:
    for position in range(16):
        image_dir, record = images.items[position % 4]
        torch.manual_seed(3 * 1_000_003 + position)
        picture, objects = TRANSFORM(read_image(image_dir, record.file_name), record.instances())
        sample = images[(position, position % 4)]
        assert equal((picture, objects, record.id), sample)
        assert (objects.ignore is None) == (sample[1].ignore is None)
        assert objects.ignore is None or torch.equal(objects.ignore, sample[1].ignore)


def test_reading_a_sample_leaves_the_global_random_state_alone(images) -> None:
    torch.manual_seed(0)
    untouched = torch.rand(3)
    torch.manual_seed(0)
    _ = images[(5, 1)]
    assert torch.equal(torch.rand(3), untouched)


def test_sources_follow_one_another(images) -> None:
    assert len(images) == 4
    samples = [images[(0, index)] for index in range(4)]
    assert [sample[2] for sample in samples] == [1, 2, 3, 9]
    assert [sample[1].ignore is not None for sample in samples] == [False, False, False, True]
    assert len(samples[2][1]) == 0


def test_labels_are_those_of_the_objects(images) -> None:
    """The painted color of an object says its class: 0 red, 1 green, 2 blue."""
    checked = set()
    for position in range(30):
        image, instances, _ = images[(position, position % 4)]
        for mask, label in zip(instances.masks, instances.labels.tolist(), strict=True):
            if mask.sum() > 100:
                color = image[:, mask].float().mean(1)
                assert color.argmax() == label
                checked.add(label)
    assert checked == {0, 1, 2}


def test_processes_change_nothing(images) -> None:
    alone, helped = (samples(training_loader(images, order_of(4, 3, 4), workers)) for workers in (0, 2))
    assert len(alone) == 12
    assert all(equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_a_resumed_loader_goes_on_with_the_same_samples(images) -> None:
    mix = {"drawn": 3, "drawn_share": 0.4}
    whole = samples(training_loader(images, order_of(4, 3, 6, **mix)))
    rest = samples(training_loader(images, order_of(4, 3, 6, start=4, **mix)))
    assert len(rest) == 6
    assert all(equal(a, b) for a, b in zip(whole[12:], rest, strict=True))


def test_an_image_that_is_gone_is_named(paint, tmp_path) -> None:
    images = TrainingImages([paint({})], TRANSFORM, 0)
    (tmp_path / "1.png").unlink()
    with pytest.raises(InputError, match=r"1\.png"):
        images[(0, 0)]


@pytest.mark.parametrize("start_method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_an_error_is_the_same_from_another_process(paint, tmp_path, start_method: str) -> None:
    images = TrainingImages([paint({}, {})], TRANSFORM, 0)
    (tmp_path / "2.png").unlink()
    told = []
    for workers in (0, 1):
        loader = training_loader(images, order_of(2, 2, 1), workers)
        loader.multiprocessing_context = start_method if workers else None
        with pytest.raises(InputError) as caught:
            next(iter(loader))
        told.append((str(caught.value), vars(caught.value)))
    assert told[0] == told[1]
    assert told[0][1]["where"].endswith("2.png")


def test_processes_share_the_room_for_images(images, monkeypatch) -> None:
    monkeypatch.setattr(dataset, "world", lambda: 2)
    for workers, parts in ((0, 2), (1, 2), (2, 4)):
        training_loader(images, order_of(4, 3, 4), workers)
        assert images.room == dataset.KEEP_BYTES // parts


def test_collate_keeps_sizes(images) -> None:
    pictures, instances, ids = collate([images[(0, 0)], images[(1, 1)]])
    assert ids == [1, 2]
    assert [tuple(p.shape[1:]) for p in pictures] == [i.size for i in instances]
    assert pictures[0].shape != pictures[1].shape


@pytest.mark.parametrize("batch_size", [1, 4, 7, 25])
def test_every_pass_shows_every_image_once(batch_size: int) -> None:
    keys = order(order_of(10, batch_size, 20))
    assert [position for position, _ in keys] == list(range(20 * batch_size))
    assert_passes([index for _, index in keys], range(10))


def assert_passes(shown: list[int], images: range) -> None:
    """Pass after pass every image once, in more than one order."""
    size = len(images)
    passes = [shown[i : i + size] for i in range(0, len(shown) // size * size, size)]
    assert all(sorted(one) == list(images) for one in passes)
    assert len(passes) < 2 or len(set(map(tuple, passes))) > 1


@pytest.mark.parametrize("share", [0.05, 0.25, 0.4, 0.5, 0.6, 0.99])
@pytest.mark.parametrize(("drawn", "count"), [(4, 44), (30, 33), (1, 2)])
def test_the_drawn_share_of_samples_is_the_same_whatever_the_counts(
    share: float, drawn: int, count: int
) -> None:
    keys = order(order_of(count, 8, 100, drawn=drawn, drawn_share=share))
    assert [position for position, _ in keys] == list(range(800))
    is_drawn = [index < drawn for _, index in keys]
    assert sum(is_drawn) == pytest.approx(share * 800, abs=1)
    for start in range(0, 800, 8):  # no batch has more or fewer than the share but for rounding
        assert abs(sum(is_drawn[start : start + 8]) - 8 * share) <= 1
    if drawn > 1:
        assert_passes([index for _, index in keys if index < drawn], range(drawn))
        assert_passes([index for _, index in keys if index >= drawn], range(drawn, count))


@pytest.mark.parametrize("drawn", [0, 10])
def test_a_share_means_nothing_where_all_images_are_of_one_kind(drawn: int) -> None:
    assert order(order_of(10, 4, 9, drawn=drawn, drawn_share=0.4)) == order(order_of(10, 4, 9))


def test_the_end_of_the_training_sees_drawn_images_only() -> None:
    keys = order(order_of(10, 4, 20, drawn=3, drawn_share=0.4, drawn_end=0.25))
    assert keys[: 15 * 4] == order(order_of(10, 4, 20, drawn=3, drawn_share=0.4))[: 15 * 4]
    assert all(index < 3 for _, index in keys[15 * 4 :])
    assert_passes([index for _, index in keys if index < 3], range(3))


def test_without_a_share_drawn_images_are_as_frequent_as_others() -> None:
    assert order(order_of(10, 4, 9, drawn=3)) == order(order_of(10, 4, 9))


@pytest.mark.parametrize("start", [0, 1, 5, 11, 12])
@pytest.mark.parametrize("mix", [{}, {"drawn": 3, "drawn_share": 0.3, "drawn_end": 0.2}])
def test_start_resumes_where_the_whole_would_be(start: int, mix: dict) -> None:
    """Also from the middle of a pass: 3 batches of 4 are not a multiple of 10 samples."""
    whole = list(order_of(10, 4, 12, **mix))
    rest = order_of(10, 4, 12, start=start, **mix)
    assert list(rest) == whole[start:]
    assert len(rest) == 12 - start
    assert list(rest) == whole[start:]  # a second time the same


def test_two_parts_of_a_batch_are_the_batch() -> None:
    mix = {"drawn": 3, "drawn_share": 0.4}
    parts = list(order_of(10, 8, 5, accumulate=2, **mix))
    whole = list(order_of(10, 8, 5, **mix))
    assert [sorted(parts[i] + parts[i + 1]) for i in range(0, 10, 2)] == [sorted(batch) for batch in whole]


def test_the_seed_decides_the_order() -> None:
    first, same, other = (order(order_of(20, 4, 5, seed)) for seed in (1, 1, 2))
    assert first == same != other


def test_drawn_objects_are_pasted_in_front(paint) -> None:
    drawn = paint({"objects": [(2, (4, 4, 30, 30))]})
    weak = paint({"objects": [(0, (10, 10, 50, 50))], "ignore": [(0, 0, 60, 8)]}, {}, first_id=5)
    plain = TrainingImages([drawn, weak], TRANSFORM, seed=3, drawn=1)
    transform = TrainTransform(ResizeSettings(), AugmentSettings(crop=48, paste=2.0))
    pasting = TrainingImages([drawn, weak], transform, seed=3, drawn=1)
    for position in range(12):
        key = (position, 1 + position % 2)
        (_, before, _), (picture, after, _) = plain[key], pasting[key]
        pasted = after.get_masks()[after.labels == 2]  # (N, H, W), no weak object has class 2
        assert 1 <= len(pasted) <= 2
        kept = after.get_masks()[after.labels != 2].any(0)
        assert not (kept & pasted.any(0)).any()
        assert torch.equal(kept | pasted.any(0), kept | pasted.any(0) | before.get_masks().any(0))
        assert torch.equal(after.get_scores()[after.labels == 2], torch.ones(len(pasted)))
        assert picture.shape[1:] == after.size
        if after.ignore is not None:
            assert not (after.ignore & pasted.any(0)).any()


def test_masks_carry_the_quality_of_their_labels(paint) -> None:
    data = paint({"objects": [(0, (4, 4, 30, 30)), (1, (34, 4, 60, 30))]})
    record = data.images[0]
    judged = replace(record.annotations[1], extra={"quality": 0.25})
    data = replace(data, images=(replace(record, annotations=(record.annotations[0], judged)),))
    _, objects, _ = TrainingImages([data], TrainTransform(ResizeSettings(), AugmentSettings(crop=0)), 0)[0, 0]
    assert dict(zip(objects.labels.tolist(), objects.get_scores().tolist(), strict=True)) == {0: 1.0, 1: 0.25}
