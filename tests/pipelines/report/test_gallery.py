"""The gallery: its choice of labels, and the masks in its pictures."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.report.gallery import Shown, all_labels, choose, gallery, shown_window
from wssis.data import rle as rle_api
from wssis.data.records import Annotation, Category, CocoData, ImageRecord


def shown(number: int, confidence: float, ignored: bool = False) -> Shown:
    return Shown("a.png", 1, number, "cat", confidence, ignored)


def test_few_labels_are_all_shown_by_confidence() -> None:
    labels = [shown(1, 0.2), shown(2, 0.9), shown(3, 0.5, ignored=True), shown(4, 0.9)]
    assert [item.id for item in choose(labels)] == [2, 4, 3, 1]
    assert choose([]) == []


def test_of_many_labels_a_choice_is_spread_over_confidences() -> None:
    labels = [shown(n, n / 1000) for n in range(1000)]
    chosen = [item.confidence for item in choose(labels, 11)]
    assert chosen == pytest.approx(np.linspace(0.999, 0, 11), abs=0.002)


@pytest.mark.parametrize(
    ("masks", "ignored", "expected"),
    [(500, 500, (20, 10)), (500, 4, (26, 4)), (3, 500, (3, 27)), (0, 90, (0, 30))],
)
def test_ignored_labels_get_a_third_or_the_rest(masks: int, ignored: int, expected: tuple[int, int]) -> None:
    labels = [shown(n, 0.8) for n in range(masks)] + [shown(1000 + n, 0.1, True) for n in range(ignored)]
    chosen = choose(labels, 30)
    assert (sum(not c.ignored for c in chosen), sum(c.ignored for c in chosen)) == expected


def box(x: int, y: int, width: int, height: int, size: tuple[int, int] = (60, 80)) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[y : y + height, x : x + width] = True
    return mask


def test_a_window_is_a_square_around_masks_and_point() -> None:
    left, top, right, bottom = shown_window([box(30, 20, 20, 10)], None, (60, 80))
    assert (right - left, bottom - top) == (32, 32)
    assert (left + right, top + bottom) == (80, 50)
    left, top, right, bottom = shown_window([box(0, 0, 4, 4), box(2, 2, 30, 4)], None, (60, 80))
    assert (left, top, right, bottom) == (0, 0, 51, 51)
    left, top, right, bottom = shown_window([box(0, 0, 4, 4)], (79.5, 59.5), (60, 80))
    assert (left, top, right, bottom) == (0, 0, 80, 60)  # no larger than the image
    left, top, right, bottom = shown_window([torch.zeros(60, 80, dtype=torch.bool)], (5.0, 5.0), (60, 80))
    assert (left, top, right, bottom) == (0, 0, 32, 32)
    assert shown_window([], None, (20, 30)) == (0, 0, 30, 20)


@pytest.fixture
def data(tmp_path: Path) -> dict[str, CocoData]:
    """An image with two labels: rough and refined masks of both, the ground truth of the first."""
    pixels = np.full((60, 80, 3), 200, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    def of(*masks: torch.Tensor, **extra: Any) -> CocoData:
        annotations = tuple(
            Annotation(10 + n, 1, rle, (40.0, 25.0), extra={"confidence": 0.9 - n / 2} | extra)
            for n, rle in enumerate(rle_api.encode(torch.stack(masks)))
        )
        record = ImageRecord(7, "a.png", 60, 80, annotations)
        return CocoData((Category(1, "cat"), Category(5, "dog")), (record,), str(tmp_path))

    rough, refined = box(20, 15, 40, 20), box(25, 15, 30, 20)
    truth = of(box(30, 15, 20, 20))
    without_point = tuple(replace(item, point=None) for item in truth.images[0].annotations)
    truth = replace(truth, images=(replace(truth.images[0], annotations=without_point),))
    return {"rough": of(rough, rough), "refined": of(refined, refined), "truth": truth}


def test_a_picture_shows_rough_refined_and_truth_from_left_to_right(data: dict[str, CocoData]) -> None:
    labels = all_labels(data["refined"], {10: (0.5, 0.75)})
    assert labels[0] == Shown("a.png", 7, 10, "dog", 0.9, False, 0.5, 0.75)
    assert (labels[1].rough_iou, labels[1].confidence) == (None, 0.4)
    found = gallery(choose(labels), data, total=50)
    json.dumps(found, allow_nan=False)
    assert found["total"] == 50
    assert [item["panels"] for item in found["labels"]] == [
        ["rough", "refined", "truth"],
        ["rough", "refined"],
    ]
    first, second = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(item["picture"]))).convert("L"))
        for item in found["labels"]
    )
    assert first.shape == (160, 488)
    assert second.shape == (160, 324)
    # Width of the lit part of each panel, on a line clear of the point.
    lit = [(first[70, start : start + 160] > 120).sum() for start in (0, 164, 328)]
    assert lit[0] > lit[1] > lit[2] > 30
    assert lit[0] / lit[2] == pytest.approx(2, rel=0.15)


def test_an_ignored_label_shows_its_proposed_masks(data: dict[str, CocoData]) -> None:
    image = data["refined"].images[0]
    ignored = tuple(replace(a, extra={"confidence": 0.1, "ignore": True}) for a in image.annotations)
    labels = all_labels(replace(data["refined"], images=(replace(image, annotations=ignored),)), {})
    assert [label.ignored for label in labels] == [True, True]
    found = gallery(choose(labels), data, total=2)
    assert all("refined" in item["panels"] for item in found["labels"])
