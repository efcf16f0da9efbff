"""wssis.targets and wssis.masks: centres, boxes, smaller masks, and which cell learns which object."""

from __future__ import annotations

import pytest
import torch

from wssis.targets import centre_of_mass, downscale_masks


def test_centre_of_mass_is_the_mean_index_of_the_foreground(parity):
    out = centre_of_mass(parity["center_of_mass/masks"])
    torch.testing.assert_close(out, parity["center_of_mass/out_xy"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tag", ["a", "b", "c"])
def test_downscale_is_the_bilinear_half_rule(parity, tag):
    masks, expected = parity[f"downscale/{tag}_masks"], parity[f"downscale/{tag}_out"]
    size = (expected.shape[1], expected.shape[2])
    assert torch.equal(downscale_masks(masks, size, exact=True), expected)
    assert (downscale_masks(masks, size) != expected).sum() <= 1


@pytest.mark.parametrize("tag", ["separate", "overlap", "shared"])
def test_all_assigns_as_the_paper_does(parity, tag):
    targets = parity.targets(tag, shared="all")
    category = torch.cat([parity[f"targets/{tag}/cate_{level}"].flatten(1) for level in range(5)], 1)
    assert torch.equal(targets.category, category)
    pos = parity[f"targets/{tag}/pos"]
    offsets = torch.tensor([0, 144, 244, 308, 344])
    assert torch.equal(targets.image, pos[:, 1])
    assert torch.equal(targets.cell, offsets[pos[:, 0]] + pos[:, 2])
    assert torch.equal(targets.instance, pos[:, 3])
    assert targets.num_cells == int(parity[f"targets/{tag}/num_cells"])
    for i in (0, 1):
        assert torch.equal(targets.masks[i], parity[f"targets/{tag}/small_{i}"])
