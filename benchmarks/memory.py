"""Peak memory of labeling and evaluation by the number of images: what an image costs that is done with.

    python -m benchmarks.memory [--parts pseudo rough evaluate] [--images 200] [--times 50] [--out FILE]

makes shapes of 64 pixels and untrained networks, and runs stages on `images` and on `images * times` images
(the same pictures again and again, under their own ids). Each part is a stage in its own process. Scores of
such networks are low, so evaluate takes every score: as many instances per image as it allows, or as the
network has. Memory is the largest resident set (VmHWM, Linux only).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks.scenes import default_settings, preset
from benchmarks.timing import MIB, machine, process_status
from pipelines import paths
from pipelines.config.params import Params
from pipelines.runner.run_stage import Body, StageContext, exit_code
from pipelines.runner.scratch import Scratch
from pipelines.stages.evaluate import evaluate
from pipelines.stages.pseudo import pseudo
from pipelines.stages.report import as_markdown
from pipelines.stages.rough import rough
from wssis.checkpoint import save_model
from wssis.data import synthetic
from wssis.data.coco import save_coco
from wssis.data.records import CocoData, ImageRecord
from wssis.data.rle import inner_point
from wssis.files import write_json
from wssis.models.refiner import Refiner
from wssis.models.solov2 import SOLOv2

Value = TypeVar("Value")
SIDE = 64  # pixels
HELD = 4  # images held out
SOLOV2 = (paths.TEACHER, paths.TEACHER_EARLY, paths.TEACHER_LATE, paths.STRONG_ONLY, paths.STUDENT)
PARTS: dict[str, Body] = {"pseudo": pseudo, "rough": rough, "evaluate": evaluate}


@dataclass(frozen=True)
class Growth:
    """Peaks of one part in bytes, over few and over many images."""

    part: str
    few: int
    many: int
    images: int
    times: int

    @property
    def an_image(self) -> float:
        """Bytes that one image more costs."""
        return (self.many - self.few) / (self.images * (self.times - 1))


def make_models() -> None:
    """Small networks with random weights, where the pipeline has its own."""
    torch.manual_seed(0)
    small = replace(default_settings(), fpn_channels=16, head_channels=16, mask_channels=8)
    extra = {
        "resize": {"scale": 1.0, "short": 0, "long": 1333},
        "flips": "none",
        "category_ids": [1, 2, 3, 4],
    }
    network = SOLOv2(small, len(synthetic.CLASSES))
    for folder in SOLOV2:
        save_model(folder, network, small, "solov2", synthetic.CLASSES, extra)
    settings = replace(preset("shapes").refiner.model, pretrained=False, width=8, crop=32, passes=1)
    refiner = Refiner(settings, len(synthetic.CLASSES))
    save_model(paths.REFINER, refiner, settings, "refiner", synthetic.CLASSES)


def make_data(images: int, times: int) -> None:
    """Pictures of `images` scenes, `times` times, with masks to prompt and to measure by, and with points."""
    scenes, held = synthetic.generate(paths.PREPARED, n_train=images, n_val=HELD, size=SIDE)
    save_coco(held, paths.HOLDOUT)
    save_coco(replace(scenes, images=(), path=None), paths.DRAWN)
    many = replace(scenes, images=tuple(repeated(scenes, times)), path=None)
    save_coco(many, paths.STRONG)
    save_coco(many, paths.PREPARED_VAL)
    save_coco(replace(many, images=tuple(map(pointed, many.images))), paths.POINTS)
    write_json(paths.LEDGER, {"totals": {"label_hours": 0.0, "full_label_hours": 0.0}})


def repeated(scenes: CocoData, times: int) -> Iterator[ImageRecord]:
    """Every image `times` times, each under ids of its own."""
    count = 0
    for number in range(times):
        for image in scenes.images:
            items = [replace(item, id=count + place) for place, item in enumerate(image.annotations, 1)]
            count += len(items)
            yield replace(image, id=number * len(scenes.images) + image.id, annotations=tuple(items))


def pointed(image: ImageRecord) -> ImageRecord:
    """The image with points instead of masks."""
    items = [
        replace(item, rle=None, area=None, point=inner_point(item.rle) if item.rle else None)
        for item in image.objects
    ]
    return replace(image, annotations=tuple(items))


def every_score(params: Params) -> Params:
    """Params by which nothing is tuned and no instance is left out for its score."""
    untuned = params.tune_pseudo.model_copy(update={"use_tuned": False})
    decode = replace(params.evaluate.decode, score_threshold=0.0, keep_threshold=0.0)
    evaluation = params.evaluate.model_copy(update={"decode": decode})
    return params.model_copy(update={"tune_pseudo": untuned, "evaluate": evaluation})


def make(folder: str, images: int, times: int) -> None:
    """Networks and data in a folder."""
    os.chdir(folder)
    make_models()
    make_data(images, times)


def work(folder: str, part: str) -> int:
    """One part in a folder; returns this process's peak in bytes."""
    os.chdir(folder)
    scratch = Scratch(Path("scratch") / part)
    PARTS[part](StageContext(part, every_score(preset("shapes")), scratch=scratch))
    return process_status("VmHWM") * 1024


def apart(body: Callable[..., Value], *arguments: object) -> Value:
    """What a call returns, made in a process of its own that has all modules already."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(body, *arguments).result()


def peaks(parts: Sequence[str], images: int, times: int) -> dict[str, int]:
    """Bytes at the height of each part, in a folder that is made for it."""
    with tempfile.TemporaryDirectory(prefix="wssis-memory-") as folder:
        apart(make, folder, images, times)
        return {part: apart(work, folder, part) for part in parts}


def run(given: argparse.Namespace) -> None:
    """Measure, print a table, write JSON."""
    images, times = (6, 3) if given.tiny else (given.images, given.times)
    few, many = (peaks(given.parts, images, each) for each in (1, times))
    found = [Growth(part, few[part], many[part], images, times) for part in given.parts]
    head = ("part", f"{images} images, MiB", f"{images * times} images, MiB", "bytes an image more")
    rows = [(f.part, f"{f.few / MIB:.0f}", f"{f.many / MIB:.0f}", f"{f.an_image:.0f}") for f in found]
    print(f"memory\n\n{as_markdown([head, *rows])}\n")
    if given.out:
        values = [asdict(each) | {"an_image": each.an_image} for each in found]
        write_json(
            given.out,
            {"benchmark": "memory", "machine": machine("cpu"), "tiny": given.tiny, "parts": values},
            indent=2,
        )


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.split("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--times", type=int, default=50, help="how many times as many to set beside them")
    parser.add_argument("--tiny", action="store_true", help="a few images: does it run?")
    parser.add_argument("--out", help="JSON file to write")
    given = parser.parse_args(arguments)
    if "merge" in given.parts and "label" not in given.parts[: given.parts.index("merge")]:
        parser.error("merge comes after label")
    if given.images < 1 or given.times < 2:
        parser.error("images must be at least 1, times at least 2")
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
