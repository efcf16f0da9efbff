"""teacher, student, strong_only: one training each, with other data and other settings."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from pipelines import paths
from pipelines.runner.run_stage import Body, Outcome, StageContext, run
from wssis.checkpoint import load_model, save_model
from wssis.data.records import CocoData
from wssis.evaluation.coco_ap import IMAGES, results_ap, to_coco_results
from wssis.inference.predictor import Predictor
from wssis.models.solov2 import SOLOv2
from wssis.settings import MixSettings, SOLOv2Settings, TrainSettings
from wssis.training.solov2 import train_solov2
from wssis.training.trainer import TrainResult

COMMON = ("seed", "model", "resize", "augment")


def teacher(stage: StageContext) -> Outcome:
    """Train on the strong images; keep two earlier snapshots for the refiner's training."""
    settings = stage.params.teacher
    strong = stage.load(paths.STRONG)
    levels = stage.params.teacher_model
    result = train(stage, levels, [strong], settings.train, paths.PLOT_TEACHER, settings.snapshots)
    scores: dict[int, dict[str, float]] = {}
    early, late = (result.snapshots[share] for share in settings.snapshots)
    for share, model, folder in (
        (settings.snapshots[0], early, paths.TEACHER_EARLY),
        (settings.snapshots[1], late, paths.TEACHER_LATE),
        (1.0, result.model, paths.TEACHER),
    ):
        step = round(share * settings.train.iterations)
        save(stage, model, strong, folder, step)
        scores[step] = validate(stage, model, step)
    return Outcome(metrics_at=scores)


def student(
    stage: StageContext,
    labels: Path = paths.LABELS,
    folder: Path = paths.STUDENT,
    plot: Path = paths.PLOT_STUDENT,
) -> None:
    """Train on all images with masks, the held-out ones too, and on the pseudo-labeled ones in `labels`.

    Choices are behind us: nothing is chosen on the held-out images from here on.
    """
    result = train_student(stage, stage.load(labels), plot)
    save(stage, result.model, stage.load(paths.STRONG), folder, stage.params.student.train.iterations)


def train_student(stage: StageContext, weak: CocoData | None, plot: Path) -> TrainResult:
    """The training of `student`, and without weak images that of `strong_only`."""
    settings = stage.params.student
    return train(
        stage,
        stage.params.model,
        [stage.load(paths.STRONG), stage.load(paths.HOLDOUT)],
        settings.train,
        plot,
        guessed=[] if weak is None else [weak],
        mix=settings.mix,
        initial=load_model(paths.TEACHER)[0] if settings.start == "teacher" else None,
    )


def strong_only(stage: StageContext) -> None:
    """The student's training without the weak images: what the points bought."""
    result = train_student(stage, None, paths.PLOT_STRONG_ONLY)
    steps = stage.params.student.train.iterations
    save(stage, result.model, stage.load(paths.STRONG), paths.STRONG_ONLY, steps)


def train(
    stage: StageContext,
    model: SOLOv2Settings,
    sources: Sequence[CocoData],
    settings: TrainSettings,
    plot: Path,
    snapshots: Sequence[float] = (),
    guessed: Sequence[CocoData] = (),
    mix: MixSettings | None = None,
    initial: nn.Module | None = None,
) -> TrainResult:
    """Train a SOLOv2 and write its curve; arguments as of `train_solov2`."""
    params = stage.params
    images = " + ".join(str(len(source.images)) for source in (*sources, *guessed))
    stage.say(f"{settings.iterations} steps on {images} images, device {stage.device}")
    steps = settings.iterations

    def say_start(unfitting: list[str]) -> None:
        shown = ", ".join(unfitting[:3]) + (", …" if len(unfitting) > 3 else "")
        rest = f"; {len(unfitting)} do not fit and are initialized anew: {shown}" if unfitting else ""
        stage.say(f"starts from the weights of {paths.TEACHER}{rest}")

    with stage.training(steps) as (log, resume):
        result = train_solov2(
            sources,
            model,
            params.resize,
            params.augment,
            settings,
            params.seed,
            guessed=guessed,
            mix=mix,
            initial=initial,
            on_start=say_start,
            on_step=log.on_step,
            snapshots=snapshots,
            device=stage.device,
            resume=resume,
        )
    stage.exit_unless_rank_zero()
    log.write(plot)
    return result


def save(stage: StageContext, model: nn.Module, strong: CocoData, folder: Path, step: int) -> None:
    """Save a network with what is needed to use it."""
    assert isinstance(model, SOLOv2)
    params = stage.params
    (folder / paths.DECODE_FILE).unlink(missing_ok=True)  # of earlier weights
    save_model(
        folder,
        model,
        asdict(model.settings),
        kind="solov2",
        class_names=strong.class_names,
        extra={
            "resize": asdict(params.resize),
            "flips": params.augment.flips,
            "flip_pairs": params.augment.flip_pairs,
            "category_ids": [category.id for category in strong.categories],
            "step": step,
            "seed": params.seed,
        },
    )


def validate(stage: StageContext, model: nn.Module, step: int) -> dict[str, float]:
    """A network's AP on the held-out strong images, as metrics."""
    assert isinstance(model, SOLOv2)
    holdout = stage.load(paths.HOLDOUT)
    decode = stage.params.evaluate.decode  # no file that this stage writes depends on it
    predictor = Predictor(model, stage.params.resize, decode)
    scores = results_ap(holdout, predicted(predictor, holdout), decode.max_detections)
    stage.say(f"step {step}: AP on {len(holdout.images)} held-out images {scores['AP']:.3f}")
    return {f"holdout/{name}": value for name, value in scores.items()}


def predicted(predictor: Predictor, data: CocoData) -> Iterator[dict[str, Any]]:
    """COCO results of every image, predicted as they are consumed; masks of a few images are in memory.

    As `pipelines.inference.label_dataset.predicted_results`, whose module depends on the refiner and on the
    rules for labels.
    """
    for start in range(0, len(data.images), IMAGES):
        group = data.subset(record.id for record in data.images[start : start + IMAGES])
        for number, found in predictor.predict_dataset(group).items():
            yield from to_coco_results(found, number, data.categories)


WORK: dict[str, tuple[Body, tuple[str, ...]]] = {
    "teacher": (teacher, (*COMMON, "teacher")),
    "student": (student, (*COMMON, "student")),
    "strong_only": (strong_only, (*COMMON, "student")),
}

if __name__ == "__main__":
    name = next(iter(sys.argv[1:]), "")
    if name not in WORK:
        print(f"usage: python -m pipelines.stages.train {'|'.join(WORK)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(name, *WORK[name], distributed=True))
