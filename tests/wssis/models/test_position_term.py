"""The position term, about the cell and folded, against the formula in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.wssis.conftest import random_raw
from wssis.models.position_term import (
    add_position,
    cell_frames,
    folded_position,
    position_at,
    position_basis,
    position_factors,
)
from wssis.models.raw_maps import RawMaps

SIZE, GRIDS, MASK = (96, 160), ((12, 20), (3, 5)), (24, 40)
CPU = torch.device("cpu")


def expected(local: Tensor, cell: tuple[float, float, float]) -> Tensor:
    """a1 dx + a2 dy + a3 dx^2 + a4 dy^2 + a5 dx dy + b with dx = (x - u) / s, in float64."""
    u, v, s = cell
    dx = (((torch.arange(40, dtype=torch.float64) + 0.5) * 4 - u) / s)[None, :]
    dy = (((torch.arange(24, dtype=torch.float64) + 0.5) * 4 - v) / s)[:, None]
    a = local.double()
    return a[0] * dx + a[1] * dy + a[2] * dx**2 + a[3] * dy**2 + a[4] * dx * dy + a[5]


@pytest.mark.parametrize(
    ("number", "cell"),
    [
        (0, (4.0, 4.0, 16.0)),  # two cells of 8 px are s
        (3 * 20 + 7, (60.0, 28.0, 16.0)),
        (240, (16.0, 16.0, 64.0)),  # the second level's first
        (254, (144.0, 80.0, 64.0)),
    ],
)
def test_all_forms_are_the_local_quadratic(number: int, cell: tuple[float, float, float]) -> None:
    local = torch.randn(255, 6, generator=torch.Generator().manual_seed(0))
    frames = cell_frames(GRIDS, SIZE, CPU)
    assert frames[number].tolist() == list(cell)
    wanted = expected(local[number], cell)
    about = add_position(torch.ones(255, *MASK), position_factors(local, frames, MASK, SIZE))[number] - 1
    torch.testing.assert_close(about.double(), wanted, rtol=1e-5, atol=1e-5)
    basis = position_basis(MASK, SIZE, CPU)
    folded = torch.einsum("tc,chw->thw", folded_position(local, frames, SIZE), basis)
    torch.testing.assert_close(folded[number].double(), wanted, rtol=1e-4, atol=1e-4)
    x, y = torch.tensor([2.0, 78.0]), torch.tensor([2.0, 50.0])
    at = position_at(local, frames, x, y)[number]
    torch.testing.assert_close(at.double(), wanted[[0, 12], [0, 19]], rtol=1e-5, atol=1e-5)


def test_an_edge_is_sharp_far_from_the_middle_of_a_large_image() -> None:
    """2048 px and 4 px cells: folded terms are of tens of thousands there, and cancel."""
    local = torch.tensor([[0.0, 0.0, -1.0, -1.0, 0.0, 1.0]])
    frames = cell_frames(((512, 512),), (2048, 2048), CPU)[500 * 512 + 500][None]
    factors = position_factors(local, frames, (512, 512), (2048, 2048))
    logits = add_position(torch.zeros(1, 512, 512), factors)[0]
    assert logits[500, 500] == pytest.approx(1, abs=1e-6)
    assert logits[500, 502] == pytest.approx(0, abs=1e-6)
    assert logits[498, 500] == pytest.approx(0, abs=1e-6)


def with_position(seed: int) -> RawMaps:
    raw = random_raw(seed, batch=2)
    position = torch.randn(2, raw.kernels.shape[1], 6, generator=torch.Generator().manual_seed(seed + 1))
    return replace(raw, position=position, frames=cell_frames(raw.grids, raw.image_size, CPU))


def test_raw_maps_say_the_same_in_each_way_they_can_be_asked() -> None:
    raw = with_position(0)
    cells = torch.tensor([[3, 97, 123], [50, 5, 96]])
    rows, columns = torch.tensor([[0, 7], [15, 3]]), torch.tensor([[0, 11], [23, 4]])
    at = raw.logits_at(1, cells, rows, columns)
    kernels, features = raw.folded()
    for i in range(2):
        masks = raw.mask_logits(1, cells[i])
        torch.testing.assert_close(at[i], masks[:, rows[i], columns[i]], rtol=1e-4, atol=1e-4)
        folded = torch.einsum("nc,chw->nhw", kernels[1, cells[i]], features[1])
        torch.testing.assert_close(folded, masks, rtol=1e-3, atol=1e-3)
        alone = raw.mask_logits(1, cells[i, :1])
        assert torch.equal(alone[0], masks[0])  # however many are asked with it
        strips = list(raw.mask_strips(1, cells[i], 7))
        assert [(rows.start, rows.stop) for rows, _ in strips] == [(0, 7), (7, 14), (14, 21)]
        torch.testing.assert_close(torch.cat([strip for _, strip in strips], 1), masks)
    batch = raw.logits_of(raw.kernels[:, cells[0]], raw.position[:, cells[0]], cells[:1].expand(2, 3))
    assert torch.equal(batch[1], raw.mask_logits(1, cells[0]))


def test_without_a_term_nothing_is_folded() -> None:
    raw = random_raw()
    kernels, features = raw.folded()
    assert kernels is raw.kernels
    assert features is raw.features


def test_gradients_of_the_folded_form_reach_the_terms() -> None:
    raw = with_position(2)
    assert raw.position is not None
    raw.position.requires_grad_()
    kernels, _ = raw.folded()
    kernels.sum().backward()
    assert raw.position.grad is not None
    assert (raw.position.grad != 0).any(dim=(0, 1)).all()
