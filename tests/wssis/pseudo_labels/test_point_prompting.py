"""wssis.pseudo_labels.point_prompting."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wssis.inference import decode as decode_module
from wssis.models.raw_maps import RawMaps
from wssis.pseudo_labels import point_prompting as prompting_module
from wssis.pseudo_labels.point_prompting import paper_prompt, prompt
from wssis.settings import DecodeSettings

PAPER = DecodeSettings(area_strides=(8, 8, 16, 32, 32))


def random_points(count: int, classes: int = 3, size: tuple[int, int] = (64, 96)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    points = torch.rand((count, 2), generator=generator) * torch.tensor([size[1], size[0]])
    return points, torch.randint(0, classes, (count,), generator=generator)


# The paper


def test_level_choice_is_category_times_maskness(parity):
    raw = parity.raw("point")
    points, classes = parity["point/points_xy"], parity["point/classes"]
    out = prompt(raw, 0, points, classes, own_point=False, every_level=True)
    expected = parity["point/level_scores_recomputed"]
    torch.testing.assert_close(out.level_scores, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(out.score, expected.amax(1), rtol=1e-5, atol=1e-6)
    level, row, column = parity["point/chosen"].unbind(1)
    assert torch.equal(out.level, level)
    offsets = torch.tensor(raw.level_offsets())
    widths = torch.tensor([columns for _, columns in raw.grids])
    cell = torch.where(level < 0, -1, offsets[level] + row * widths[level] + column)
    assert torch.equal(out.cell, cell)


def test_one_level_alone_can_be_asked(parity):
    raw, points, classes = parity.raw("point"), parity["point/points_xy"], parity["point/classes"]
    every = prompt(raw, 0, points, classes, own_point=False, every_level=True)
    for level in range(len(raw.grids)):
        out = prompt(raw, 0, points, classes, own_point=False, level=level)
        assert set(out.level.tolist()) <= {-1, level}
        assert torch.equal(out.score, every.level_scores[:, level])


@pytest.mark.parametrize("run", ["mask_nms", "matrix_nms", "mask_nms_resized"])
def test_paper_prompt_drops_points_as_the_paper_does(parity, run):
    settings = DecodeSettings(
        area_strides=PAPER.area_strides, nms="matrix" if run == "matrix_nms" else "mask"
    )
    hw, out_hw = parity.pair("point/image_hw"), parity.pair(f"point/{run}/out_hw")
    raw, points, classes = parity.raw("point"), parity["point/points_xy"], parity["point/classes"]
    out, index = paper_prompt(raw, 0, points, classes, hw, out_hw, settings)
    assert torch.equal(index, parity[f"point/{run}/point_index"])
    assert torch.equal(out.labels, classes[index])
    torch.testing.assert_close(out.scores, parity[f"point/{run}/scores"], rtol=1e-5, atol=1e-6)
    assert torch.equal(out.masks, parity[f"point/{run}/masks"])


def test_the_default_answers_points_that_the_paper_drops(parity):
    """Of ten points the paper's run answers seven; only point 9 has no mask at any level."""
    raw, points, classes = parity.raw("point"), parity["point/points_xy"], parity["point/classes"]
    out = prompt(raw, 0, points, classes)
    assert len(parity["point/mask_nms/point_index"]) == 7
    assert (out.probs > 0.5).flatten(1).any(1).tolist() == [True] * 9 + [False]


# Against a loop over points, levels and neighbors


def loop_prompt(
    raw: RawMaps, points: Tensor, labels: Tensor, own_point: bool, neighbors: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Level scores (N, L), chosen cell (N,) and mask (N, Hm, Wm), one mask at a time."""
    height, width = raw.image_size
    all_scores, cells, masks = [], [], []
    for index, ((x, y), label) in enumerate(zip(points.tolist(), labels.tolist(), strict=True)):
        best, scores = (0.0, -1), []
        for (rows, columns), offset in zip(raw.grids, raw.level_offsets(), strict=False):
            row, column = int(y * rows / height), int(x * columns / width)
            found = {}
            for dy in range(-neighbors, neighbors + 1):
                for dx in range(-neighbors, neighbors + 1):
                    r, c = row + dy, column + dx
                    if not (0 <= r < rows and 0 <= c < columns):
                        continue
                    cell = offset + r * columns + c
                    p = raw.mask_logits(0, torch.tensor([cell]))[0].sigmoid()
                    inside = p > 0.5
                    score = p[inside].mean().item() if inside.any() else 0.0
                    category = raw.category[0, cell, label].sigmoid().item()
                    score = score**2 * category**0.5 if own_point else score * category
                    if own_point:
                        held = p[(points[:, 1] // 4).long(), (points[:, 0] // 4).long()] > 0.5
                        score *= 0.1 ** min(3, held.sum().item() - held[index].item())
                        place = torch.tensor([[[[2 * x / width - 1, 2 * y / height - 1]]]])
                        at = F.grid_sample(
                            p[None, None], place, mode="bilinear", padding_mode="border", align_corners=False
                        )
                        score *= max(at.item(), 1e-6)
                    found[cell] = score
            scores.append(max(found.values()))
            if scores[-1] > best[0]:
                best = (scores[-1], max(found, key=found.__getitem__))
        all_scores.append(scores)
        cells.append(best[1])
        masks.append(raw.mask_logits(0, torch.tensor([best[1]]))[0].sigmoid())
    return torch.tensor(all_scores), torch.tensor(cells), torch.stack(masks)


@pytest.mark.parametrize("own_point", [False, True])
@pytest.mark.parametrize("neighbors", [0, 1])
@pytest.mark.parametrize(("strip", "most"), [(1, 7), (1 << 10, 1 << 12)])
def test_prompt_is_the_loop_over_points_and_levels(make_raw, monkeypatch, own_point, neighbors, strip, most):
    monkeypatch.setattr(decode_module, "_STRIP", strip)
    monkeypatch.setattr(decode_module, "_CELLS", most)
    raw = make_raw(seed=3)
    points, labels = random_points(30)
    points[:4] = torch.tensor([[0.0, 0.0], [95.99, 63.99], [0.0, 63.99], [48.0, 32.0]])
    points[5] = points[4]
    scores, cells, masks = loop_prompt(raw, points, labels, own_point, neighbors)
    ask = partial(prompt, raw, 0, points, labels, own_point=own_point, neighbors=neighbors)
    out = ask(every_level=True)
    torch.testing.assert_close(out.level_scores, scores)
    torch.testing.assert_close(out.score, scores.amax(1))
    assert torch.equal(out.cell, cells)
    assert torch.equal(out.level, scores.argmax(1))
    torch.testing.assert_close(out.probs, masks)
    # Levels that cannot win are left out: the answer is the same to the last bit.
    usual = ask()
    assert all(
        torch.equal(getattr(usual, name), getattr(out, name)) for name in ("probs", "level", "cell", "score")
    )
    assert 0 < (usual.level_scores == out.level_scores).sum() < out.level_scores.numel()


@pytest.mark.parametrize("own_point", [False, True])
def test_leaving_levels_out_changes_no_answer(make_raw, own_point):
    for seed in range(20):
        raw = make_raw(seed=seed)
        raw.kernels[:, ::5] = 0  # masks that are empty
        points, labels = random_points(1 + seed)
        usual, every = (
            prompt(raw, 0, points, labels, own_point=own_point, every_level=every) for every in (False, True)
        )
        for name in ("probs", "level", "cell", "score"):
            assert torch.equal(getattr(usual, name), getattr(every, name))


# What the default does better


def blobs() -> Tensor:
    """A small square inside a large one, and one beside them, at 1/4 of 128 x 128."""
    masks = torch.zeros((3, 32, 32), dtype=torch.bool)
    masks[0, 2:26, 2:22] = masks[1, 10:16, 8:14] = masks[2, 12:20, 24:30] = True
    return masks


def test_points_of_one_cell_all_get_a_mask(make_scene):
    """The reference lets points of one class in one cell overwrite each other, and NMS drops equal masks."""
    raw = make_scene(blobs()[1:2], labels=[1], cells=[2 * 8 + 2])  # a cell of 16 px: 32..48
    raw.category[0, 2 * 8 + 2, 0] = 1.0
    points = torch.tensor([[40.0, 44.0], [44.0, 47.0], [41.0, 44.0], [40.0, 44.0]])
    labels = torch.tensor([1, 1, 0, 0])
    settings = DecodeSettings(nms="mask")
    out, index = paper_prompt(raw, 0, points, labels, (128, 128), (128, 128), settings)
    assert sorted(index.tolist()) == [0, 2]
    assert sorted(out.labels.tolist()) == [0, 1]
    ours = prompt(raw, 0, points, labels)
    assert ours.cell.tolist() == [18] * 4
    assert all(torch.equal(mask, blobs()[1]) for mask in ours.probs > 0.5)
    assert (ours.score[:2] > ours.score[2:]).all()  # the mask is one, the class probability its own


def test_no_point_is_lost_in_a_crowd(make_scene):
    masks = torch.zeros((369, 80, 80), dtype=torch.bool)
    for i, mask in enumerate(masks):
        y, x = divmod(i, 20)
        mask[4 * y : 4 * y + 3, 4 * x : 4 * x + 3] = True
    index = torch.arange(369)
    points = torch.stack([index % 20 * 16 + 6.0, index // 20 * 16 + 6.0], 1)
    cells = ((points[:, 1] // 16) * 20 + points[:, 0] // 16).long()
    raw = make_scene(masks, [0] * 369, cells.tolist(), grids=((20, 20), (5, 5)), classes=1)
    labels = torch.zeros(369, dtype=torch.int64)
    out = prompt(raw, 0, points, labels)
    assert torch.equal(out.probs > 0.5, masks)
    assert torch.equal(out.cell, cells)
    paper, _ = paper_prompt(raw, 0, points, labels, (320, 320), (320, 320), DecodeSettings())
    assert len(paper) == 100
    tiny_dropped = DecodeSettings(area_strides=(9, 9), max_detections=1000)
    assert len(paper_prompt(raw, 0, points, labels, (320, 320), (320, 320), tiny_dropped)[0]) == 0


def test_a_point_takes_the_mask_that_holds_it(make_scene):
    """The surest mask of a point's cells need not be the point's own."""
    large, beside = 2 * 8 + 5, 64 + 4 + 2  # both hold the point: a fine cell and a coarse one
    raw = make_scene(blobs()[[0, 2]], labels=[0, 0], cells=[large, beside], sure=[2.0, 5.0])
    point, label = torch.tensor([[83.0, 40.0]]), torch.tensor([0])
    paper, ours = (prompt(raw, 0, point, label, own_point=own) for own in (False, True))
    assert paper.cell.tolist() == [beside]
    assert not (paper.probs[0] > 0.5)[10, 20]
    assert ours.cell.tolist() == [large]
    assert (ours.probs[0] > 0.5)[10, 20]


def test_a_mask_that_swallows_the_points_of_others_loses(make_scene):
    large, small = 64 + 4 + 1, 3 * 8 + 2
    raw = make_scene(blobs()[:2], labels=[0, 0], cells=[large, small], sure=[5.0, 4.0])
    points, labels = torch.tensor([[36.0, 52.0], [60.0, 60.0], [70.0, 20.0]]), torch.tensor([0, 0, 0])
    alone, crowd = (prompt(raw, 0, points[:n], labels[:n]).cell[0].item() for n in (1, 3))
    assert (alone, crowd) == (large, small)


def test_nested_objects_answer_their_own_points(make_scene):
    raw = make_scene(blobs()[:2], labels=[0, 0], cells=[64 + 4 + 1, 3 * 8 + 2])
    points, labels = torch.tensor([[36.0, 52.0], [60.0, 60.0]]), torch.tensor([0, 0])
    raw.category[0, 64 + 4 + 1, 0] = 4.0
    masks = prompt(raw, 0, points, labels).probs > 0.5
    assert torch.equal(masks[0], blobs()[1])
    assert torch.equal(masks[1], blobs()[0])


def test_a_point_off_its_objects_center_cell(make_scene):
    """Only the cells at its center know an object: a point elsewhere on it finds it by the neighbors."""
    raw = make_scene(blobs()[:1], labels=[2], cells=[3 * 8 + 3])  # 48..64 px
    point, label = torch.tensor([[70.0, 70.0]]), torch.tensor([2])
    alone, around = (prompt(raw, 0, point, label, neighbors=n) for n in (0, 1))
    assert alone.level.tolist() == [-1]
    assert around.cell.tolist() == [3 * 8 + 3]
    assert torch.equal(around.probs[0] > 0.5, blobs()[0])


def test_a_mask_that_misses_its_point_is_kept_with_a_low_score(make_scene):
    raw = make_scene(blobs()[2:], labels=[0], cells=[2 * 8 + 5], sure=[20.0])  # 0 at the point in float32
    point, label = torch.tensor([[82.0, 33.0]]), torch.tensor([0])
    paper, ours = (prompt(raw, 0, point, label, own_point=own) for own in (False, True))
    assert paper.score.item() > 0.9
    assert 0 < ours.score.item() < 1e-4
    assert torch.equal(ours.probs, paper.probs)


# Edge


def test_a_point_without_any_mask(make_scene):
    raw = make_scene(blobs()[:1], labels=[0], cells=[0])
    out = prompt(raw, 0, torch.tensor([[120.0, 120.0], [3.0, 3.0]]), torch.tensor([0, 0]))
    assert out.level.tolist() == [-1, 0]
    assert out.cell.tolist() == [-1, 0]
    assert out.score[0] == 0
    assert (out.probs[0] == 0).all()
    assert (out.probs[1] > 0.5).any()


@pytest.mark.parametrize("neighbors", [0, 1])
def test_no_point(make_raw, neighbors):
    raw = make_raw()
    points, labels = torch.zeros((0, 2)), torch.zeros(0, dtype=torch.int64)
    out = prompt(raw, 0, points, labels, neighbors=neighbors)
    assert out.probs.shape == (0, 16, 24)
    assert out.level_scores.shape == (0, 3)
    assert [len(x) for x in (out.level, out.cell, out.score)] == [0, 0, 0]
    paper, index = paper_prompt(raw, 0, points, labels, (64, 96), (64, 96), DecodeSettings())
    assert len(paper) == len(index) == 0


def test_the_first_level_wins_a_tie(make_raw):
    raw = make_raw()
    raw.kernels[:] = raw.kernels[:, :1].clone()
    raw.category[:] = 0
    out = prompt(raw, 0, *random_points(20))
    assert out.level.tolist() == [0] * 20
    around = prompt(raw, 0, *random_points(20), neighbors=1)
    assert torch.equal(around.cell, out.cell)


def test_points_on_and_beyond_the_border_take_the_nearest_cell(make_raw):
    raw = make_raw()
    inside = torch.tensor([[0.0, 0.0], [95.99, 63.99]])
    beyond = torch.tensor([[-3.0, -0.5], [96.0, 70.0]])
    labels = torch.tensor([0, 1])
    assert torch.equal(prompt(raw, 0, inside, labels).cell, prompt(raw, 0, beyond, labels).cell)


def test_the_image_of_a_batch(make_raw):
    raw = make_raw(batch=2)
    points, labels = random_points(10)
    out = prompt(raw, 1, points, labels)
    alone = RawMaps(raw.category[1:], raw.kernels[1:], raw.features[1:], raw.grids, raw.image_size)
    assert torch.equal(out.probs, prompt(alone, 0, points, labels).probs)


def test_by_the_papers_rule_an_answer_does_not_depend_on_the_other_points(make_raw):
    raw = make_raw()
    points, labels = random_points(300)
    together = prompt(raw, 0, points, labels, own_point=False)
    alone = [prompt(raw, 0, points[i : i + 1], labels[i : i + 1], own_point=False) for i in range(0, 300, 50)]
    for i, one in zip(range(0, 300, 50), alone, strict=True):
        assert one.cell == together.cell[i]
        torch.testing.assert_close(one.probs[0], together.probs[i])
        torch.testing.assert_close(one.score[0], together.score[i])


def test_work_does_not_loop_over_points(make_raw, count_operations):
    raw = make_raw()
    # Of a few points no first guess may be wrong, and that step is left out.
    few, many = (count_operations(partial(prompt, raw, 0, *random_points(n))) for n in (100, 400))
    assert many == few


def test_scores_are_made_a_bounded_number_of_masks_at_a_time(make_raw, monkeypatch):
    raw, held, looked_at = make_raw(), [], []
    original = RawMaps.mask_strips

    def watched(self, image, cells, step):
        assert step == 10  # of 16 rows
        held.append(len(cells))
        return original(self, image, cells, step)

    def quality(raw, image, cells, threshold, into=None):
        looked_at.append(cells)
        return decode_module.mask_quality(raw, image, cells, threshold, into)

    monkeypatch.setattr(RawMaps, "mask_strips", watched)
    monkeypatch.setattr(prompting_module, "mask_quality", quality)
    monkeypatch.setattr(decode_module, "_STRIP", 10 * 24)
    monkeypatch.setattr(decode_module, "_CELLS", 16)
    prompt(raw, 0, *random_points(200))
    assert max(held) == 16
    first, beside = looked_at  # first guesses, one for each point, are made where they are returned
    assert len(first) == 200
    together = torch.cat([first.unique(), beside])
    assert len(together.unique()) == len(together) <= raw.kernels.shape[1]  # no cell twice
    corrected = sum(held) - len(first) - len(beside)
    assert 0 < corrected < 200  # guesses that were wrong
