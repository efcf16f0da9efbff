"""wssis.losses."""

from __future__ import annotations

import pytest
import torch

from wssis.losses import dice_loss, focal_loss_sum, solov2_loss


def test_dice_formula(parity):
    out = dice_loss(parity["dice/pred"], parity["dice/target"])
    torch.testing.assert_close(out, parity["dice/out"], rtol=1e-5, atol=1e-6)


def test_focal_formula(parity):
    out = focal_loss_sum(parity["focal/logits"], parity["focal/target"])
    torch.testing.assert_close(out, parity["focal/out"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tag", ["separate", "overlap", "shared"])
def test_loss_normalisation(parity, tag):
    loss = solov2_loss(parity.raw("loss"), parity.targets(tag, shared="all"))
    torch.testing.assert_close(loss["mask"], parity[f"loss/{tag}/mask_loss"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss["category"], parity[f"loss/{tag}/class_loss"], rtol=1e-5, atol=1e-6)
