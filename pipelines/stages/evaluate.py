"""evaluate: mask AP of teacher, strong_only and student on `val`, which nothing was chosen on.

It also chooses the score threshold for showing the instances of strong_only and student, on held-out images.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from pipelines import paths
from pipelines.decode_file import write_decode
from pipelines.inference.label_dataset import predict_groups, results_of
from pipelines.inference.load_models import Saved, load_solov2
from pipelines.report.pictures import save_picture, stack
from pipelines.runner.result_journal import Journal
from pipelines.runner.run_stage import Outcome, StageContext, run
from pipelines.runner.training_log import write_csv
from wssis.data.images import read_image
from wssis.data.records import CocoData, ImageRecord
from wssis.evaluation.coco_ap import ap_by_class
from wssis.evaluation.operating_point import Matches
from wssis.files import write_json
from wssis.inference.predictor import Predictor
from wssis.settings import DecodeSettings
from wssis.visualize import draw_instances, side_by_side

MODELS = (
    ("teacher", paths.TEACHER, paths.METRICS_TEACHER),
    ("strong_only", paths.STRONG_ONLY, paths.METRICS_STRONG_ONLY),
    ("student", paths.STUDENT, paths.METRICS_STUDENT),
)

EARLIER = (("teacher", paths.TEACHER_EARLY), ("teacher", paths.TEACHER_LATE))
SCORED = ("strong_only", "student")  # the models that people predict with: these get a score threshold
LINED_UP = 4  # images


def evaluate(stage: StageContext) -> Outcome:
    """Write the metrics of each model, their summary, and pictures of predictions beside the truth."""
    settings = stage.params.evaluate
    val, holdout = stage.load(paths.PREPARED_VAL), stage.load(paths.HOLDOUT)
    scores, networks, held = {}, [], {}
    for name, folder, _ in MODELS:
        saved = load_solov2(folder, stage.device)
        predictor = Predictor(saved.model, saved.resize, settings.decode, settings.batch_size)
        journal = stage.journal(name)
        predict_groups(predictor, val, name, journal)
        networks.append((name, saved, journal))
        if name in SCORED:
            held[name] = stage.journal(f"{name}_holdout")
            predict_groups(predictor, holdout, f"{name}, held-out images", held[name])
    stage.exit_unless_rank_zero()
    most = settings.decode.max_detections
    shown_from = choose_scores(settings.decode, holdout, held)
    classes: list[dict[str, float | int | str]] = [
        {"class": name, "objects": count} for name, count in objects_of(val).items()
    ]
    for (name, _, out), (_, _, journal) in zip(MODELS, networks, strict=True):
        results = results_of(val, journal)
        scores[name], by_class = ap_by_class(val, results, most, settings.backend)
        for row in classes:
            row[name] = by_class[str(row["class"])]["AP"]
        write_json(out, scores[name], indent=2)
        stage.say(f"{name}: AP {scores[name]['AP']:.3f}, AP50 {scores[name]['AP50']:.3f}")
    totals = json.loads(paths.LEDGER.read_text())["totals"]
    summary = {
        "strong_only_AP": scores["strong_only"]["AP"],
        "student_AP": scores["student"]["AP"],
        "gain": scores["student"]["AP"] - scores["strong_only"]["AP"],
        "label_hours": totals["label_hours"],
        "full_label_hours": totals["full_label_hours"],
    }
    write_json(paths.METRICS_SUMMARY, summary, indent=2)
    on_val = {name: journal for name, _, journal in networks}
    detections = shown_metrics(stage, val, on_val, shown_from, most)
    write_json(paths.METRICS_DETECTIONS, detections, indent=2)
    write_csv(paths.PLOT_CLASSES, classes)
    predictor.score = shown_from.get("student", 0.0)
    draw_predictions(predictor, val, settings.pictures)
    found = {f"{name}/{key}": value for name in scores for key, value in scores[name].items()}
    return Outcome(
        metrics=found | detections,
        headline={**summary, "teacher_AP": scores["teacher"]["AP"]},
        files=[(paths.PICTURE_PREDICTIONS, "pictures")],
        pictures=line_up(stage, val, [(name, saved) for name, saved, _ in networks], shown_from),
    )


def choose_scores(decode: DecodeSettings, holdout: CocoData, held: Mapping[str, Journal]) -> dict[str, float]:
    """Choose each model's score threshold by F1 on the held-out images and save it beside the weights.

    Returns:
        {name: score}, without models of which no instance matches a held-out object.
    """
    chosen = {}
    for name, path in zip(SCORED, (paths.STRONG_ONLY_DECODE, paths.STUDENT_DECODE), strict=True):
        best = Matches.of(holdout, results_of(holdout, held[name]), decode.max_detections).best()
        write_decode(path.parent, decode, best.score if best else None)
        if best:
            chosen[name] = best.score
    return chosen


def shown_metrics(
    stage: StageContext,
    val: CocoData,
    journals: Mapping[str, Journal],
    shown_from: Mapping[str, float],
    max_detections: int,
) -> dict[str, float]:
    """Precision, recall and F1 on `val` of the instances at or above each model's score threshold."""
    metrics: dict[str, float] = {}
    for name, score in shown_from.items():
        point = Matches.of(val, results_of(val, journals[name]), max_detections).at(score)
        values = {"score": score, "F1": point.f1, "precision": point.precision, "recall": point.recall}
        metrics |= {f"{name}_{key}": value for key, value in values.items()}
        stage.say(f"{name}: F1 {point.f1:.3f} at score >= {score:.2f}")
    return metrics


def line_up(
    stage: StageContext, val: CocoData, networks: Sequence[tuple[str, Saved]], shown_from: Mapping[str, float]
) -> Iterator[tuple[str, Tensor, int]]:
    """Predictions of the networks and of earlier teachers on the same few images, by step, for the UI to
    line up.

    Each network has its own score threshold; the teachers, which have none, use strong-only's.
    """
    records = _shown(val, LINED_UP)
    pictures = [read_image(val.image_dir, record.file_name, record.size) for record in records]
    for record, picture in zip(records, pictures, strict=True):
        truth = draw_instances(picture, record.instances(), val.class_names)
        yield f"val {record.id}/truth", truth, 0
    earlier = [(name, load_solov2(folder, stage.device)) for name, folder in EARLIER]
    for name, saved in (*earlier, *networks):
        score = shown_from.get(name, shown_from.get("strong_only", 0.0))
        predictor = Predictor(saved.model, saved.resize, stage.params.evaluate.decode, 1, score)
        for record, picture in zip(records, pictures, strict=True):
            yield f"val {record.id}/{name}", draw_found(predictor, picture, val), saved.step


def objects_of(data: CocoData) -> dict[str, int]:
    """How many objects there are of each class."""
    counts = Counter(item.label for image in data.images for item in image.objects)
    return {name: counts[label] for label, name in enumerate(data.class_names)}


def draw_predictions(predictor: Predictor, val: CocoData, count: int) -> None:
    """The student's predictions beside the truth, on the first images that show an object."""
    strips = []
    for record in _shown(val, max(count, 1)):
        picture = read_image(val.image_dir, record.file_name, record.size)
        panels = [
            draw_instances(picture, record.instances(), val.class_names),
            draw_found(predictor, picture, val),
        ]
        strips.append(side_by_side(panels, ["truth", "student"]))
    save_picture(stack(strips), paths.PICTURE_PREDICTIONS)


def _shown(val: CocoData, count: int) -> list[ImageRecord]:
    """The first images that show an object: the same ones in every run on the same data."""
    return [image for image in val.images if image.objects][:count]


def draw_found(predictor: Predictor, picture: Tensor, val: CocoData) -> Tensor:
    """A picture with what a network finds in it."""
    return draw_instances(picture, predictor.predict([picture])[0], val.class_names)


if __name__ == "__main__":
    sys.exit(run("evaluate", evaluate, ("evaluate",), distributed=True))
