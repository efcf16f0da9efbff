"""Corrected labels over a data set: nothing else changes, and corrected images become strong."""

from dataclasses import replace

import numpy as np
import pytest

from wssis.data import rle as rle_api
from wssis.data.coco import load_coco, save_coco
from wssis.data.corrections import merge
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.data.split import split
from wssis.errors import InputError

CATEGORIES = (Category(3, "cell"), Category(7, "seed"))


def mask(x: int, y: int, side: int = 6) -> dict[str, object]:
    pixels = np.zeros((1, 30, 40), dtype=bool)
    pixels[0, y : y + side, x : x + side] = True
    return rle_api.encode(pixels)[0]


def image(number: int, *annotations: Annotation) -> ImageRecord:
    return ImageRecord(number, f"{number}.png", 30, 40, annotations)


def project() -> CocoData:
    """Images 1 to 6 are drawn, 7 to 9 clicked."""
    drawn = [image(n, Annotation(n * 10, 0, mask(n, n))) for n in range(1, 7)]
    clicked = [
        image(n, Annotation(n * 10, 0, point=(5.0, 5.0)), Annotation(n * 10 + 1, 1, point=(25.0, 15.0)))
        for n in (7, 8, 9)
    ]
    return CocoData(CATEGORIES, (*drawn, *clicked), "images")


def corrections() -> CocoData:
    """Image 8 with both objects drawn, and a third that nobody had clicked, of a class unknown so far."""
    items = (
        Annotation(1, 1, mask(3, 3), score=0.4),
        Annotation(2, 2, mask(22, 12), score=0.2),
        Annotation(3, 0, mask(30, 2)),
    )
    categories = (Category(1, "alga"), Category(2, "cell"), Category(3, "seed"))
    return CocoData(categories, (replace(image(1, *items), file_name="8.png"),), "elsewhere")


def test_a_correction_replaces_the_labels_of_its_image_alone() -> None:
    base = project()
    merged = merge(base, corrections())
    assert [record for record in merged.images if record.id != 8] == [r for r in base.images if r.id != 8]
    assert merged.image_dir == "images"
    assert merged.categories == (*CATEGORIES, Category(8, "alga"))
    found = merged.by_id[8]
    assert found.corrected
    assert found.strong
    # Objects keep id and click; scores are the model's, not a person's.
    assert [(i.id, i.label, i.point, i.score) for i in found.annotations] == [
        (80, 0, (5.0, 5.0), None),
        (81, 1, (25.0, 15.0), None),
        (92, 2, None, None),
    ]


def test_an_object_that_was_deleted_is_gone_and_an_emptied_image_is_strong() -> None:
    nothing = replace(corrections(), images=(replace(image(1), file_name="9.png"),))
    merged = merge(project(), nothing)
    assert merged.by_id[9].annotations == ()
    parts = split(merged, 0.99, 0.2, 0, clicked={7: [(5.0, 5.0, 0)], 8: []})
    assert 9 in parts.strong.by_id


def test_correcting_twice_is_correcting_once() -> None:
    once = merge(project(), corrections())
    assert merge(once, corrections()) == once


def test_an_image_that_is_not_there_or_has_another_size_is_refused() -> None:
    for change in ({"file_name": "new.png"}, {"height": 31}):
        wrong = replace(corrections(), images=(replace(corrections().images[0], **change),))
        with pytest.raises(InputError, match="of the data set"):
            merge(project(), wrong)


@pytest.mark.parametrize("share", [0.4, 0.99])
def test_corrected_images_are_strong_and_the_others_stay_where_they_were(share: float, tmp_path) -> None:
    save_coco(project(), tmp_path / "base.json")
    base = load_coco(tmp_path / "base.json")
    save_coco(merge(base, corrections()), tmp_path / "merged.json")
    before, after = (split(data, share, 0.3, 0) for data in (base, load_coco(tmp_path / "merged.json")))
    assert after.holdout.images == before.holdout.images
    assert set(after.strong.by_id) == set(before.strong.by_id) | {8}
    assert set(after.points.by_id) == set(before.points.by_id) - {8}
    same = [record for record in before.points.images if record.id != 8]
    assert list(after.points.images) == same


def test_an_image_that_is_not_fully_drawn_stays_weak() -> None:
    items = (Annotation(1, 0, mask(3, 3)), Annotation(2, 1, point=(25.0, 15.0)))
    half = CocoData(CATEGORIES, (replace(image(1, *items), file_name="8.png"),), "elsewhere")
    parts = split(merge(project(), half), 0.99, 0.2, 0)
    assert [i.point for i in parts.points.by_id[8].annotations] == [(5.0, 5.0), (25.0, 15.0)]


def test_with_everything_corrected_nothing_is_left_to_label() -> None:
    base = project()
    drawn = [replace(r, annotations=(Annotation(1, 0, mask(3, 3)),)) for r in base.images if not r.strong]
    with pytest.raises(InputError, match="weak image"):
        split(merge(base, replace(base, images=tuple(drawn))), 0.99, 0.2, 0)
