"""Points to masks after the network: all points and levels at once, beside a loop of a convolution each.

    python -m benchmarks.prompting [--device cuda] [--points 20 80 300] [--out FILE]

SOLOv2 R50 with the paper's grids, 640 x 640, 80 classes, random weights. Both give a probability map a point,
by the paper's rule; the run ends with an error if they choose other cells or other masks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.bench import Bench, main_of
from benchmarks.scenes import paper_raw, random_points
from benchmarks.timing import MIB, peak_memory
from wssis.models.raw_maps import RawMaps
from wssis.pseudo_labels.point_prompting import Prompted, prompt

MANY = 3000  # points: memory beside the result shall not grow with them
LOOP_ROUNDS = 3


@torch.no_grad()
def loop(raw: RawMaps, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Chosen cells (N,) and probabilities (N, Hm, Wm), a convolution for each point and level."""
    own = raw.cells_of(points)
    chosen, masks = [], []
    for cells, label in zip(own, labels, strict=True):
        best, best_score, best_mask = cells.new_tensor(-1), 0.0, torch.zeros_like(raw.features[0, 0])
        for cell in cells:
            kernel = raw.kernels[0, cell][None, :, None, None]
            probs = F.conv2d(raw.features[:1], kernel)[0, 0].sigmoid()
            inside = probs > 0.5
            maskness = float((probs * inside).sum() / inside.sum().clamp(min=1))
            score = float(raw.category[0, cell, label].sigmoid()) * maskness
            if score > best_score:
                best, best_score, best_mask = cell, score, probs
        chosen.append(best)
        masks.append(best_mask)
    return torch.stack(chosen), torch.stack(masks)


def agreement(ours: Prompted, cells: Tensor, masks: Tensor) -> dict[str, float]:
    """How far both agree.

    Raises:
        RuntimeError: they do not.
    """
    same = float((ours.cell == cells).float().mean())
    off = float((ours.probs - masks)[ours.cell == cells].abs().max())
    pixels = float(((ours.probs > 0.5) != (masks > 0.5))[ours.cell == cells].float().mean())
    if same < 1 or off > 1e-4 or pixels > 1e-5:
        raise RuntimeError(
            f"the loop disagrees: {same:.4f} of the cells are equal, masks differ by {off:.2g}"
        )
    return {"cells equal": same, "largest difference of a probability": off, "share of pixels": pixels}


def working_memory(raw: RawMaps, count: int, classes: int, device: str) -> float:
    """MiB beyond the result at the height of a call."""
    points = random_points(count, raw.image_size[0], classes, device)
    result = count * raw.features[0, 0].numel() * 4 / MIB
    peak = peak_memory(partial(prompt, raw, 0, *points, own_point=False), device)
    return float("nan") if peak is None else max(0.0, peak - result)


def run(bench: Bench, given: argparse.Namespace) -> None:
    raw = paper_raw(bench.tiny, bench.device)
    classes, side = raw.category.shape[2], raw.image_size[0]
    rows = {}
    for count in given.points:
        points = random_points(count, side, classes, bench.device)
        ours, plain = partial(prompt, raw, 0, *points, own_point=False), partial(loop, raw, *points)
        bench.notes[f"{count} points"] = agreement(ours(), *plain())
        ways: dict[str, Callable[[], object]] = {
            "wssis": ours,
            "wssis, default rule": partial(prompt, raw, 0, *points),
            "loop": plain,
        }
        found = bench.compare(f"{count} points", ways, others=LOOP_ROUNDS)
        rows[count] = found[0]
        if count == 80:
            bench.bar("80 points: loop / wssis", 20, found[-1].ratio.median, most=False)
    if {80, 300} <= rows.keys():
        bench.bar("300 points / 80 points", 2, rows[300].time.median / rows[80].time.median)
    few, many = (working_memory(raw, n, classes, bench.device) for n in (300, 300 if bench.tiny else MANY))
    bench.notes["MiB beyond the result"] = {"300 points": round(few), f"{MANY} points": round(many)}


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--points", type=int, nargs="+", default=[20, 80, 300])


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return main_of("prompting", __doc__, run, arguments, extend)


if __name__ == "__main__":
    sys.exit(main())
