"""Target assignment: all objects and levels at once, beside a loop over images, objects and levels.

    python -m benchmarks.targets [--device cuda] [--objects 10 100 400] [--out FILE]

Two images of 640 x 640 with so many objects each, the paper's grids and ranges, masks at a quarter. The rule
is the paper's; the run ends with an error if both assign another cell, class or mask. `default` is the rule
of the default model (a cell learns one object, masks are soft) on the same input.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.bench import Bench, main_of
from benchmarks.scenes import CLASSES, SIDE, TINY_SIDE, ellipses, paper_settings
from wssis.instances import Instances
from wssis.settings import SOLOv2Settings
from wssis.training.target_assignment import Targets, assign

LOOP_ROUNDS = 3
Found = tuple[list[tuple[int, int, int]], Tensor, list[Tensor]]  # (image, cell, object), classes, small masks


def ours(
    images: Sequence[Instances], settings: SOLOv2Settings, side: int, classes: int, paper: bool
) -> Targets:
    """What training calls."""
    grids = settings.grid_sizes(side, side)
    small = (side // 4, side // 4)
    shared = "all" if paper else "nearest"
    return assign(images, grids, settings.ranges, (side, side), small, classes, shared=shared, soft=not paper)  # type: ignore[arg-type]


def loop(images: Sequence[Instances], settings: SOLOv2Settings, side: int, classes: int) -> Found:
    """The paper's rule, written down object by object and level by level."""
    grids = settings.grid_sizes(side, side)
    total = sum(rows * columns for rows, columns in grids)
    found, small = [], []
    category = torch.full((len(images), total), classes)
    for number, image in enumerate(images):
        shrunk = []
        for index, mask in enumerate(image.get_masks()):
            half = F.interpolate(mask[None, None].float(), scale_factor=0.25, mode="bilinear")[0, 0] >= 0.5
            shrunk.append(half)
            found += [(number, cell, index) for cell in cells_of(mask, settings, grids, side)]
        small.append(torch.stack(shrunk))
    for number, cell, index in sorted(found, key=lambda row: row[2]):
        category[number, cell] = images[number].labels[index]
    return found, category, small


def cells_of(
    mask: Tensor, settings: SOLOv2Settings, grids: Sequence[tuple[int, int]], side: int
) -> list[int]:
    """Cells that an object takes, at all levels."""
    y, x = mask.nonzero(as_tuple=True)
    if not len(y):
        return []
    height, width = int(y.max() - y.min()) + 1, int(x.max() - x.min()) + 1
    center = y.double().mean().item(), x.double().mean().item()
    size, cells, offset = math.sqrt(height * width), [], 0
    for (rows, columns), (low, high) in zip(grids, settings.ranges, strict=True):
        if low <= size < high:
            spans = []
            for middle, extent, count in zip(center, (height, width), (rows, columns), strict=True):
                first, own, last = (
                    min(count - 1, max(0, math.floor(place * count / side)))
                    for place in (middle - 0.1 * extent, middle, middle + 0.1 * extent)
                )
                spans.append(range(max(first, own - 1), min(last, own + 1) + 1))
            cells += [offset + row * columns + column for row in spans[0] for column in spans[1]]
        offset += rows * columns
    return cells


def check(targets: Targets, plain: Found) -> int:
    """Number of positive cells that both agree on.

    Raises:
        RuntimeError: they do not agree.
    """
    found, category, small = plain
    device = targets.image.device
    got = sorted(zip(*(v.tolist() for v in (targets.image, targets.cell, targets.instance)), strict=True))
    masks = all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(targets.masks, small, strict=True))
    if got != sorted(found) or not torch.equal(targets.category, category.to(device)) or not masks:
        raise RuntimeError("the loop assigns other targets")
    return len(got)


def run(bench: Bench, given: argparse.Namespace) -> None:
    settings, side, classes = paper_settings(bench.tiny), TINY_SIDE if bench.tiny else SIDE, CLASSES
    for count in given.objects:
        images = [ellipses(count, (side, side), classes, seed) for seed in (0, 1)]
        moved = [image.to(bench.device) for image in images]
        fast = partial(ours, moved, settings, side, classes, True)
        plain = partial(loop, images, settings, side, classes)
        case = f"2 images, {count} objects each"
        bench.notes[f"positive cells, {count} objects"] = check(fast(), plain())
        default = partial(ours, moved, settings, side, classes, False)
        ways: dict[str, Callable[[], object]] = {"wssis": fast, "wssis, default rule": default, "loop": plain}
        rows = bench.compare(case, ways, others=LOOP_ROUNDS)
        if count == 10:
            bench.bar("targets of 2 images x 10 objects, ms", 20, rows[0].time.median)


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--objects", type=int, nargs="+", default=[10, 100, 400])


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return main_of("targets", __doc__, run, arguments, extend)


if __name__ == "__main__":
    sys.exit(main())
