"""wssis.evaluation.coco_ap against pycocotools' own summary, and at the edges."""

from __future__ import annotations

import contextlib
import io
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from wssis.data import rle as rle_api
from wssis.data.coco import save_coco
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.evaluation import coco_ap as metrics
from wssis.evaluation.coco_ap import AP_KEYS, ap_by_class, coco_ap, results_ap, to_coco_results
from wssis.instances import Instances
from wssis.ops.masks import mask_iou

SIZE = (120, 160)


def box_mask(x, y, w, h):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[y : y + h, x : x + w] = True
    return mask


def data_of(*images, classes=2):
    """images: lists of (label, mask) or (label, mask, fields)."""
    records, number = [], 0  # annotation ids from 0: COCOeval would take a match with it for none
    for index, objects in enumerate(images):
        annotations = []
        for label, mask, *fields in objects:
            annotations.append(
                replace(Annotation(number, label, rle_api.encode(mask[None])[0]), **(fields or [{}])[0])
            )
            number += 1
        records.append(ImageRecord(index, f"{index}.png", *SIZE, tuple(annotations)))
    categories = tuple(Category(3 * label, f"c{label}") for label in range(classes))
    return CocoData(categories, tuple(records), ".")


def found(*objects):
    """objects: (label, mask, score)."""
    if not objects:
        return Instances.empty(SIZE)
    labels, masks, scores = zip(*objects, strict=True)
    return Instances(
        SIZE, torch.tensor(labels), masks=torch.stack(masks), scores=torch.tensor(scores, dtype=torch.float32)
    )


def random_case(seed, images=6, classes=3):
    rng = np.random.default_rng(seed)
    truth, predictions = [], {}
    for index in range(images):
        objects, guesses = [], []
        for _ in range(int(rng.integers(0, 6))):
            x, y = int(rng.integers(0, 90)), int(rng.integers(0, 60))
            w, h, label = int(rng.integers(4, 70)), int(rng.integers(4, 60)), int(rng.integers(classes))
            fields = {"crowd": True} if rng.random() < 0.1 else {}
            objects.append((label, box_mask(x, y, w, h), fields))
            for _ in range(int(rng.integers(0, 3))):
                dx, dy = int(rng.integers(0, 6)), int(rng.integers(0, 4))
                other = label if rng.random() < 0.8 else int(rng.integers(classes))
                guesses.append((other, box_mask(x + dx, y + dy, w, h), float(rng.random())))
        truth.append(objects)
        predictions[index] = found(*guesses)
    return data_of(*truth, classes=classes), predictions


@pytest.mark.parametrize("seed", range(4))
def test_equals_cocoeval_summarize_on_files(tmp_path, seed):
    truth, predictions = random_case(seed)
    # COCOeval takes annotation id 0 for "no match"; the file for the comparison counts from 1.
    shifted = replace(
        truth,
        images=tuple(
            replace(im, annotations=tuple(replace(a, id=a.id + 1) for a in im.annotations))
            for im in truth.images
        ),
    )
    save_coco(shifted, tmp_path / "truth.json")
    results = [r for key, value in predictions.items() for r in to_coco_results(value, key, truth.categories)]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = coco_ap(truth, predictions)
    assert list(ours) == list(AP_KEYS)
    assert list(ours.values()) == pytest.approx(list(evaluation.stats[:6]), abs=1e-12)
    assert 0 < ours["AP"] < 1
    assert results_ap(truth, results) == ours


class Record(dict):
    """A result of which it is known whether somebody has it."""

    __hash__ = object.__hash__


@pytest.mark.parametrize("images", [1, 2, 3, 64])
@pytest.mark.parametrize("order", [1, -1])
def test_a_few_images_at_a_time_give_the_same_numbers(images, order, monkeypatch):
    truth, predictions = random_case(1, images=40)
    results = [to_coco_results(found, i, truth.categories) for i, found in predictions.items() if i != 2]
    expected = ap_by_class(truth, [record for of_image in results for record in of_image])
    held, counts = weakref.WeakSet(), []

    def read():
        for of_image in results[::order]:
            for record in of_image:
                held.add(own := Record(record))
                yield own
                counts.append(len(held))

    monkeypatch.setattr(metrics, "IMAGES", images)
    assert ap_by_class(truth, read()) == expected
    assert max(counts) <= 2 * images * max(map(len, results))


def test_results_of_an_image_follow_one_another():
    truth, predictions = random_case(0)
    results = [r for i, found in predictions.items() for r in to_coco_results(found, i, truth.categories)]
    with pytest.raises(ValueError, match="one after another"):
        results_ap(truth, [*results, results[0]])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most", [2, 100, 400])
def test_the_faster_backend_gives_the_same_numbers(seed, most):
    pytest.importorskip("faster_coco_eval")
    truth, predictions = random_case(seed)
    results = [r for i, found in predictions.items() for r in to_coco_results(found, i, truth.categories)]
    usual, classes = ap_by_class(truth, results, most)
    faster, of_classes = ap_by_class(truth, results, most, "faster")
    assert faster == pytest.approx(usual, abs=1e-12)
    for name, scores in classes.items():
        assert of_classes[name] == pytest.approx(scores, abs=1e-12)


def test_the_faster_backend_knows_crowds_and_images_without_anything():
    pytest.importorskip("faster_coco_eval")
    crowd = (0, box_mask(0, 0, 80, 80), {"crowd": True})
    truth = data_of([(0, box_mask(90, 5, 20, 20)), crowd], [], [(1, box_mask(3, 3, 9, 9))])
    guesses = found((0, box_mask(5, 5, 20, 20), 0.9), (0, box_mask(90, 5, 20, 18), 0.8))
    for predictions in ({0: guesses}, {}):
        results = [r for i, item in predictions.items() for r in to_coco_results(item, i, truth.categories)]
        usual = results_ap(truth, results)
        assert results_ap(truth, results, backend="faster") == pytest.approx(usual, abs=1e-12)
    empty = data_of([], [])
    assert results_ap(empty, [], backend="faster") == results_ap(empty, [])


def test_a_backend_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(InputError, match=r"faster-coco-eval.*pip install"):
        results_ap(data_of([]), [], backend="faster")


def test_perfect_predictions_of_one_class_that_is_class_0():
    masks = [box_mask(5, 5, 20, 20), box_mask(60, 40, 50, 50)]
    truth = data_of([(0, masks[0]), (0, masks[1])], [], classes=1)
    ap = coco_ap(truth, {0: found((0, masks[0], 0.9), (0, masks[1], 0.8))})
    expected = {"AP": 1, "AP50": 1, "AP75": 1, "AP_small": 1, "AP_medium": 1, "AP_large": -1}
    assert ap == pytest.approx(expected)


def test_no_prediction_is_zero_and_no_truth_is_minus_one():
    mask = box_mask(5, 5, 20, 20)
    truth = data_of([(1, mask)])
    assert coco_ap(truth, {})["AP"] == 0
    assert coco_ap(truth, {0: Instances.empty(SIZE)})["AP"] == 0
    assert coco_ap(data_of([]), {0: found((0, mask, 0.5))})["AP"] == -1
    assert coco_ap(data_of(), {})["AP"] == -1


def test_wrong_class_finds_nothing():
    mask = box_mask(5, 5, 20, 20)
    assert coco_ap(data_of([(1, mask)]), {0: found((0, mask, 0.9))})["AP"] == 0


@pytest.mark.parametrize("fields", [{"crowd": True}, {"extra": {"ignore": True}}])
def test_crowds_and_ignore_regions_neither_count_nor_cost(fields):
    mask, region = box_mask(5, 5, 20, 20), box_mask(60, 20, 60, 60)
    truth = data_of([(0, mask), (0, region, fields)])
    inside = found((0, mask, 0.5), (0, box_mask(70, 30, 20, 20), 0.9), (0, box_mask(90, 50, 9, 9), 0.8))
    assert coco_ap(truth, {0: inside})["AP"] == pytest.approx(1)
    assert coco_ap(data_of([(0, mask)]), {0: inside})["AP"] < 0.5


@pytest.mark.parametrize("most", [1, 2, 10, 100, 300])
def test_max_detections_limits_what_counts(most):
    masks = [box_mask(4 * i, 4 * i, 20, 20) for i in range(4)]
    truth = data_of([(0, mask) for mask in masks], classes=1)
    guesses = found(*((0, mask, 0.9 - 0.1 * i) for i, mask in enumerate(masks)))
    recalled = min(most, 4) / 4
    steps = np.linspace(0, 1, 101)
    expected = (steps <= recalled + 1e-9).mean()
    assert coco_ap(truth, {0: guesses}, most)["AP"] == pytest.approx(expected)


def test_more_than_100_objects_in_an_image():
    masks = [box_mask(8 * (i % 19), 8 * (i // 19), 6, 6) for i in range(250)]
    truth = data_of([(0, mask) for mask in masks], classes=1)
    guesses = found(*((0, mask, 0.9) for mask in masks))
    assert coco_ap(truth, {0: guesses}, 300)["AP"] == pytest.approx(1)
    assert coco_ap(truth, {0: guesses}, 100)["AP"] == pytest.approx(0.41 * 100 / 101, abs=0.01)


def test_the_area_that_the_file_says_decides_the_size_class():
    mask = box_mask(5, 5, 20, 20)
    truth = data_of([(0, mask, {"area": 32.0**2 + 1})])
    ap = coco_ap(truth, {0: found((0, mask, 0.9))})
    assert (ap["AP_small"], ap["AP_medium"]) == pytest.approx((-1, 1))


@pytest.mark.parametrize("seed", range(3))
def test_a_class_alone_is_the_ap_of_its_objects_alone(seed):
    truth, predictions = random_case(seed)
    # Ids that go down while labels go up: COCOeval sorts classes by id.
    categories = tuple(replace(c, id=90 - 7 * n) for n, c in enumerate(truth.categories))
    truth = replace(truth, categories=categories)
    results = [r for key, value in predictions.items() for r in to_coco_results(value, key, categories)]
    whole, classes = ap_by_class(truth, results)
    assert whole == coco_ap(truth, predictions)
    assert list(classes) == [category.name for category in categories]
    for label, category in enumerate(categories):
        images = tuple(
            replace(image, annotations=tuple(a for a in image.annotations if a.label == label))
            for image in truth.images
        )
        own = {key: value[value.labels == label] for key, value in predictions.items()}
        assert classes[category.name] == coco_ap(replace(truth, images=images), own)
    known = [scores["AP"] for scores in classes.values() if scores["AP"] >= 0]
    assert whole["AP"] == pytest.approx(np.mean(known))


def test_a_class_without_objects_has_no_ap():
    mask = box_mask(5, 5, 20, 20)
    truth = data_of([(1, mask)])
    _, classes = ap_by_class(truth, to_coco_results(found((1, mask, 0.9)), 0, truth.categories))
    assert [scores["AP"] for scores in classes.values()] == pytest.approx([-1, 1])


def test_is_quiet(capsys):
    mask = box_mask(5, 5, 20, 20)
    coco_ap(data_of([(0, mask)]), {0: found((0, mask, 0.9))})
    assert capsys.readouterr() == ("", "")


def test_what_does_not_fit_is_refused():
    mask = box_mask(5, 5, 20, 20)
    with pytest.raises(ValueError, match="image 9"):
        coco_ap(data_of([(0, mask)]), {9: found((0, mask, 0.9))})
    with pytest.raises(ValueError, match="predictions"):
        coco_ap(data_of([(0, mask)]), {0: Instances.empty((3, 4))})
    with pytest.raises(ValueError, match="masks and scores"):
        to_coco_results(Instances(SIZE, torch.zeros(0, dtype=torch.int64)), 0, ())
    with pytest.raises(InputError, match="annotation 0"):
        coco_ap(data_of([(0, mask, {"rle": None, "point": (6.0, 6.0)})]), {})


def test_results_have_the_categories_own_ids_and_xywh_boxes():
    truth = data_of([])
    (record,) = to_coco_results(found((1, box_mask(7, 9, 20, 11), 0.25)), 5, truth.categories)
    assert record["category_id"] == 3
    assert record["bbox"] == [7, 9, 20, 11]
    assert (record["area"], record["score"], record["image_id"]) == (220, 0.25, 5)
    assert isinstance(record["segmentation"]["counts"], str)


def test_mask_iou_is_of_aligned_pairs_and_0_for_two_empty_masks():
    a = torch.stack([box_mask(0, 0, 10, 10), box_mask(0, 0, 10, 10), torch.zeros(SIZE, dtype=torch.bool)])
    b = torch.stack([box_mask(5, 0, 10, 10), box_mask(0, 0, 10, 10), torch.zeros(SIZE, dtype=torch.bool)])
    assert mask_iou(a, b).tolist() == pytest.approx([1 / 3, 1, 0])
    assert mask_iou(a[:0], b[:0]).shape == (0,)
