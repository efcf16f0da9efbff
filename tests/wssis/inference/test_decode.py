"""wssis.inference.decode and wssis.ops.nms."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wssis.inference import decode as decode_module
from wssis.inference.decode import mask_nms, mask_quality, matrix_nms, point_nms, resize_masks
from wssis.instances import Instances
from wssis.ops import nms
from wssis.settings import DecodeSettings

PAPER = DecodeSettings(area_strides=(8, 8, 16, 32, 32))


def decode(*given) -> Instances:
    """The instances alone, without the number that `max_detections` left out."""
    return decode_module.decode(*given)[0]


def discs(count: int, seed: int, size: tuple[int, int] = (24, 32)) -> Tensor:
    u = torch.rand((count, 3), generator=torch.Generator().manual_seed(seed))
    y, x = torch.arange(size[0])[:, None], torch.arange(size[1])
    return torch.stack(
        [(x - a * size[1]) ** 2 + (y - b * size[0]) ** 2 < (3 + 9 * c) ** 2 for a, b, c in u.tolist()]
    )


# Point NMS


def test_point_nms_looks_up_and_left(parity):
    assert torch.equal(point_nms(parity["point_nms/heat"]), parity["point_nms/out"])


# NMS of masks


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
def test_matrix_nms_formula(parity, kernel):
    out = matrix_nms(parity["nms/masks"], parity["nms/classes"], parity["nms/scores"], kernel)
    torch.testing.assert_close(out, parity[f"nms/matrix_{kernel}"], rtol=1e-5, atol=1e-6)


def test_mask_nms_is_greedy(parity):
    keep = mask_nms(parity["nms/masks"], parity["nms/classes"], parity["nms/scores"])
    assert torch.equal(keep, parity["nms/mask_keep"])


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@pytest.mark.parametrize("classes", [1, 4])
def test_matrix_nms_is_the_loop_over_pairs(kernel, classes):
    masks = discs(40, 0)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (40,), generator=generator)
    scores = torch.rand(40, generator=generator).sort(descending=True)[0]
    iou = torch.zeros(40, 40)
    for i in range(40):
        for j in range(i + 1, 40):
            if labels[i] == labels[j]:
                iou[i, j] = (masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum()
    expected = scores.clone()
    for j in range(40):
        for i in range(j):
            u, c = iou[i, j], iou[:, i].max()
            decay = torch.exp(-2 * (u**2 - c**2)) if kernel == "gaussian" else (1 - u) / (1 - c)
            expected[j] = min(expected[j], scores[j] * decay)
    assert (expected < 0.9 * scores).any()
    torch.testing.assert_close(matrix_nms(masks, labels, scores, kernel), expected)


def test_blocks_by_class_and_one_block_say_the_same(monkeypatch):
    masks, labels = discs(60, 1), torch.arange(60) % 5
    scores = torch.linspace(1, 0.1, 60)
    split = [matrix_nms(masks, labels, scores), matrix_nms(masks, labels, scores, "linear")]
    kept = mask_nms(masks, labels, scores)
    original = nms.overlaps
    monkeypatch.setattr(nms, "overlaps", lambda masks, labels, by_class: original(masks, labels, False))
    torch.testing.assert_close(matrix_nms(masks, labels, scores), split[0])
    torch.testing.assert_close(matrix_nms(masks, labels, scores, "linear"), split[1])
    assert torch.equal(mask_nms(masks, labels, scores), kept)


def test_linear_matrix_nms_of_copies_is_no_nan():
    """Three copies of a mask: the reference gives NaN (0 / 0)."""
    masks, labels = discs(1, 0).expand(3, -1, -1), torch.zeros(3, dtype=torch.int64)
    out = matrix_nms(masks, labels, torch.tensor([0.9, 0.8, 0.7]), "linear")
    assert out.tolist() == pytest.approx([0.9, 0, 0])


def test_mask_nms_lets_live_what_only_a_dropped_mask_covers():
    strip = torch.zeros((4, 1, 40), dtype=torch.bool)
    for i, mask in enumerate(strip):
        mask[0, 3 * i : 3 * i + 10] = True  # IoU 7/13 with the next, 4/16 with the one after
    keep = mask_nms(strip, torch.zeros(4, dtype=torch.int64), torch.tensor([0.9, 0.8, 0.7, 0.6]))
    assert keep.tolist() == [True, False, True, False]
    other_class = mask_nms(strip, torch.tensor([0, 1, 2, 3]), torch.tensor([0.9, 0.8, 0.7, 0.6]))
    assert other_class.all()


def test_nms_of_none_and_of_one():
    for count in (0, 1):
        masks, labels, scores = (
            discs(1, 0)[:count],
            torch.zeros(count, dtype=torch.int64),
            torch.full((count,), 0.5),
        )
        assert torch.equal(matrix_nms(masks, labels, scores), scores)
        assert torch.equal(matrix_nms(masks, labels, scores, "linear"), scores)
        assert mask_nms(masks, labels, scores).tolist() == [True] * count


# Mask scores


def test_mask_quality_is_area_and_mean_inside(make_raw, monkeypatch):
    raw = make_raw()
    cells = torch.randint(0, raw.kernels.shape[1], (37,), generator=torch.Generator().manual_seed(0))
    probs = raw.mask_logits(0, cells).sigmoid()
    inside = probs > 0.7
    area = inside.flatten(1).sum(1)
    maskness = (probs * inside).flatten(1).sum(1) / area.clamp(min=1)
    for strip, most in ((1, 1), (100, 5), (1 << 10, 1 << 12)):
        monkeypatch.setattr(decode_module, "_STRIP", strip)
        monkeypatch.setattr(decode_module, "_CELLS", most)
        into = torch.empty_like(probs)
        got = mask_quality(raw, 0, cells, 0.7, into=into)
        assert torch.equal(got[0], area.float())
        torch.testing.assert_close(got[1], maskness)
        torch.testing.assert_close(into, probs)
        assert all(map(torch.equal, mask_quality(raw, 0, cells, 0.7), got))
    assert [len(x) for x in mask_quality(raw, 0, cells[:0])] == [0, 0]


# Resize


def test_resize_to_the_padded_size_cut_and_to_the_output():
    probs = torch.rand((7, 10, 12), generator=torch.Generator().manual_seed(0))
    large = F.interpolate(probs[None], (40, 48), mode="bilinear", align_corners=False)[:, :, :37, :41]
    torch.testing.assert_close(resize_masks(probs, (40, 48), (37, 41), (37, 41)), large[0])
    expected = F.interpolate(large, (50, 30), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(resize_masks(probs, (40, 48), (37, 41), (50, 30)), expected)
    masks = resize_masks(probs, (40, 48), (37, 41), (50, 30), threshold=0.5)
    assert torch.equal(masks, expected > 0.5)
    assert resize_masks(probs[:0], (40, 48), (37, 41), (50, 30), 0.5).shape == (0, 50, 30)


def test_resize_holds_few_masks_at_once(monkeypatch):
    probs = torch.rand((40, 10, 12))
    whole = resize_masks(probs, (40, 48), (37, 41), (50, 30))
    held, original = [], F.interpolate

    def watched(*args, **kwargs):
        out = original(*args, **kwargs)
        held.append(out.numel())
        return out

    monkeypatch.setattr(decode_module, "_RESIZE_CHUNK", 5000)
    monkeypatch.setattr(F, "interpolate", watched)
    torch.testing.assert_close(resize_masks(probs, (40, 48), (37, 41), (50, 30)), whole)
    assert max(held) <= 5000


# Decoding

RUNS = {
    "matrix": PAPER,
    "matrix_capped": replace(PAPER, pre_nms=25, max_detections=8),
    "matrix_linear": replace(PAPER, nms="linear"),
    "mask": replace(PAPER, nms="mask"),
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


def squares() -> Tensor:
    masks = torch.zeros((3, 16, 16), dtype=torch.bool)
    masks[0, 1:5, 1:5] = masks[1, 9:15, 2:8] = masks[2, 4:12, 9:15] = True
    return masks


def test_decode_finds_what_the_maps_hold(make_scene):
    raw = make_scene(squares(), labels=[0, 2, 0], cells=[9, 64 + 9, 30], sure=[3.0, 5.0, 4.0])
    out = decode(raw, 0, (60, 64), (60, 64), DecodeSettings())
    assert out.labels.tolist() == [2, 0, 0]
    assert out.labels.dtype == torch.int64
    probs = torch.sigmoid(torch.tensor([5.0, 4.0, 3.0]))
    torch.testing.assert_close(out.scores, probs * probs)
    assert out.size == (60, 64)
    center = [(48, 20), (32, 48), (12, 12)]
    assert all(mask[y, x] for mask, (y, x) in zip(out.masks, center, strict=True))
    assert [round(mask.sum().item() / 16) for mask in out.masks] == pytest.approx([36, 48, 16], abs=2)


def test_decode_without_candidates(make_scene):
    raw = make_scene(squares()[:0], labels=[], cells=[])
    out = decode(raw, 0, (60, 64), (30, 32), DecodeSettings())
    assert (len(out), out.size, tuple(out.masks.shape)) == (0, (30, 32), (0, 30, 32))
    assert out.labels.dtype == torch.int64
    assert out.scores.shape == (0,)
    empty_masks = make_scene(torch.zeros_like(squares()), labels=[0, 1, 2], cells=[0, 9, 30])
    assert len(decode(empty_masks, 0, (60, 64), (30, 32), DecodeSettings())) == 0


def test_a_cell_may_hold_two_classes(make_scene):
    raw = make_scene(squares()[:1], labels=[0], cells=[9])
    raw.category[0, 9, 2] = 2.0
    out = decode(raw, 0, (64, 64), (64, 64), DecodeSettings())
    assert out.labels.tolist() == [0, 2]
    assert torch.equal(out.masks[0], out.masks[1])


def test_decode_settings_do_what_they_say(make_scene):
    raw = make_scene(squares(), labels=[0, 2, 0], cells=[9, 64 + 9, 30], sure=[3.0, 5.0, 4.0])

    def count(**options) -> int:
        return len(decode(raw, 0, (64, 64), (64, 64), DecodeSettings(**options)))

    assert count() == 3
    assert count(score_threshold=0.97) == 2
    assert count(mask_threshold=0.97) == 2
    assert count(area_strides=(15.0, 36.0)) == 2  # an area equal to the stride is dropped
    assert count(area_strides=(16.0, 35.0)) == 2
    assert count(pre_nms=1) == 1
    assert count(max_detections=2) == 2
    assert count(keep_threshold=0.95) == 2
    with pytest.raises(ValueError, match="expected one for each of 2 levels, got 5"):
        count(area_strides=PAPER.area_strides)


@pytest.mark.parametrize(
    "change",
    [
        {"score_threshold": -0.1},
        {"mask_threshold": 50.0},
        {"keep_threshold": float("nan")},
        {"pre_nms": 0},
        {"max_detections": -1},
        {"sigma": -2.0},
        {"area_strides": (8.0, -1.0)},
    ],
)
def test_decode_settings_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        DecodeSettings(**change)


def test_copies_are_dropped_and_other_classes_stay(make_scene):
    same = squares()[:1].expand(3, -1, -1)
    raw = make_scene(same, labels=[1, 1, 2], cells=[9, 64, 30], sure=[4.0, 5.0, 3.0])
    for name in ("matrix", "linear", "mask"):
        out = decode(raw, 0, (64, 64), (64, 64), DecodeSettings(nms=name, keep_threshold=0.2))
        assert out.labels.tolist() == [1, 2], name


def test_hundreds_of_objects(make_scene):
    masks = torch.zeros((369, 80, 80), dtype=torch.bool)
    for i, mask in enumerate(masks):
        y, x = divmod(i, 20)
        mask[4 * y : 4 * y + 3, 4 * x : 4 * x + 3] = True
    raw = make_scene(masks, labels=[0] * 369, cells=list(range(0, 3 * 369, 3)), grids=((40, 40),), classes=1)
    settings = DecodeSettings(max_detections=1000)
    out = decode(raw, 0, (320, 320), (320, 320), settings)
    assert len(out) == 369
    assert out.masks.flatten(1).any(1).all()
    few, left_out = decode_module.decode(raw, 0, (320, 320), (320, 320), DecodeSettings())
    assert (len(few), left_out) == (100, 269)
    middle = float(out.scores[49])
    above = int((out.scores >= middle).sum())
    few, left_out = decode_module.decode(
        raw, 0, (320, 320), (320, 320), DecodeSettings(max_detections=20), middle
    )
    assert (len(few), left_out) == (20, above - 20)
    shown, left_out = decode_module.decode(raw, 0, (320, 320), (320, 320), settings, middle)
    assert (len(shown), left_out) == (above, 0)
    assert torch.equal(shown.scores, out.scores[:above])


def test_nothing_of_decode_needs_a_gradient(make_raw):
    raw = make_raw()
    raw.category.requires_grad_()
    raw.kernels.requires_grad_()
    out = decode(raw, 0, (64, 96), (64, 96), DecodeSettings())
    assert len(out) > 0
    assert not out.scores.requires_grad


def test_the_images_of_a_batch_do_not_mix(make_raw):
    raw = make_raw(batch=2)
    alone = replace(raw, category=raw.category[1:], kernels=raw.kernels[1:], features=raw.features[1:])
    one, two = (decode(r, i, (64, 90), (40, 50), DecodeSettings()) for r, i in ((alone, 0), (raw, 1)))
    assert torch.equal(one.masks, two.masks)
    assert torch.equal(one.scores, two.scores)
