"""What the gate lets through, and what it says of what it does not."""

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
from pipelines.promotion.gate_result import Verdict
from pipelines.promotion.version_predictions import Answers
from pipelines.registry.lineage import VAL_DIGEST, val_digest
from pipelines.registry.versions import Version
from wssis.data import rle as rle_api
from wssis.data.coco import Annotation, Category, CocoData, ImageRecord, save_coco
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
    """Right masks of both, where the scores are not 0."""
    found = [result(3, LEFT, cat), result(7, RIGHT, dog)]
    return [item for item in found if item["score"]]


@pytest.fixture
def answer(val: CocoData, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """answer({version number: its answers}), which is then not asked for."""

    def given(answers: dict[int, Answers]) -> None:
        monkeypatch.setattr(version_predictions, "ask", lambda asked, val, points: answers[asked.number])

    return given


def passed(verdict: Verdict) -> dict[str, bool | None]:
    return {check.name: check.passed for check in verdict.checks}


def said(verdict: Verdict, name: str) -> str:
    return next(check.found for check in verdict.checks if check.name == name)


NAMES = ("validation set", "signature", "answers", "gain", "classes")
ALL_OK: dict[str, bool | None] = dict.fromkeys(NAMES, True)


def test_the_first_version_has_nothing_to_beat_but_must_answer(answer: Callable[..., None]) -> None:
    answer({1: Answers((*[both()] * 4, []), 2.0)})
    verdict = examine(version(1, student_AP="1.0"), None, Promote())
    not_compared: dict[str, bool | None] = dict.fromkeys(("signature", "gain", "classes"))
    assert passed(verdict) == ALL_OK | not_compared
    assert verdict.failed == ()
    assert "no version is in production" in said(verdict, "gain")
    assert verdict.numbers == {"score": pytest.approx(1.0)}
    answer({1: Answers(problem="ModuleNotFoundError: no module wssis")})
    verdict = examine(version(1), None, Promote())
    assert passed(verdict) == ALL_OK | not_compared | {"answers": False, "gain": False, "classes": False}
    assert "no module wssis" in said(verdict, "answers")


def test_answers_must_be_as_good_as_registered(answer: Callable[..., None]) -> None:
    answer({1: Answers((*[both()] * 4, []), 2.0)})
    verdict = examine(version(1, student_AP="0.5"), None, Promote())
    assert [check.name for check in verdict.failed] == ["answers"]
    assert "AP 1.000, registered with 0.500" in said(verdict, "answers")


def test_a_better_version_passes_and_says_how_sure(answer: Callable[..., None]) -> None:
    answer({1: Answers((both(), both(), both(dog=0), both(dog=0), [])), 2: Answers((*[both()] * 4, []))})
    verdict = examine(version(2), version(1), Promote(resamples=200))
    assert passed(verdict) == ALL_OK
    numbers = verdict.numbers
    assert numbers["score"] == pytest.approx(1)
    assert numbers["gain"] == pytest.approx(1 - (1 + 51 / 101) / 2)
    assert numbers["gain"] == pytest.approx(numbers["score"] - numbers["production_score"])
    assert 0 <= numbers["gain_low"] < numbers["gain"] < numbers["gain_high"] <= 0.5
    assert numbers["sure"] == 1
    assert verdict.answers is not None
    # The other way round it loses, and a class loses more than it may.
    verdict = examine(version(1), version(2), Promote(resamples=200))
    assert passed(verdict) == ALL_OK | {"gain": False, "classes": False}
    assert "dog -0.495" in said(verdict, "classes")
    # It may, if that is what params say.
    lenient = Promote(min_gain=-0.5, max_class_loss=0.6, min_sure=0.0, resamples=200)
    assert passed(examine(version(1), version(2), lenient)) == ALL_OK


def test_a_gain_that_one_class_pays_for_is_refused(answer: Callable[..., None]) -> None:
    before = Answers((both(cat=0), both(cat=0), both(cat=0), both(), []))
    after = Answers((both(), both(), both(dog=0), both(), []))
    answer({1: before, 2: after})
    verdict = examine(version(2), version(1), Promote())
    assert passed(verdict) == ALL_OK | {"classes": False}
    assert "dog" in said(verdict, "classes")
    assert "cat" not in said(verdict, "classes")


def test_the_bar_is_min_gain_and_min_sure() -> None:
    result = Comparison(0.5, 0.25, np.array([0.25]), np.array([-0.1, 0.1, 0.1, 0.3]))
    assert gate.gain(result, Promote(min_gain=0.1, min_sure=0.75)).passed
    assert not gate.gain(result, Promote(min_gain=0.26, min_sure=0)).passed
    unsure = gate.gain(result, Promote(min_gain=0, min_sure=0.8))
    assert not unsure.passed
    assert "75 %" in unsure.found
    assert "promote.min_sure asks for 80 %" in unsure.found
    unknown = Comparison(np.nan, np.nan, np.array([np.nan]), np.zeros(0))
    assert not gate.gain(unknown, Promote()).passed
    assert gate.classes(unknown, ("cat",), Promote()).passed


def test_other_validation_sets_cannot_be_compared(answer: Callable[..., None]) -> None:
    answer({})
    here = version(1).tags[VAL_DIGEST]
    for candidate, production, words in (
        (version(2, **{VAL_DIGEST: "e" * 64}), version(1), ("version 2", "eeeeeeee", here[:8])),
        (version(2), version(1, **{VAL_DIGEST: "e" * 64}), ("version 1", "eeeeeeee", here[:8])),
        (version(2, **{VAL_DIGEST: ""}), None, ("version 2", "none")),
    ):
        verdict = examine(candidate, production, Promote())
        assert passed(verdict)["validation set"] is False
        assert passed(verdict)["gain"] is False
        assert all(word in said(verdict, "validation set") for word in words)
    # So it is if the pixels here changed since, or if there are none.
    candidate = version(2)
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(paths.PREPARED_VAL_IMAGES / "1.png")
    assert "version 2" in said(examine(candidate, None, Promote()), "validation set")
    (paths.PREPARED_VAL_IMAGES / "1.png").unlink()
    assert "1.png" in said(examine(candidate, None, Promote()), "validation set")
    paths.PREPARED_VAL.unlink()
    assert "dvc checkout" in said(examine(candidate, None, Promote()), "validation set")


def test_another_signature_is_refused(answer: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    answer({1: Answers((*[both()] * 4, [])), 2: Answers((*[both()] * 4, []))})

    class Other(Stub):
        signature = {"inputs": ["image", "scale"]}  # noqa: RUF012

    new = Other("wssis-student", 2, (), datetime.now(UTC), "run", version(2).tags)
    verdict = examine(new, version(1), Promote())
    assert passed(verdict) == ALL_OK | {"signature": False}
    assert "scale" in said(verdict, "signature")


def test_a_new_param_that_has_a_default_is_no_other_signature(answer: Callable[..., None]) -> None:
    answer({1: Answers((*[both()] * 4, [])), 2: Answers((*[both()] * 4, []))})

    class WithScore(Stub):
        signature = {"inputs": ["image"], "params": [{"name": "score", "default": None}]}  # noqa: RUF012

    new = WithScore("wssis-student", 2, (), datetime.now(UTC), "run", version(2).tags)
    assert passed(examine(new, version(1), Promote())) == ALL_OK
    without = examine(version(1), new, Promote())  # whoever sends a score would be refused
    assert passed(without) == ALL_OK | {"signature": False}
    assert "lacks params of the version in production: score" in said(without, "signature")


def test_a_production_that_does_not_answer_is_said(answer: Callable[..., None]) -> None:
    answer({1: Answers(problem="it ended with -9"), 2: Answers((*[both()] * 4, []))})
    verdict = examine(version(2), version(1), Promote())
    assert passed(verdict) == ALL_OK | {"gain": False, "classes": False}
    assert "version 1, in production, does not answer: it ended with -9" in said(verdict, "gain")


def test_a_labeler_is_judged_by_the_masks_of_points(answer: Callable[..., None], val: CocoData) -> None:
    labelled = replace(val, images=val.images[:4])
    empty = {**result(7, RIGHT, 0.1), "segmentation": rle(0, 0, 0, 0), "ignore": True}
    wrong = result(7, LEFT, 0.9)
    good, undecided, bad = both(), [both()[0], empty], [both()[0], wrong]
    scores = gate.label_scores(labelled, [good, good, undecided, bad])
    assert scores.by_class(np.ones(4)) == pytest.approx([0.5, (0.5 + 0.5 - IGNORED - 0.5) / 4])
    # Not knowing is better than being wrong.
    answer({1: Answers((good, good, good, bad)), 2: Answers((good, good, good, undecided))})
    one, two = (version(n, "wssis-labeler", student_AP="0.9") for n in (1, 2))
    verdict = examine(two, one, Promote(resamples=100))
    assert passed(verdict) == ALL_OK
    assert verdict.numbers["gain"] == pytest.approx((0.5 - IGNORED) / 4 / 2)
    assert passed(examine(one, two, Promote(resamples=100)))["gain"] is False


def test_a_labeler_is_asked_about_images_with_objects_only(val: CocoData) -> None:
    asked = gate.read_val(points=True)
    assert [record.id for record in asked.images] == [1, 2, 3, 4]
    assert len(gate.read_val(points=False).images) == 5
    row = version_predictions.question(asked.images[0], asked, points=True)
    assert [point["class"] for point in row["points"]] == ["cat", "dog"]
    assert row["points"][0]["x"] == pytest.approx(LEFT[0] + LEFT[2] / 2)
    assert Path(row["image"]).is_absolute()
