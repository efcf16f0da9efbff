"""What the images of `wssis budget --which N` are worth against N at random, replayed with the true masks.

    python -m benchmarks.which [--images N] [--steps N]

Run it in the project's root after `dvc repro pseudo`, with data whose weak images have true masks. It draws N
weak images, those of the ranking and as many at random, and trains strong only and the student on each set.
AP is measured on weak images that are neither trained on nor chosen.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import replace

from pipelines import paths
from pipelines.config.params import Params, load_params
from pipelines.datasets.which_images import which_images
from pipelines.runner.run_stage import exit_code
from pipelines.stages.train import predicted
from wssis.checkpoint import load_model
from wssis.data.coco import load_coco
from wssis.data.records import CocoData
from wssis.evaluation.coco_ap import results_ap
from wssis.inference.predictor import Predictor
from wssis.training.solov2 import train_solov2

JUDGED = 4  # every fourth weak image is kept for measuring


def replay(count: int, steps: int | None) -> None:
    """Print a row of AP for both choices."""
    params = load_params()
    labels, truth = load_coco(paths.LABELS), load_coco(paths.WEAK_TRUTH)
    judged = truth.subset(record.id for record in labels.images[::JUDGED])
    kept = judged.by_id
    ranked = [row["image_id"] for row in which_images(len(labels.images)) if row["image_id"] not in kept]
    random_ids = random.Random(params.seed).sample(ranked, count)
    print("| choice | masks | strong only | student |\n|---|---|---|---|")
    for name, chosen in (("--which", ranked[:count]), ("random", random_ids)):
        drawn = truth.subset(chosen)
        weak = labels.subset(record.id for record in labels.images if record.id not in {*chosen, *kept})
        scores = [
            ap_of(params, steps, [*drawn_sources(), drawn], guessed, judged) for guessed in ([], [weak])
        ]
        print(f"| {name} | {drawn.num_objects} | {scores[0]:.4f} | {scores[1]:.4f} |", flush=True)


def drawn_sources() -> list[CocoData]:
    """What is drawn before."""
    return [load_coco(paths.STRONG), load_coco(paths.HOLDOUT)]


def ap_of(
    params: Params,
    steps: int | None,
    drawn: Sequence[CocoData],
    guessed: Sequence[CocoData],
    judged: CocoData,
) -> float:
    """AP on `judged` of a training as of the stages student and strong_only."""
    train = params.student.train if steps is None else replace(params.student.train, iterations=steps)
    folder = drawn[0].image_dir
    result = train_solov2(
        [replace(data, image_dir=folder) for data in drawn],
        params.model,
        params.resize,
        params.augment,
        train,
        params.seed,
        guessed=[replace(data, image_dir=folder) for data in guessed],
        mix=params.student.mix,
        initial=load_model(paths.TEACHER)[0],
    )
    predictor = Predictor(result.model, params.resize, params.evaluate.decode)  # type: ignore[arg-type]
    return results_ap(judged, predicted(predictor, judged), params.evaluate.decode.max_detections)["AP"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the replay; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=10, help="to draw; default 10")
    parser.add_argument("--steps", type=int, help="of a training; default: those of the student")
    options = parser.parse_args(arguments)
    return exit_code(lambda: replay(options.images, options.steps))


if __name__ == "__main__":
    sys.exit(main())
