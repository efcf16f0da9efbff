from __future__ import annotations

import numpy as np
import pytest

from wssis.data import rle
from wssis.errors import InputError
from wssis.formats.geometry import ellipse, from_row_runs, grouped, placed, turned_box
from wssis.formats.records import Label, Part


@pytest.mark.parametrize("left", [-9, -2, 0, 3, 6, 7, 20])
@pytest.mark.parametrize("top", [-9, -2, 0, 2, 3, 20])
def test_a_mask_is_placed_and_cut(left: int, top: int) -> None:
    mask = np.random.default_rng(1).random((4, 5)) < 0.6
    whole = np.zeros((40, 40), dtype=bool)
    whole[15 + top : 15 + top + 4, 15 + left : 15 + left + 5] = mask
    found = rle.decode([placed(mask, left, top, (6, 8))], (6, 8))[0].numpy()
    assert (found == whole[15:21, 15:23]).all()


def test_runs_follow_the_rows() -> None:
    assert from_row_runs([1, 3, 2], 2, 3).tolist() == [[False, True, True], [True, False, False]]
    assert not from_row_runs([], 0, 3).any()
    for runs in ([7], [5], [-1, 7], []):
        with pytest.raises(ValueError, match="sum"):
            from_row_runs(runs, 2, 3)


def test_boxes_turn_clockwise_about_their_pivot() -> None:
    assert turned_box((0, 0, 4, 2), 90, (0, 0)) == pytest.approx((-2, 0, 2, 4))
    assert turned_box((0, 0, 4, 2), 0, (9, 9)) == (0, 0, 4, 2)


def test_an_ellipse_has_its_area() -> None:
    x, y = np.array(ellipse((3, 4), (6, 2), 30)).reshape(-1, 2).T
    area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    assert area == pytest.approx(np.pi * 12, rel=0.002)


def test_groups_join_what_is_of_one_class() -> None:
    ring = Part((0, 0, 2, 0, 2, 2))
    labels = [
        (1, Label("a", "1", parts=(ring,))),
        (None, Label("a", "2", point=(1, 1))),
        (1, Label("a", "3", box=(0, 0, 1, 1), point=(5, 5))),
        (1, Label("b", "4", point=(6, 6))),
        (1, Label("a", "5", parts=(ring,), box=(4, 4, 1, 1), point=(7, 7))),
        (None, Label("a", "6", point=(1, 1))),
    ]
    whole, two, other, last = grouped(labels, "file")
    assert (len(whole.parts), whole.box, whole.point, whole.record) == (2, (0, 0, 5, 5), (5, 5), "1")
    assert [two.record, other.record, last.record] == ["2", "4", "6"]


def test_masks_of_one_group_have_one_size() -> None:
    masks = [rle.from_runs([3, 3], (2, 3)), rle.from_runs([3, 3], (3, 2))]
    with pytest.raises(InputError, match="file, 0: expected masks of one size"):
        grouped([(1, Label("a", str(place), rle=mask)) for place, mask in enumerate(masks)], "file")
