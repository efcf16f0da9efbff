"""Which signal of a pseudo-label follows its true IoU: rank correlations on the weak images.

    python -m benchmarks.confidence [--images N] [--seed S]

in the project's root after `dvc repro`; N weak images with objects are drawn (all if there are fewer). IoUs
are of the masks with no point left out. Spread: standard deviation over 200 draws of images with replacement.
This reads the truth of weak images: it reports, and no choice is made on it by the pipeline.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import torch

from pipelines import paths
from pipelines.config.params import load_params, rules_in_force
from pipelines.inference.label_dataset import calibrated, proposals
from pipelines.inference.load_models import load_labeler
from pipelines.runner.run_stage import StageContext, exit_code
from pipelines.stages.report import as_markdown
from wssis.data.coco import CocoData
from wssis.evaluation.reliability import calibration_gap, reliability
from wssis.ops.masks import mask_iou
from wssis.pseudo_labels.labeler import Labeler
from wssis.pseudo_labels.mask_fusion import blends
from wssis.pseudo_labels.proposals import Proposals
from wssis.pseudo_labels.quality import Array, rank_correlation
from wssis.pseudo_labels.rules import masks_and_signals
from wssis.settings import PseudoRules

DRAWS = 200
NAMES = {
    "level score": "score",
    "maskness": "maskness",
    "probability at the own point": "own_point",
    "IoU of rough and refined": "agreement",
    "agreement of flipped views": "views",
    "confidence (what the rules go by)": "confidence",
    "quality": "quality",
}


@torch.inference_mode()
def signals(given: Proposals, rules: PseudoRules) -> dict[str, torch.Tensor]:
    """Each signal (N,) of the points of an image."""
    found, signal = masks_and_signals(given, rules)
    assert found.scores is not None
    count = len(given.points)
    views = torch.ones(count) if given.views is None else given.views
    table = {"score": given.score, "views": views, "confidence": found.scores, "quality": signal}
    asked = list(blends(given, rules))
    parts = {"maskness": "maskness", "own_point": "at_point", "agreement": "agreement"}
    return table | {
        name: torch.tensor([getattr(blend, part) for blend in asked]) for name, part in parts.items()
    }


def measured(
    labeler: Labeler, points: CocoData, truth: CocoData, rules: PseudoRules
) -> Iterator[dict[str, Array]]:
    """For each image: its signals and `iou`."""
    for record, given in proposals(labeler, points, "ask"):
        known = truth.by_id[record.id].instances()
        assert known.ids is not None
        assert known.masks is not None
        assert given.ids is not None
        place = {int(i): n for n, i in enumerate(known.ids)}
        rows = torch.tensor([n for n, i in enumerate(given.ids.tolist()) if i in place], dtype=torch.int64)
        own = known.masks[[place[int(i)] for i in given.ids[rows]]]
        found, _ = masks_and_signals(given, rules)
        assert found.masks is not None
        values = signals(given, rules) | {"iou": torch.zeros(len(given.points))}
        values["iou"][rows] = mask_iou(found.masks[rows], own)
        yield {name: value[rows].double().numpy() for name, value in values.items()}


def correlation(images: list[dict[str, Array]], name: str) -> float:
    """Of a signal with the IoU, over the objects of all images."""
    first, second = (np.concatenate([image[key] for image in images]) for key in (name, "iou"))
    return rank_correlation(first, second)


def run(count: int, seed: int) -> None:
    """Measure and print the table."""
    stage = StageContext("confidence", load_params())
    rules = rules_in_force(stage.params)
    labeler, _ = load_labeler(paths.TEACHER, paths.REFINER, rules, stage.device)
    truth, points = stage.load(paths.WEAK_TRUTH), stage.load(paths.POINTS)
    able = [r.id for r in points.images if r.objects and truth.by_id[r.id].objects]
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(able)[:count].tolist()
    curve = calibrated(labeler, stage.load(paths.HOLDOUT), rules)
    images = list(measured(labeler, points.subset(chosen), truth, rules))
    for image in images:
        image["quality"] = curve.quality(image["quality"])
    draws = [rng.integers(len(images), size=len(images)) for _ in range(DRAWS)]
    rows = []
    for title, name in NAMES.items():
        spread = np.std([correlation([images[i] for i in draw], name) for draw in draws])
        rows.append((title, f"{correlation(images, name):.3f} ± {spread:.3f}"))
    iou = np.concatenate([image["iou"] for image in images])
    for title in ("confidence", "quality"):
        value = np.concatenate([image[title] for image in images])
        gap = calibration_gap(reliability(value.tolist(), iou.tolist()))
        rows.append((f"{title}: mean distance to the IoU, in bins", f"{gap:.3f}"))
    print(f"{len(images)} images, {len(iou)} objects, mean IoU {iou.mean():.3f}; {curve}")
    print(as_markdown([("signal", "rank correlation"), *rows]))


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.confidence")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    run(options.images, options.seed)


if __name__ == "__main__":
    sys.exit(exit_code(main))
