"""Crops: windows, cutting, pasting back, and the points' Gaussians (parity fixture 9)."""

import pytest
import torch

from wssis.ops.crops import boxes_with_points, crop_windows, cut, cut_each, gaussian_maps, paste, point_maps


def square_mask(size: int = 64, x0: int = 20, y0: int = 10, side: int = 12) -> torch.Tensor:
    mask = torch.zeros((1, size, size), dtype=torch.bool)
    mask[:, y0 : y0 + side, x0 : x0 + side] = True
    return mask


def test_windows_are_square_scaled_and_hold_the_point() -> None:
    mask = square_mask()
    inside = crop_windows(mask, torch.tensor([[26.0, 16.0]]), 2.0, 8.0)
    torch.testing.assert_close(inside, torch.tensor([[14.0, 4.0, 38.0, 28.0]]))
    far = crop_windows(mask, torch.tensor([[60.0, 60.0]]), 2.0, 8.0)[0]
    assert far[0] < 60 < far[2]
    assert far[1] < 60 < far[3]
    assert far[2] - far[0] == far[3] - far[1]


def test_an_empty_and_a_one_pixel_mask_have_windows() -> None:
    masks = torch.zeros((2, 64, 64), dtype=torch.bool)
    masks[1, 5, 7] = True
    points = torch.tensor([[30.5, 40.5], [7.5, 5.5]])
    assert boxes_with_points(masks, points).tolist() == [[30, 40, 31, 41], [7, 5, 8, 6]]
    windows = crop_windows(masks, points, 2.0, 16.0)
    assert ((windows[:, 2:] - windows[:, :2]) == 16).all()


def test_pasting_undoes_cutting() -> None:
    mask = square_mask()
    window = crop_windows(mask, torch.tensor([[26.0, 16.0]]), 2.0, 8.0)
    crop = cut_each(mask, window, 48)
    back = paste(crop, window, (64, 64)) > 0.5
    assert torch.equal(back, mask)


def test_a_window_over_the_border_reads_zero_and_pastes_inside_only() -> None:
    image = torch.ones(1, 32, 32)
    window = torch.tensor([[-16.0, -16.0, 16.0, 16.0]])
    crop = cut(image, window, 32)
    assert crop[0, 0, :15, :15].eq(0).all()
    assert crop[0, 0, 18:, 18:].eq(1).all()
    pasted = paste(torch.ones(1, 8, 8), window, (32, 32))[0]
    assert pasted[:16, :16].eq(1).all()
    assert pasted[17:, :].eq(0).all()


def test_cut_each_takes_each_objects_own_mask() -> None:
    masks = torch.cat([square_mask(), ~square_mask()])
    windows = torch.tensor([[20.0, 10.0, 32.0, 22.0]] * 2)
    crops = cut_each(masks, windows, 8)
    assert crops[0].gt(0.8).all()
    assert crops[1].lt(0.2).all()


def test_gaussians_match_the_reference(parity) -> None:
    """exp(-((X - x)^2 + (Y - y)^2) / (2 sigma^2)), cut at 3 sigma + 1."""
    sigma = float(parity["centre_map/sigma"])
    points = torch.as_tensor(parity["centre_map/points_xy"]).float()
    expected = torch.as_tensor(parity["centre_map/out"])
    torch.testing.assert_close(gaussian_maps(points, (64, 80), sigma), expected, rtol=1e-5, atol=1e-6)
    same = torch.as_tensor(parity["centre_map/same_class_points_xy"]).float()
    merged = gaussian_maps(same, (64, 80), sigma).amax(0)
    torch.testing.assert_close(
        merged, torch.as_tensor(parity["centre_map/same_class_out"]), rtol=1e-5, atol=1e-6
    )


def test_its_own_point_and_those_of_others_are_told_apart() -> None:
    points = torch.tensor([[8.0, 8.0], [24.0, 8.0]])
    windows = torch.tensor([[0.0, 0.0, 32.0, 32.0]] * 2)
    maps = point_maps(points, torch.arange(2), windows, 32, 2.0)
    assert maps.shape == (2, 2, 32, 32)
    for own, other, crop in (((8, 8), (8, 24), 0), ((8, 24), (8, 8), 1)):
        assert maps[crop, 0][own] > 0.9
        assert maps[crop, 0][other] == pytest.approx(0)
        assert maps[crop, 1][other] > 0.9
        assert maps[crop, 1][own] == pytest.approx(0)


def test_no_object_and_one_object() -> None:
    none = point_maps(torch.zeros(0, 2), torch.arange(0), torch.zeros(0, 4), 16, 2.0)
    assert none.shape == (0, 2, 16, 16)
    assert cut_each(torch.zeros((0, 9, 9), dtype=torch.bool), torch.zeros(0, 4), 16).shape == (0, 16, 16)
    window = torch.tensor([[0.0, 0, 8, 8]])
    one = point_maps(torch.tensor([[4.0, 4.0]]), torch.arange(1), window, 16, 2.0)
    assert one[0, 1].eq(0).all()


def test_further_clicks_join_the_own_point_or_the_others() -> None:
    points, rows = torch.tensor([[8.0, 8.0], [24.0, 24.0]]), torch.arange(2)
    windows = torch.tensor([[0.0, 0.0, 32.0, 32.0]]).expand(2, 4)
    plain = point_maps(points, rows, windows, 32, 2.0)
    clicks = torch.tensor([[0.0, 20.5, 8.5, 1.0], [0.0, 8.5, 20.5, 0.0]])
    maps = point_maps(points, rows, windows, 32, 2.0, clicks)
    assert torch.equal(maps[1], plain[1])
    assert torch.equal(maps >= plain, torch.ones_like(maps, dtype=torch.bool))
    assert maps[0, 0, 8, 20] == maps[0, 1, 20, 8] == 1
    assert plain[0, 0, 8, 20] == plain[0, 1, 20, 8] == 0
    assert torch.equal(point_maps(points, rows, windows, 32, 2.0, torch.zeros(0, 4)), plain)
