"""wssis.data.synthetic: deterministic, consistent, of all classes and sizes."""

from __future__ import annotations

import numpy as np
import pytest

from wssis.data.coco import load_coco
from wssis.data.images import read_image
from wssis.data.synthetic import CLASSES, MIN_VISIBLE, draw_scene, generate


def scenes(count, size=96):
    return [draw_scene(np.random.default_rng([7, number]), size) for number in range(count)]


@pytest.fixture(scope="module")
def drawn():
    return scenes(300)


def test_same_seed_same_bytes_and_more_scenes_leave_the_first_as_they_are(tmp_path):
    for name, seed, count in (("a", 1, 3), ("b", 1, 4), ("c", 2, 3)):
        generate(tmp_path / name, seed, n_train=count, n_val=2)

    def read(name, split, number):
        return (tmp_path / name / split / f"{number:05d}.png").read_bytes()

    assert read("a", "train", 2) == read("b", "train", 2)
    assert read("a", "train", 2) != read("c", "train", 2)
    assert read("a", "train", 0) != read("a", "val", 0)
    assert (tmp_path / "a" / "val.json").read_text() == (tmp_path / "b" / "val.json").read_text().replace(
        str(tmp_path / "b"), str(tmp_path / "a")
    )


def test_the_written_files_are_the_returned_data(tmp_path):
    train, val = generate(tmp_path, 3, n_train=4, n_val=3)
    assert len(train.images) == 4
    assert len(val.images) == 3
    assert train.class_names == CLASSES
    for data, name in ((train, "train.json"), (val, "val.json")):
        loaded = load_coco(tmp_path / name)
        assert [im.file_name for im in loaded.images] == [im.file_name for im in data.images]
        for record, same in zip(loaded.images, data.images, strict=True):
            assert read_image(loaded.image_dir, record.file_name, record.size).shape == (3, 96, 96)
            assert [(a.id, a.label, a.rle) for a in record.annotations] == [
                (a.id, a.label, a.rle) for a in same.annotations
            ]


def test_masks_are_visible_parts_that_never_overlap(drawn):
    overlapped = 0
    for scene in drawn[:60]:
        assert scene.masks.shape == (len(scene.labels), 96, 96)
        assert (scene.masks.sum(0) <= 1).all()
        assert (scene.masks.sum((1, 2)) >= MIN_VISIBLE).all()
        assert len(scene.labels) <= 6
        overlapped += len(scene.labels) > 1
    assert overlapped > 20  # else the first assertion says nothing


def test_all_classes_many_sizes_and_a_few_empty_scenes(drawn):
    labels = np.concatenate([scene.labels for scene in drawn])
    sides = np.sqrt(np.concatenate([scene.masks.sum((1, 2)) for scene in drawn]))
    shares = np.bincount(labels.astype(int), minlength=len(CLASSES)) / len(labels)
    assert shares.min() > 0.18
    assert (sides < 13).mean() > 0.15
    assert (sides > 30).mean() > 0.05
    assert 2 <= sum(not scene.labels for scene in drawn) <= 20


def test_mean_color_says_nothing_about_the_class(drawn):
    colors = [[] for _ in CLASSES]
    for scene in drawn:
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            colors[label].append(scene.image[mask].mean(0))
    spread = np.concatenate(colors).std(0)
    means = np.stack([np.mean(c, 0) for c in colors])
    assert (np.ptp(means, axis=0) < 0.5 * spread).all()


@pytest.mark.parametrize("size", [32, 160])
def test_other_sizes(size):
    assert all(scene.image.shape == (size, size, 3) for scene in scenes(10, size))
