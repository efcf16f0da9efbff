"""Exported students against the student itself: agreement over images, and time per image on the CPU.

    python -m benchmarks.exported --model models/student --annotations data/prepared/val.json

One export per image size among the first `--count`. Each image is timed in all implementations in turn, round
by round, so that other load on the machine affects all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from pipelines.inference.export import unpad
from pipelines.inference.load_models import load_predictor
from pipelines.inference.predict import decode_in_force
from pipelines.registry import versions
from pipelines.runner.run_stage import exit_code
from wssis.data.coco import load_coco
from wssis.data.images import read_image
from wssis.errors import InputError
from wssis.files import write_json
from wssis.inference.agreement import Parity, parity
from wssis.inference.export import (
    export_program,
    open_onnx,
    open_torch,
    require_onnx,
    write_onnx,
    write_torch,
)
from wssis.inference.exportable import Deployable
from wssis.inference.predictor import Predictor
from wssis.instances import Instances

Size = tuple[int, int]
KINDS: dict[str, tuple[str, Callable[..., None]]] = {
    "onnxruntime": ("student.onnx", write_onnx),
    "torch.export": ("student.pt2", write_torch),
}


def by_size(annotations: str, images: str | None, count: int, sizes: list[Size]) -> dict[Size, list[Tensor]]:
    """The first `count` images (of the given sizes, if any), by size."""
    data = load_coco(annotations, images) if images else load_coco(annotations)
    records = [record for record in data.images if not sizes or record.size in sizes][:count]
    if not records:
        raise InputError("expected images of these sizes, found none", where=annotations)
    found: dict[Size, list[Tensor]] = {}
    for record in records:
        found.setdefault(record.size, []).append(read_image(data.image_dir, record.file_name, record.size))
    return found


def timed(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each call, interleaved, after a warm-up."""
    for call in calls.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = perf_counter()
            call()
            found[name].append(1000 * (perf_counter() - begin))
    return found


def measured(
    predictor: Predictor, groups: dict[Size, list[Tensor]], rounds: int, threads: int
) -> dict[str, Any]:
    """Agreement of each kind of export over all images, and its median time per image."""
    own: list[Instances] = []
    theirs: dict[str, list[Instances]] = {name: [] for name in KINDS}
    times: dict[str, list[float]] = {"eager": [], **{name: [] for name in KINDS}}
    for size, images in groups.items():
        program = export_program(Deployable(predictor, size))
        with tempfile.TemporaryDirectory() as folder:
            for name, write in KINDS.values():
                write(program, Path(folder) / name, {})
            runs = {
                "onnxruntime": open_onnx(Path(folder) / KINDS["onnxruntime"][0], threads),
                "torch.export": open_torch(Path(folder) / KINDS["torch.export"][0]),
            }
            for image in images:
                batch = image[None]
                own.append(predictor.predict([image])[0])
                for name, run in runs.items():
                    theirs[name] += unpad(run(batch))
                calls: dict[str, Callable[[], Any]] = {"eager": partial(predictor.predict, [image])}
                calls |= {name: partial(run, batch) for name, run in runs.items()}
                for name, spent in timed(calls, rounds).items():
                    times[name].append(median(spent))
        print(f"{size[0]} x {size[1]}: {len(images)} images", file=sys.stderr, flush=True)
    settings = predictor.settings
    found = {
        name: parity(own, instances_, settings.keep_threshold, settings.max_detections)
        for name, instances_ in theirs.items()
    }
    return {"threads": threads, "sizes": sorted(groups), "rows": rows(times, found)}


def rows(times: dict[str, list[float]], found: dict[str, Parity]) -> list[dict[str, Any]]:
    """A row per implementation; the ratio is the median over images of eager's time over its own."""
    eager = times["eager"]
    return [
        {
            "name": name,
            "ms_per_image": median(spent),
            "eager_over_this": median(a / b for a, b in zip(eager, spent, strict=True)),
            **({} if name == "eager" else {**vars(found[name]), "holds": found[name].holds}),
        }
        for name, spent in times.items()
    ]


def table(result: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| | ms per image | eager / this | instances | unpaired | scores within | not in 1e-4 | IoU | least "
        "| changed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        cells = [row["name"], f"{row['ms_per_image']:.1f}", f"{row['eager_over_this']:.2f}"]
        if row["name"] != "eager":
            cells += [str(row["instances"]), str(row["unpaired"]), f"{row['score']:.1e}", str(row["apart"])]
            cells += [f"{row['iou']:.6f}", f"{row['least_iou']:.4f}", str(row["changed"])]
        lines.append(f"| {' | '.join(cells + [''] * (10 - len(cells)))} |")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    require_onnx()
    torch.set_num_threads(options.threads)
    folder = versions.local_folder(options.model)
    predictor, _ = load_predictor(folder, decode_in_force(folder))
    sizes = [(height, width) for height, width in options.size or []]
    groups = by_size(options.annotations, options.images, options.count, sizes)
    result = measured(predictor, groups, options.rounds, options.threads)
    print(table(result))
    if options.out:
        write_json(options.out, result, indent=2)
    else:
        print(json.dumps(result, indent=2))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exported", description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder or registered model")
    parser.add_argument("--annotations", required=True, help="COCO JSON that names the images")
    parser.add_argument("--images", help="their folder, if it is another")
    parser.add_argument(
        "--size", nargs=2, type=int, action="append", help="only images of this H W; repeatable"
    )
    parser.add_argument("--count", type=int, default=50, help="number of images; default 50")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds per image; default 5")
    parser.add_argument("--threads", type=int, default=1, help="threads of each implementation; default 1")
    parser.add_argument("--out", help="JSON file to write; printed if not given")
    given = parser.parse_args(arguments)
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
