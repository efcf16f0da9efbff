"""wssis.data.rle: both directions, polygons, and the check that pycocotools lacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_api

from wssis.data import rle


def random_masks(count, size, seed=0):
    """Blobs, noise, all, nothing and single pixels."""
    rng = np.random.default_rng(seed)
    masks = rng.random((count, *size)) < rng.random((count, 1, 1))
    masks[0], masks[1] = False, True
    masks[2] = False
    masks[2, -1, -1] = True
    return torch.from_numpy(masks)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (37, 20)])
def test_decode_is_the_inverse_of_encode(size):
    masks = random_masks(8, size)
    rles = rle.encode(masks)
    assert torch.equal(rle.decode(rles, size), masks)
    assert [rle.area(item) for item in rles] == masks.sum((1, 2)).tolist()
    assert all(type(item["counts"]) is str for item in rles)


def test_no_mask_decodes_to_an_empty_stack():
    assert rle.decode([], (4, 5)).shape == (0, 4, 5)
    assert rle.encode(torch.zeros((0, 4, 5), dtype=torch.bool)) == []


def test_bounding_box_is_xywh():
    mask = torch.zeros((1, 9, 9), dtype=torch.bool)
    mask[0, 2:4, 3:8] = True
    assert rle.bounding_box(rle.encode(mask)[0]) == [3, 2, 5, 2]
    assert rle.bounding_box(rle.encode(mask & False)[0]) == [0, 0, 0, 0]


def test_polygon_of_two_parts():
    item = rle.from_polygons([[0, 0, 4, 0, 4, 4, 0, 4], [6.0, 6.0, 8.0, 6.0, 8.0, 8.0, 6.0, 8.0]], (10, 10))
    expected = torch.zeros((10, 10), dtype=torch.bool)
    expected[:4, :4] = expected[6:8, 6:8] = True
    assert torch.equal(rle.decode([item], (10, 10))[0], expected)


def test_uncompressed_runs_with_a_hole():
    ring = torch.ones((5, 5), dtype=torch.bool)
    ring[2, 2] = False
    assert torch.equal(rle.decode([rle.from_runs([0, 12, 1, 12], (5, 5))], (5, 5))[0], ring)


@pytest.mark.parametrize(
    "polygons",
    [
        [[0, 0, 4, 0]],
        [[]],
        [[0, 0, 4, 0, 4]],
        [[0, 0, 4, 0, float("nan"), 4]],
        [[0, 0, 4, 0, float("inf"), 4]],
        [[0, 0, 4, 0, 10**400, 4]],
        [[0, 0, 4, 0, 5000, 4]],
        [[0, 0, 4, 0, "4", 4]],
        [[0, 0, 4, 0, True, 4]],
        [0, 0, 4, 0, 4, 4],
        [{"x": 1}],
    ],
)
def test_polygons_that_are_none(polygons):
    with pytest.raises(ValueError, match="expected"):
        rle.from_polygons(polygons, (10, 10))


@pytest.mark.parametrize("runs", [[25, 1], [-1, 26], [12.5, 12.5], ["25"], [True, 24], []])
def test_runs_that_are_none(runs):
    with pytest.raises(ValueError, match="expected RLE counts"):
        rle.from_runs(runs, (5, 5))


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (300, 400)])
def test_every_encoded_mask_is_sound(size):
    masks = random_masks(40, size)
    counts = [item["counts"] for item in rle.encode(masks)]
    assert rle.sound(counts, [size[0] * size[1]] * 40).all()
    assert not rle.sound(counts, [size[0] * size[1] + 1] * 40).any()


def test_damaged_counts_are_found_among_sound_ones():
    fine = rle.encode(random_masks(3, (30, 40)))[2]["counts"]
    damaged = [
        "",
        "é",
        "~~~",
        "P",
        "0",
        ";;;;",
        "zz",
        fine[:-1],
        fine + "1",
        " " + fine,
        "\x00",
        "oooooooooo0",
        "1A",
    ]
    counts = [fine, *(text for bad in damaged for text in (bad, fine))]
    expected = [True, *([False, True] * len(damaged))]
    assert rle.sound(counts, [1200] * len(counts)).tolist() == expected
    assert rle.sound([], []).tolist() == []


def test_sound_agrees_with_decoding_run_by_run():
    """Mutated strings: sound exactly if an own reading of pycocotools' C code gives runs of the right sum."""

    def reads(text, pixels):
        runs, position = [], 0
        while position < len(text):
            value, k, more = 0, 0, True
            while more:
                if position == len(text):
                    return False
                code = ord(text[position]) - 48
                if not 0 <= code < 64 or k > 5:
                    return False
                value |= (code & 31) << (5 * k)
                more = bool(code & 32)
                position, k = position + 1, k + 1
                if not more and code & 16:
                    value |= -1 << (5 * k)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        return bool(runs) and min(runs) >= 0 and sum(runs) == pixels

    rng = np.random.default_rng(5)
    texts = [item["counts"] for item in rle.encode(random_masks(30, (9, 11)))]
    mutated = []
    for text in texts * 40:
        letters = list(text)
        for _ in range(int(rng.integers(0, 3))):
            letters[int(rng.integers(len(letters)))] = chr(int(rng.integers(46, 114)))
        mutated.append("".join(letters))
    expected = [reads(text, 99) for text in mutated]
    assert rle.sound(mutated, [99] * len(mutated)).tolist() == expected
    assert 50 < sum(expected) < len(expected) - 50


def test_pixels_and_contains_say_what_decoding_says():
    masks = random_masks(12, (9, 14))
    rows, columns = np.mgrid[:9, :14] + 0.25
    everywhere = np.stack([columns.ravel(), rows.ravel()], 1)
    for mask, item in zip(masks, rle.encode(masks), strict=True):
        assert rle.contains(item, everywhere).reshape(9, 14).tolist() == mask.tolist()
        assert sorted(map(tuple, rle.pixels(item)[:, ::-1])) == list(map(tuple, mask.nonzero().numpy()))
        assert rle.run_ends(item)[-1] == 9 * 14


def center(item):
    return rle._center_of_mass(rle.run_ends(item), item["size"][0])


def test_center_of_mass_is_the_mean_index_and_a_half():
    for mask, item in zip(masks := random_masks(20, (13, 17)), rle.encode(masks), strict=True):
        rows, columns = (axis.double() for axis in mask.nonzero(as_tuple=True))
        if len(rows):
            expected = (float(columns.mean()) + 0.5, float(rows.mean()) + 0.5)
            assert center(item) == pytest.approx(expected, abs=1e-12)
        else:
            assert center(item) is None


def test_runs_of_large_masks():
    mask = torch.zeros((1, 3000, 2000), dtype=torch.bool)
    mask[0, 100:2900, 50:1990] = True
    mask[0, 1000:1200] = False
    (item,) = rle.encode(mask)
    assert len(rle.pixels(item)) == mask.sum()
    assert rle.inner_point(item) is not None


def test_inner_point_is_the_center_or_the_nearest_pixel_of_the_mask():
    masks = torch.zeros((4, 9, 9), dtype=torch.bool)
    masks[0, 2:5, 3:7] = True
    masks[1, 0, 8] = True
    masks[2] = True
    masks[2, 2:7, 2:7] = False
    square, one, ring, nothing = rle.encode(masks)
    assert rle.inner_point(square) == (5.0, 3.5)
    assert rle.inner_point(one) == (8.5, 0.5)
    x, y = rle.inner_point(ring)
    assert masks[2, int(y), int(x)]
    assert abs(x - 4.5) + abs(y - 4.5) == 3
    assert rle.inner_point(nothing) is None


def test_pycocotools_itself_does_not_notice():
    """Why `sound` exists; when this fails, pycocotools checks and `sound` may go."""
    assert mask_api.area({"size": [8, 8], "counts": ";;;;"}) != 64
