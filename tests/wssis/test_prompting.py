"""wssis.prompting."""

from __future__ import annotations

import pytest
import torch

from wssis.decode import DecodeSettings
from wssis.prompting import paper_prompt, prompt

SETTINGS = DecodeSettings(area_strides=(8, 8, 16, 32, 32))


def test_level_choice_is_category_times_maskness(parity):
    raw = parity.raw("point")
    out = prompt(raw, 0, parity["point/points_xy"], parity["point/classes"], own_point=False)
    torch.testing.assert_close(
        out.level_scores, parity["point/level_scores_recomputed"], rtol=1e-5, atol=1e-6
    )
    level, row, column = parity["point/chosen"].unbind(1)
    assert torch.equal(out.level, level)
    offsets = torch.tensor(raw.level_offsets())
    widths = torch.tensor([columns for _, columns in raw.grids])
    expected = torch.where(level < 0, -1, offsets[level] + row * widths[level] + column)
    assert torch.equal(out.cell, expected)


@pytest.mark.parametrize("run", ["mask_nms", "matrix_nms", "mask_nms_resized"])
def test_paper_prompt_drops_points_as_the_paper_does(parity, run):
    settings = DecodeSettings(
        area_strides=(8, 8, 16, 32, 32), nms="matrix" if run == "matrix_nms" else "mask"
    )
    hw, out_hw = parity.pair("point/image_hw"), parity.pair(f"point/{run}/out_hw")
    out, index = paper_prompt(
        parity.raw("point"), 0, parity["point/points_xy"], parity["point/classes"], hw, out_hw, settings
    )
    assert torch.equal(index, parity[f"point/{run}/point_index"])
    torch.testing.assert_close(out.scores, parity[f"point/{run}/scores"], rtol=1e-5, atol=1e-6)
    assert torch.equal(out.masks, parity[f"point/{run}/masks"])
