"""wssis.evaluation.paired_bootstrap against pycocotools on data sets that really are resampled, and against
statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from wssis.data import rle as rle_api
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.evaluation.coco_ap import results_ap
from wssis.evaluation.paired_bootstrap import ApScores, MeanScores, ap_scores, compare, mean_of_classes

SIZE = (60, 80)


def box(x: int, y: int, w: int, h: int) -> dict:
    mask = torch.zeros((1, *SIZE), dtype=torch.bool)
    mask[0, y : y + h, x : x + w] = True
    return rle_api.encode(mask)[0]


def random_case(seed: int, images: int = 7, classes: int = 3):
    """Truth with crowds and images without objects; results with equal scores and wrong classes."""
    rng = np.random.default_rng(seed)
    records, results = [], []
    for image in range(images):
        objects = []
        for _ in range(int(rng.integers(0, 5))):
            x, y, w, h = (int(v) for v in (*rng.integers(0, 40, 2), *rng.integers(4, 20, 2)))
            label = int(rng.integers(classes))
            objects.append(Annotation(len(objects), label, box(x, y, w, h), crowd=bool(rng.random() < 0.15)))
            for _ in range(int(rng.integers(0, 3))):
                dx, dy = (int(v) for v in rng.integers(0, 4, 2))
                found = label if rng.random() < 0.8 else int(rng.integers(classes))
                results.append(
                    {
                        "image_id": 10 * image,
                        "category_id": found + 1,
                        "segmentation": box(x + dx, y + dy, w, h),
                        "bbox": [x + dx, y + dy, w, h],
                        "area": w * h,
                        "score": round(float(rng.random()), 1),  # many are equal
                    }
                )
        records.append(ImageRecord(10 * image, f"{image}.png", *SIZE, tuple(objects)))
    categories = tuple(Category(n + 1, f"c{n}") for n in range(classes))
    return CocoData(categories, tuple(records), "."), results


def resampled(truth: CocoData, results: list[dict], weights: list[int]):
    """The data set in which image i is there weights[i] times, its copies side by side."""
    images, copies = [], []
    for record, times in zip(truth.images, weights, strict=True):
        for copy in range(times):
            images.append(replace(record, id=record.id + copy))  # ids are tens: copies stay in place
            copies += [{**r, "image_id": record.id + copy} for r in results if r["image_id"] == record.id]
    return replace(truth, images=tuple(images)), copies


@pytest.mark.parametrize("seed", range(3))
def test_every_image_once_is_cocos_ap(seed: int) -> None:
    truth, results = random_case(seed)
    scores = ap_scores(truth, results)
    expected = results_ap(truth, results)["AP"]
    assert mean_of_classes(scores.by_class(np.ones(7))) == pytest.approx(expected, abs=1e-12)
    assert 0 < expected < 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [2, 100])
def test_weights_are_cocoeval_on_the_resampled_data_set(seed: int, most: int) -> None:
    truth, results = random_case(seed)
    weights = np.bincount(np.random.default_rng(seed).integers(7, size=7), minlength=7)
    assert weights.max() > 1
    assert weights.min() == 0
    expected = results_ap(*resampled(truth, results, weights.tolist()), most)["AP"]
    found = mean_of_classes(ap_scores(truth, results, most).by_class(weights.astype(float)))
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_class_that_no_drawn_image_shows_does_not_count() -> None:
    one, two = (Annotation(0, label, box(5, 5, 20, 20)) for label in (0, 1))
    categories = (Category(1, "a"), Category(2, "b"), Category(3, "c"))
    images = (ImageRecord(1, "1.png", *SIZE, (one,)), ImageRecord(2, "2.png", *SIZE, (two,)))
    truth = CocoData(categories, images, ".")
    hit = {"image_id": 1, "category_id": 1, "segmentation": box(5, 5, 20, 20), "score": 0.5}
    scores = ap_scores(truth, [{**hit, "bbox": [5, 5, 20, 20], "area": 400}])
    assert scores.by_class(np.ones(2)) == pytest.approx([1, 0, np.nan], nan_ok=True)
    assert scores.by_class(np.array([2.0, 0])) == pytest.approx([1, np.nan, np.nan], nan_ok=True)
    assert mean_of_classes(scores.by_class(np.array([2.0, 0]))) == 1
    # Resamples that show nothing at all are no resamples.
    nothing = replace(truth, images=tuple(replace(image, annotations=()) for image in images))
    empty = ap_scores(nothing, [])
    result = compare(empty, empty, 20)
    assert len(result.resampled) == 0
    assert np.isnan(result.gain)
    assert result.sure(0) == 0
    assert np.isnan(result.interval()).all()


def test_no_results_are_zero_and_a_point_only_is_refused() -> None:
    truth, _ = random_case(0)
    assert mean_of_classes(ap_scores(truth, []).by_class(np.ones(7))) == 0
    image = ImageRecord(1, "1.png", *SIZE, (Annotation(3, 0, point=(1.0, 1.0)),))
    with pytest.raises(InputError, match="annotation 3"):
        ap_scores(replace(truth, images=(image,)), [])


def test_means_are_over_objects_and_classes() -> None:
    scores = MeanScores(np.array([[1.0, 0], [1, 0.5]]), np.array([[1.0, 0], [3, 1]]))
    assert scores.images == 2
    assert scores.by_class(np.ones(2)).tolist() == [0.5, 0.5]
    assert scores.by_class(np.array([2.0, 0])) == pytest.approx([1, np.nan], nan_ok=True)
    assert mean_of_classes(np.array([1.0, np.nan])) == 1
    assert np.isnan(mean_of_classes(np.array([np.nan])))


def means(values: np.ndarray) -> MeanScores:
    """One object of one class an image."""
    return MeanScores(values[:, None], np.ones((len(values), 1)))


def test_a_small_gain_on_every_image_is_sure_though_images_differ_much() -> None:
    rng = np.random.default_rng(0)
    before = rng.random(50)
    result = compare(means(before + 0.01), means(before), 200)
    assert result.gain == pytest.approx(0.01)
    assert result.interval() == pytest.approx((0.01, 0.01))
    assert result.sure(0.005) == 1
    assert result.sure(0.015) == 0


def test_interval_and_sureness_are_those_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(1)
    before = rng.random(400)
    noise = rng.normal(0, 0.2, 400)
    noise += 0.01 - noise.mean()  # standard error 0.01: the gain is one of these
    noise = 0.01 + (noise - 0.01) * 0.2 / noise.std()
    result = compare(means(before + noise), means(before), 4000)
    low, high = result.interval()
    assert (low, high) == pytest.approx((0.01 - 1.96 * 0.01, 0.01 + 1.96 * 0.01), abs=0.002)
    assert result.sure(0) == pytest.approx(0.841, abs=0.03)


def test_the_same_model_gains_nothing_for_sure_and_seeds_repeat() -> None:
    truth, results = random_case(2)
    scores = ap_scores(truth, results)
    same = compare(scores, scores, 50)
    assert same.gain == 0
    assert same.sure(0) == 1
    assert same.interval() == (0, 0)
    other = ap_scores(truth, [r for r in results if r["score"] > 0.4])
    assert other.by_class(np.ones(7)).tolist() != scores.by_class(np.ones(7)).tolist()
    first, again = compare(scores, other, 50, seed=4), compare(scores, other, 50, seed=4)
    assert first.resampled.tolist() == again.resampled.tolist()
    assert first.resampled.tolist() != compare(scores, other, 50, seed=5).resampled.tolist()
    assert first.by_class == pytest.approx(
        scores.by_class(np.ones(7)) - other.by_class(np.ones(7)), nan_ok=True
    )


def test_other_images_cannot_be_compared() -> None:
    scores = ApScores(3, (), np.zeros(1))
    with pytest.raises(ValueError, match="3 images of one, 2 of the other"):
        compare(scores, means(np.zeros(2)), 10)
