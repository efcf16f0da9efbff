"""Labels of data sets: every point ends as one mask or one ignore region."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipelines.inference.label_dataset import (
    beats_chance,
    ignore_regions,
    label_utility,
    labeled,
    predicted_results,
    prompts,
    rough_dataset,
)
from pipelines.inference.load_models import load_predictor, load_solov2
from pipelines.stages import train
from wssis.data import rle as rle_api
from wssis.data.coco import load_coco, save_coco
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.instances import Instances
from wssis.pseudo_labels.labeler import Labeler


def square(top: int, left: int, side: int, size: int = 20) -> torch.Tensor:
    mask = torch.zeros((size, size), dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


def decided() -> Instances:
    """Two masks, and two points that share an ignore region of two squares."""
    empty = square(0, 0, 0)
    return Instances(
        size=(20, 20),
        labels=torch.tensor([0, 1, 0, 1]),
        masks=torch.stack([square(0, 0, 5), empty, square(6, 6, 4), empty]),
        points=torch.tensor([[2.5, 2.5], [12.5, 12.5], [8.0, 8.0], [17.5, 17.5]]),
        scores=torch.tensor([0.9, 0.1, 0.8, 0.05]),
        ids=torch.tensor([4, 5, 6, 7]),
        ignore=square(11, 11, 3) | square(16, 16, 3),
    )


def test_each_point_is_one_annotation_under_its_id(tmp_path: Path) -> None:
    record = labeled(ImageRecord(1, "a.png", 20, 20), decided())
    assert [item.id for item in record.annotations] == [4, 5, 6, 7]
    assert [item.ignored for item in record.annotations] == [False, True, False, True]
    assert [item.point for item in record.annotations] == [(2.5, 2.5), (12.5, 12.5), (8.0, 8.0), (17.5, 17.5)]
    assert [item.extra["confidence"] for item in record.annotations] == [0.9, 0.1, 0.8, 0.05]
    data = CocoData((Category(1, "a"), Category(2, "b")), (record,), str(tmp_path))
    save_coco(data, tmp_path / "labels.json")
    again = load_coco(tmp_path / "labels.json").images[0].instances()
    assert torch.equal(again.masks, decided().masks[[0, 2]])
    assert torch.equal(again.ignore, decided().ignore)


def test_an_ignore_region_is_shared_out_to_the_nearest_points() -> None:
    ignored = torch.tensor([False, True, False, True])
    regions = ignore_regions(decided(), ignored)
    assert torch.equal(regions[1], square(11, 11, 3))
    assert torch.equal(regions[3], square(16, 16, 3))
    assert not regions[[0, 2]].any()


def test_no_point_and_no_region() -> None:
    nothing = Instances.empty((20, 20))
    assert ignore_regions(nothing, torch.zeros(0, dtype=torch.bool)).shape == (0, 20, 20)
    assert labeled(ImageRecord(1, "a.png", 20, 20), nothing).annotations == ()
    assert ignore_regions(decided(), torch.zeros(4, dtype=torch.bool)).sum() == 0


def test_a_wrong_mask_is_worth_less_than_none() -> None:
    truth = Instances(
        size=(20, 20),
        labels=torch.tensor([0, 1, 0, 1]),
        masks=torch.stack([square(0, 0, 5), square(12, 12, 5), square(14, 0, 4), square(0, 14, 4)]),
    )
    # Ignored: 4 of 30 pixels of object and region are common to the second, none to the last.
    assert label_utility(decided(), truth).tolist() == pytest.approx([0.5, -0.1 * 26 / 30, -0.5, -0.1])


def test_prompts_are_points_or_centers_of_masks() -> None:
    (rle,) = rle_api.encode(square(4, 6, 3)[None])
    record = ImageRecord(
        1,
        "a.png",
        20,
        20,
        (
            Annotation(3, 1, rle),
            Annotation(5, 0, rle, (7.0, 5.0)),
            Annotation(9, 0, rle, crowd=True),
            Annotation(8, 0, point=(1.0, 2.0), clicks=((3.0, 4.0, False), (1.5, 2.0, True))),
        ),
    )
    points, labels, ids, clicks = prompts(record)
    assert points.tolist() == [[7.5, 5.5], [7.0, 5.0], [1.0, 2.0]]
    assert labels.tolist() == [1, 0, 0]
    assert ids.tolist() == [3, 5, 8]
    assert clicks.tolist() == [[2, 3, 4, 0], [2, 1.5, 2, 1]]
    shapes = [value.shape for value in prompts(ImageRecord(1, "a.png", 20, 20))]
    assert shapes == [(0, 2), (0,), (0,), (0, 4)]


def data_set(images: Path) -> CocoData:
    records = (
        ImageRecord(
            1, "a.png", 64, 80, (Annotation(1, 0, point=(5.0, 5.0)), Annotation(2, 1, point=(70.0, 60.0)))
        ),
        ImageRecord(2, "b.png", 64, 64),
    )
    return CocoData((Category(3, "cat"), Category(7, "dog")), records, str(images))


def test_rough_masks_keep_ids_and_images_without_objects(models: Path, images: Path) -> None:
    saved = load_solov2(models / "teacher")
    rough = rough_dataset(Labeler(saved.model, None, saved.resize), data_set(images), "rough")
    assert [[item.id for item in image.annotations] for image in rough.images] == [[1, 2], []]
    assert rough.images[0].annotations[1].point == (70.0, 60.0)
    assert all(item.rle and item.rle["size"] == [64, 80] for item in rough.images[0].annotations)


def test_predictions_of_a_data_set_are_coco_results(models: Path, images: Path) -> None:
    from wssis.inference.decode import DecodeSettings

    low = DecodeSettings(score_threshold=0.0, keep_threshold=0.0, max_detections=2)
    predictor, categories = load_predictor(models / "teacher", low)
    results = list(predicted_results(predictor, data_set(images), "predict"))
    assert {result["image_id"] for result in results} == {1, 2}
    assert {result["category_id"] for result in results} <= {3, 7}
    assert [category.id for category in categories] == [3, 7]


def test_a_training_is_validated_on_the_same_results(
    models: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of images at a time, and none before it is asked for."""
    from wssis.inference.decode import DecodeSettings

    low = DecodeSettings(score_threshold=0.0, keep_threshold=0.0, max_detections=2)
    predictor, _ = load_predictor(models / "teacher", low)
    data = data_set(images)
    wanted = list(predicted_results(predictor, data, "predict"))
    asked: list[int] = []
    plain = predictor.predict_dataset
    monkeypatch.setattr(train, "IMAGES", 1)
    monkeypatch.setattr(predictor, "predict_dataset", lambda d: asked.append(len(d.images)) or plain(d))
    found = train.predicted(predictor, data)
    first = next(found)
    assert asked == [1]
    assert [first, *found] == wanted
    assert asked == [1, 1]


def test_a_rise_by_chance_keeps_the_rules() -> None:
    torch.manual_seed(0)
    none = [torch.zeros(3), torch.zeros(1)]
    assert not beats_chance([])
    assert not beats_chance(none)
    assert not beats_chance([torch.randn(2) * 0.3 for _ in range(7)])
    assert not beats_chance([torch.ones(9)])  # one image proves nothing, however many objects it shows
    assert not beats_chance([torch.ones(1), torch.zeros(0)])
    sure = [0.1 + torch.randn(3) * 0.03 for _ in range(5)]
    assert beats_chance(sure)
    assert not beats_chance([-rise for rise in sure])


def test_one_crowded_image_does_not_speak_for_all() -> None:
    """272 of 393 objects rise together, those of the other eight images fall: seen on nuclei."""
    torch.manual_seed(0)
    crowd = 0.06 + 0.05 * torch.randn(272)
    others = [-0.02 + 0.05 * torch.randn(n) for n in (40, 30, 20, 10, 8, 6, 4, 3)]
    rise = torch.cat([crowd, *others])
    assert rise.mean() > 5 * rise.std() / len(rise) ** 0.5
    assert not beats_chance([crowd, *others])
