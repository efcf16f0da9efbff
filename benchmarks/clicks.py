"""What careless clicking costs: the student's AP where points are off, missing or doubled.

    python -m benchmarks.clicks [--variants jitter2 …] [--preset NAME] [--iterations N] [--out FILE]

in the project's root after `dvc repro`. Teacher, refiner and rules are the project's own; for each variant
the stages pseudo and student run again, on one thread, in a folder of their own (.scratch/clicks/VARIANT).
Strong images stay as they are: only the clicks of weak images change. `exact` is the project's own points,
`jitterN` moves each within N px, `missing` leaves out a tenth, `doubled` clicks a tenth twice, 2 px apart at
most. Labels are compared with the truth of the weak images, where it is known; nothing is learnt from it.
"""

import argparse
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines import paths
from pipelines.config.params import load_params, read_yaml, write_yaml
from pipelines.inference.label_dataset import predicted_results
from pipelines.inference.load_models import load_predictor
from pipelines.runner.run_stage import StageContext, exit_code
from pipelines.stages.audit import compare, without_drawn
from pipelines.stages.pseudo import pseudo
from pipelines.stages.report import as_markdown
from pipelines.stages.train import student
from wssis.data.coco import Annotation, CocoData, ImageRecord, save_coco
from wssis.errors import InputError
from wssis.evaluation.coco_ap import results_ap
from wssis.files import write_json

SHARE = 0.1  # of the points, that `missing` leaves out and `doubled` clicks twice
AGAIN = 2.0  # px from the first click to the second, at most
LINKED = (paths.PREPARED, paths.STRONG, paths.HOLDOUT, paths.WEAK_TRUTH, paths.TEACHER, paths.REFINER)
_EDGE = 1 / 64  # px that a moved point stays inside the right and lower edge


def moved(item: Annotation, image: ImageRecord, radius: float, rng: np.random.Generator) -> Annotation:
    """The point moved evenly within a disc of `radius` px, staying in the image."""
    assert item.point is not None
    length, angle = radius * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
    x, y = item.point[0] + length * math.cos(angle), item.point[1] + length * math.sin(angle)
    place = float(np.clip(x, 0, image.width - _EDGE)), float(np.clip(y, 0, image.height - _EDGE))
    return replace(item, point=place)


def each(data: CocoData, change: Callable[[Annotation, ImageRecord], list[Annotation]]) -> CocoData:
    """The points, each replaced by what `change` makes of it."""
    images = (
        replace(image, annotations=tuple(new for item in image.annotations for new in change(item, image)))
        for image in data.images
    )
    return replace(data, images=tuple(images), path=None)


def jitter(data: CocoData, radius: float, seed: int) -> CocoData:
    """Every point moved; by the same angle and share of the radius for every radius."""
    if radius == 0:
        return data
    return each(
        data, lambda item, image: [moved(item, image, radius, np.random.default_rng([seed, 2, item.id]))]
    )


def tenth(data: CocoData, seed: int) -> set[int]:
    """Ids of a tenth of the points; the same for `missing` and `doubled`."""
    ids = sorted(item.id for image in data.images for item in image.annotations)
    order = np.random.default_rng([seed, 3]).permutation(len(ids))
    return {ids[place] for place in order[: round(SHARE * len(ids))]}


def missing(data: CocoData, seed: int) -> CocoData:
    """A tenth of the points left out."""
    chosen = tenth(data, seed)
    return each(data, lambda item, image: [] if item.id in chosen else [item])


def doubled(data: CocoData, seed: int) -> CocoData:
    """A tenth of the points clicked twice; the second click has an id of its own."""
    chosen = tenth(data, seed)
    first = 1 + max((item.id for image in data.images for item in image.annotations), default=0)
    number = {key: first + place for place, key in enumerate(sorted(chosen))}

    def change(item: Annotation, image: ImageRecord) -> list[Annotation]:
        if item.id not in chosen:
            return [item]
        again = moved(item, image, AGAIN, np.random.default_rng([seed, 4, item.id]))
        return [item, replace(again, id=number[item.id])]

    return each(data, change)


VARIANTS: dict[str, Callable[[CocoData, int], CocoData]] = {
    "exact": lambda data, seed: data,
    "jitter2": lambda data, seed: jitter(data, 2.0, seed),
    "jitter4": lambda data, seed: jitter(data, 4.0, seed),
    "missing": missing,
    "doubled": doubled,
}


def folder_of(name: str, values: dict[str, Any]) -> Path:
    """A variant's folder: params, and the project's data and models as links; what lay there is removed.

    Raises:
        InputError: the pipeline has not run.
    """
    folder = (paths.SCRATCH / "clicks" / name).resolve()
    shutil.rmtree(folder, ignore_errors=True)
    for path in (*LINKED, paths.POINTS):
        if not path.exists():
            raise InputError("does not exist", where=path, remedy="Run `dvc repro` first")
    for path in (*LINKED, *([paths.TUNED_PSEUDO] if paths.TUNED_PSEUDO.exists() else [])):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(path.resolve(), folder / path)
    write_yaml(folder / paths.PARAMS, values)
    return folder


def shortened(values: dict[str, Any], iterations: int | None) -> dict[str, Any]:
    """params.yaml with fewer steps of the student; its warm-up keeps its share."""
    train = dict(values["student"]["train"])
    if iterations and iterations < train["iterations"]:
        train["warmup"] = train["warmup"] * iterations // train["iterations"]
        train["iterations"] = iterations
    return {**values, "student": {**values["student"], "train": train}}


def measured(name: str, values: dict[str, Any]) -> dict[str, float]:
    """Label and train with a variant's points: counts, IoU of the labels with the truth, AP on `val`."""
    folder = folder_of(name, values)
    whole = StageContext(name, load_params(folder / paths.PARAMS))
    points = VARIANTS[name](whole.load(paths.POINTS), values["seed"])
    left = {item.id for image in points.images for item in image.annotations}
    # A project that was split before there were drawn masks in weak images has no file of them.
    drawn = whole.load(paths.DRAWN) if paths.DRAWN.exists() else replace(points, images=())
    drawn = each(drawn, lambda item, image: [item] if item.id in left else [])
    with chdir(folder):
        save_coco(points, paths.POINTS)
        save_coco(drawn, paths.DRAWN)
        stage = StageContext(name, load_params())
        pseudo(stage)
        labels, refined, rough, truth = (
            stage.load(path)
            for path in (paths.LABELS, paths.PROPOSED, paths.PROPOSED_ROUGH, paths.WEAK_TRUTH)
        )
        given, masks = points.num_objects, labels.num_objects
        ignored = sum(len(image.annotations) for image in labels.images) - masks
        if masks + ignored != given:
            raise RuntimeError(f"{name}: {given} points, but {masks} masks and {ignored} ignored")
        rows = compare(without_drawn(labels), refined, rough, truth)
        iou = float(np.mean([row.refined_iou for row in rows])) if rows else -1.0
        student(stage)
        settings = stage.params.evaluate
        predictor, _ = load_predictor(paths.STUDENT, settings.decode, settings.batch_size, stage.device)
        val = stage.load(paths.PREPARED_VAL)
        scores = results_ap(val, predicted_results(predictor, val, name), settings.decode.max_detections)
    return {"points": given, "masks": masks, "ignored": ignored, "iou": iou, **scores}


def run(names: list[str], preset: str | None, iterations: int | None, out: str | None) -> None:
    """Print the table; `out` is written after each variant, so that a stop costs one."""
    torch.set_num_threads(1)
    source = paths.PRESETS / f"{preset}.yaml" if preset else paths.PARAMS
    load_params(source)
    values = shortened(read_yaml(source), iterations)
    found: dict[str, dict[str, float]] = {}
    for name in [name for name in VARIANTS if name in names]:
        found[name] = measured(name, values)
        if out:
            write_json(
                out, {"student_iterations": values["student"]["train"]["iterations"], **found}, indent=2
            )
    counts, scores = ("points", "masks", "ignored"), ("iou", "AP", "AP50", "AP75")
    rows = [
        (
            name,
            *(str(row[key]) for key in counts),
            *(f"{row[key]:.3f}" if row[key] >= 0 else "–" for key in scores),
        )
        for name, row in found.items()
    ]
    print(as_markdown([("clicks", *counts, "IoU of labels", *scores[1:]), *rows]))
    if not out:
        print(json.dumps(found, indent=2))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clicks", description=__doc__.split("\n")[0])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--preset", help="presets/NAME.yaml in place of params.yaml")
    parser.add_argument("--iterations", type=int, help="of the student, where that is fewer")
    parser.add_argument("--out", help="JSON file to write; printed if not given")
    given = parser.parse_args(arguments)
    return exit_code(lambda: run(given.variants, given.preset, given.iterations, given.out))


if __name__ == "__main__":
    sys.exit(main())
