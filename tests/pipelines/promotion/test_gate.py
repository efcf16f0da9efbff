"""The gate: which versions pass, and what it reports about those that do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import paths
from pipelines.config.schema import Promote
from pipelines.inference.label_dataset import IGNORED
from pipelines.promotion import gate, version_predictions
from pipelines.promotion.gate import examine
from pipelines.promotion.gate_result import GateResult
from pipelines.promotion.version_predictions import Predictions
from pipelines.registry.lineage import VAL_DIGEST, val_digest
from pipelines.registry.versions import Version
from wssis.data import rle as rle_api
from wssis.data.coco import save_coco
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.evaluation.paired_bootstrap import Comparison

SIZE = (40, 60)
LEFT, RIGHT = (2, 3, 22, 20), (30, 10, 25, 25)


def rle(x: int, y: int, w: int, h: int) -> dict[str, Any]:
    mask = torch.zeros((1, *SIZE), dtype=torch.bool)
    mask[0, y : y + h, x : x + w] = True
    return rle_api.encode(mask)[0]


def result(category: int, box: tuple[int, int, int, int], score: float) -> dict[str, Any]:
    code = rle(*box)
    area = rle_api.area(code)
    common = {"image_id": 0, "bbox": rle_api.bounding_box(code), "area": area}
    return {**common, "category_id": category, "segmentation": code, "score": score}


@pytest.fixture
def val(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CocoData:
    """Four images with a cat (id 3) left and a dog (id 7) right, and one without objects."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / paths.PREPARED_VAL_IMAGES
    folder.mkdir(parents=True)
    records = []
    for number in range(1, 6):
        Image.fromarray(np.full((*SIZE, 3), number, np.uint8)).save(folder / f"{number}.png")
        objects = [Annotation(2 * number, 0, rle(*LEFT)), Annotation(2 * number + 1, 1, rle(*RIGHT))]
        annotations = tuple(objects) if number < 5 else ()
        records.append(ImageRecord(number, f"{number}.png", *SIZE, annotations))
    data = CocoData((Category(3, "cat"), Category(7, "dog")), tuple(records), str(folder))
    save_coco(data, paths.PREPARED_VAL)
    return data


class Stub(Version):
    """A version whose signature and files are given."""

    signature = {"inputs": ["image"]}  # noqa: RUF012

    @property
    def files(self) -> Path:
        return Path("files")


def version(number: int, name: str = "wssis-student", **tags: str) -> Stub:
    Path("files").mkdir(exist_ok=True)
    Path("files/decode.json").write_text(json.dumps({"max_detections": 100}))
    known = {VAL_DIGEST: val_digest(paths.PREPARED_VAL)} | tags
    return Stub(name, number, (), datetime.now(UTC), "run", known)


def both(cat: float = 0.9, dog: float = 0.9) -> list[dict[str, Any]]:
    """Correct masks of both objects, without those whose score is 0."""
    found = [result(3, LEFT, cat), result(7, RIGHT, dog)]
    return [item for item in found if item["score"]]


Predict = Callable[[dict[int, Predictions]], None]


@pytest.fixture
def predict(val: CocoData, monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Set the predictions of versions, by number, in place of running them."""

    def given(predictions: dict[int, Predictions]) -> None:
        monkeypatch.setattr(version_predictions, "predict_val", lambda v, val, points: predictions[v.number])

    return given


GOOD = Predictions((*[both()] * 4, []), 2.0)
NAMES = ("validation set", "signature", "answers", "gain", "classes")
ALL_OK: dict[str, bool | None] = dict.fromkeys(NAMES, True)
NOT_COMPARED: dict[str, bool | None] = dict.fromkeys(("signature", "gain", "classes"))


def passed(result: GateResult) -> dict[str, bool | None]:
    return {check.name: check.passed for check in result.checks}


def found(result: GateResult, name: str) -> str:
    return next(check.found for check in result.checks if check.name == name)


def test_the_first_version_must_predict_but_is_not_compared(predict: Predict) -> None:
    predict({1: GOOD})
    result = examine(version(1, student_AP="1.0"), None, Promote())
    assert passed(result) == ALL_OK | NOT_COMPARED
    assert result.failed == ()
    assert "no version is in production" in found(result, "gain")
    assert result.numbers == {"score": pytest.approx(1.0)}
    predict({1: Predictions(problem="ModuleNotFoundError: no module wssis")})
    result = examine(version(1), None, Promote())
    assert passed(result) == ALL_OK | NOT_COMPARED | {"answers": False, "gain": False, "classes": False}
    assert "no module wssis" in found(result, "answers")


def test_the_ap_must_be_the_registered_one(predict: Predict) -> None:
    predict({1: GOOD})
    result = examine(version(1, student_AP="0.5"), None, Promote())
    assert [check.name for check in result.failed] == ["answers"]
    assert "AP 1.000, registered with 0.500" in found(result, "answers")


def test_a_better_version_passes_with_an_interval(predict: Predict) -> None:
    predict({1: Predictions((both(), both(), both(dog=0), both(dog=0), [])), 2: GOOD})
    result = examine(version(2), version(1), Promote(resamples=200))
    assert passed(result) == ALL_OK
    numbers = result.numbers
    assert numbers["score"] == pytest.approx(1)
    assert numbers["gain"] == pytest.approx(1 - (1 + 51 / 101) / 2)
    assert numbers["gain"] == pytest.approx(numbers["score"] - numbers["production_score"])
    assert 0 <= numbers["gain_low"] < numbers["gain"] < numbers["gain_high"] <= 0.5
    assert numbers["sure"] == 1
    assert result.predictions == GOOD.results
    # The other way round it loses, and a class loses more than it may.
    result = examine(version(1), version(2), Promote(resamples=200))
    assert passed(result) == ALL_OK | {"gain": False, "classes": False}
    assert "dog -0.495" in found(result, "classes")
    lenient = Promote(min_gain=-0.5, max_class_loss=0.6, min_sure=0.0, resamples=200)
    assert passed(examine(version(1), version(2), lenient)) == ALL_OK


def test_a_gain_at_the_cost_of_one_class_is_refused(predict: Predict) -> None:
    before = Predictions((both(cat=0), both(cat=0), both(cat=0), both(), []))
    after = Predictions((both(), both(), both(dog=0), both(), []))
    predict({1: before, 2: after})
    result = examine(version(2), version(1), Promote())
    assert passed(result) == ALL_OK | {"classes": False}
    assert "dog" in found(result, "classes")
    assert "cat" not in found(result, "classes")


def test_min_gain_and_min_sure_are_the_bar() -> None:
    comparison = Comparison(0.5, 0.25, np.array([0.25]), np.array([-0.1, 0.1, 0.1, 0.3]))
    assert gate.check_gain(comparison, Promote(min_gain=0.1, min_sure=0.75)).passed
    assert not gate.check_gain(comparison, Promote(min_gain=0.26, min_sure=0)).passed
    unsure = gate.check_gain(comparison, Promote(min_gain=0, min_sure=0.8))
    assert not unsure.passed
    assert "75 %" in unsure.found
    assert "promote.min_sure is 80 %" in unsure.found
    unknown = Comparison(np.nan, np.nan, np.array([np.nan]), np.zeros(0))
    assert not gate.check_gain(unknown, Promote()).passed
    assert gate.check_classes(unknown, ("cat",), Promote()).passed


def test_other_validation_sets_are_not_compared(predict: Predict) -> None:
    predict({})
    here = version(1).tags[VAL_DIGEST]
    for candidate, production, words in (
        (version(2, **{VAL_DIGEST: "e" * 64}), version(1), ("version 2", "eeeeeeee", here[:8])),
        (version(2), version(1, **{VAL_DIGEST: "e" * 64}), ("version 1", "eeeeeeee", here[:8])),
        (version(2, **{VAL_DIGEST: ""}), None, ("version 2", "none")),
    ):
        result = examine(candidate, production, Promote())
        assert (passed(result)["validation set"], passed(result)["gain"]) == (False, False)
        assert all(word in found(result, "validation set") for word in words)
    candidate, image = version(2), paths.PREPARED_VAL_IMAGES / "1.png"
    for change, word in (
        (lambda: Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(image), "version 2"),
        (image.unlink, "1.png"),
        (paths.PREPARED_VAL.unlink, "dvc checkout"),
    ):
        change()
        assert word in found(examine(candidate, None, Promote()), "validation set")


@pytest.mark.parametrize(
    ("old", "new", "passes", "words"),
    [
        ({}, {"inputs": ["image", "scale"]}, False, "scale"),
        ({}, {"params": [{"name": "score", "default": None}]}, True, "takes what"),
        ({"params": [{"name": "score", "default": None}]}, {}, False, "lacks params of the version in"),
    ],
)
def test_callers_of_production_can_call_the_candidate(
    val: CocoData, old: dict[str, Any], new: dict[str, Any], passes: bool, words: str
) -> None:
    one, two = version(1), version(2)
    for stub, change in ((one, old), (two, new)):
        object.__setattr__(stub, "signature", Stub.signature | change)
    check = gate.check_signature(two, one)
    assert check.passed is passes
    assert words in check.found


def test_a_production_without_predictions_is_reported(predict: Predict) -> None:
    predict({1: Predictions(problem="the process ended with -9"), 2: GOOD})
    result = examine(version(2), version(1), Promote())
    assert passed(result) == ALL_OK | {"gain": False, "classes": False}
    assert "version 1, in production, gives no predictions: the process" in found(result, "gain")


def test_a_labeler_is_scored_by_the_masks_of_points(predict: Predict, val: CocoData) -> None:
    labeled = replace(val, images=val.images[:4])
    empty = {**result(7, RIGHT, 0.1), "segmentation": rle(0, 0, 0, 0), "ignore": True}
    good, undecided, bad = both(), [both()[0], empty], [both()[0], result(7, LEFT, 0.9)]
    scores = gate.labeler_scores(labeled, [good, good, undecided, bad])
    assert scores.by_class(np.ones(4)) == pytest.approx([0.5, (0.5 + 0.5 - IGNORED - 0.5) / 4])
    # An undecided point scores better than a wrong mask.
    predict({1: Predictions((good, good, good, bad)), 2: Predictions((good, good, good, undecided))})
    one, two = (version(n, "wssis-labeler", student_AP="0.9") for n in (1, 2))
    better = examine(two, one, Promote(resamples=100))
    assert passed(better) == ALL_OK
    assert better.numbers["gain"] == pytest.approx((0.5 - IGNORED) / 4 / 2)
    assert passed(examine(one, two, Promote(resamples=100)))["gain"] is False


def test_a_labeler_gets_images_with_objects_only(val: CocoData) -> None:
    data = gate.load_val(points=True)
    assert [image.id for image in data.images] == [1, 2, 3, 4]
    assert len(gate.load_val(points=False).images) == 5
    row = version_predictions.input_row(data.images[0], data, points=True)
    assert [point["class"] for point in row["points"]] == ["cat", "dog"]
    assert row["points"][0]["x"] == pytest.approx(LEFT[0] + LEFT[2] / 2)
    assert Path(row["image"]).is_absolute()
