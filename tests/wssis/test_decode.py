"""wssis.decode."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from wssis.decode import DecodeSettings, decode, mask_nms, matrix_nms, point_nms

SETTINGS = DecodeSettings(area_strides=(8, 8, 16, 32, 32))


def test_point_nms_looks_up_and_left(parity):
    assert torch.equal(point_nms(parity["point_nms/heat"]), parity["point_nms/out"])


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_matrix_nms_formula(parity, kernel):
    out = matrix_nms(parity["nms/masks"], parity["nms/classes"], parity["nms/scores"], kernel)
    torch.testing.assert_close(out, parity[f"nms/matrix_{kernel}"], rtol=1e-5, atol=1e-6)


def test_mask_nms_is_greedy(parity):
    keep = mask_nms(parity["nms/masks"], parity["nms/classes"], parity["nms/scores"])
    assert torch.equal(keep, parity["nms/mask_keep"])


RUNS = {
    "matrix": SETTINGS,
    "matrix_capped": replace(SETTINGS, pre_nms=25, max_detections=8),
    "matrix_linear": replace(SETTINGS, nms="linear"),
    "mask": replace(SETTINGS, nms="mask"),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("image", [0, 1])
def test_decode_is_the_papers_inference(parity, run, image):
    image_hw, out_hw = (tuple(parity[f"infer/{name}"][image].tolist()) for name in ("image_hw", "out_hw"))
    out = decode(parity.raw("infer"), image, image_hw, out_hw, RUNS[run])
    torch.testing.assert_close(out.scores, parity[f"infer/{run}/scores_{image}"], rtol=1e-5, atol=1e-6)
    assert torch.equal(out.labels, parity[f"infer/{run}/classes_{image}"])
    if f"infer/{run}/masks_{image}" in parity:
        assert torch.equal(out.masks, parity[f"infer/{run}/masks_{image}"])
