"""evaluate: mask AP of teacher, strong_only and student on `val`, which nothing was chosen on."""

import json
import sys
from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from pipelines import paths
from pipelines.curves import write_csv
from pipelines.labeling import predict_left, results_of
from pipelines.models import Saved, load_solov2
from pipelines.pictures import save_picture, stack
from pipelines.stage import Stage, run
from wssis.data.coco import CocoData, ImageRecord
from wssis.data.images import read_image
from wssis.draw import draw_instances, side_by_side
from wssis.files import write_json
from wssis.metrics import ap_by_class
from wssis.predictor import Predictor

MODELS = (
    ("teacher", paths.TEACHER, paths.METRICS_TEACHER),
    ("strong_only", paths.STRONG_ONLY, paths.METRICS_STRONG_ONLY),
    ("student", paths.STUDENT, paths.METRICS_STUDENT),
)

EARLIER = (("teacher", paths.TEACHER_EARLY), ("teacher", paths.TEACHER_LATE))
LINED_UP = 4  # images
DRAWN_FROM = 0.3  # score; below, pictures are a clutter


def evaluate(stage: Stage) -> None:
    """Write the metrics of each model, their summary, and pictures of predictions beside the truth."""
    settings = stage.params.evaluate
    val = stage.load(paths.PREPARED_VAL)
    scores, networks = {}, []
    for name, folder, _ in MODELS:
        saved = load_solov2(folder, stage.device)
        predictor = Predictor(saved.model, saved.resize, settings.decode, settings.batch_size)
        journal = stage.journal(name)
        predict_left(predictor, val, name, journal)
        networks.append((name, saved, journal))
    stage.whole()
    classes: list[dict[str, float | int | str]] = [
        {"class": name, "objects": count} for name, count in objects_of(val).items()
    ]
    for (name, _, out), (_, _, journal) in zip(MODELS, networks, strict=True):
        results = results_of(val, journal)
        scores[name], by_class = ap_by_class(val, results, settings.decode.max_detections, settings.backend)
        for row in classes:
            row[name] = by_class[str(row["class"])]["AP"]
        write_json(out, scores[name], indent=2)
        stage.tracker.metrics({f"{name}/{key}": value for key, value in scores[name].items()})
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
    write_csv(paths.PLOT_CLASSES, classes)
    stage.tracker.headline({**summary, "teacher_AP": scores["teacher"]["AP"]})
    draw_predictions(predictor, val, settings.pictures)
    stage.tracker.file(paths.PICTURE_PREDICTIONS, "pictures")
    if stage.tracker.run_id is not None:
        earlier = [(name, load_solov2(folder, stage.device)) for name, folder in EARLIER]
        line_up(stage, val, [*earlier, *((name, saved) for name, saved, _ in networks)])


def line_up(stage: Stage, val: CocoData, networks: Sequence[tuple[str, Saved]]) -> None:
    """Keep the networks' predictions on the same few images, by step, for the UI to line up."""
    records = shown(val, LINED_UP)
    pictures = [read_image(val.image_dir, record.file_name, record.size) for record in records]
    for record, picture in zip(records, pictures, strict=True):
        truth = draw_instances(picture, record.instances(), val.class_names)
        stage.tracker.picture(f"val {record.id}/truth", truth)
    for name, saved in networks:
        predictor = Predictor(saved.model, saved.resize, stage.params.evaluate.decode, batch_size=1)
        for record, picture in zip(records, pictures, strict=True):
            drawn = draw_found(predictor, picture, val)
            stage.tracker.picture(f"val {record.id}/{name}", drawn, saved.step)


def objects_of(data: CocoData) -> dict[str, int]:
    """How many objects there are of each class."""
    counts = Counter(item.label for image in data.images for item in image.objects)
    return {name: counts[label] for label, name in enumerate(data.class_names)}


def draw_predictions(predictor: Predictor, val: CocoData, count: int) -> None:
    """The student's predictions beside the truth, on the first images that show an object."""
    strips = []
    for record in shown(val, max(count, 1)):
        picture = read_image(val.image_dir, record.file_name, record.size)
        panels = [
            draw_instances(picture, record.instances(), val.class_names),
            draw_found(predictor, picture, val),
        ]
        strips.append(side_by_side(panels, ["truth", "student"]))
    save_picture(stack(strips), paths.PICTURE_PREDICTIONS)


def shown(val: CocoData, count: int) -> list[ImageRecord]:
    """The first images that show an object: the same ones in every run on the same data."""
    return [image for image in val.images if image.objects][:count]


def draw_found(predictor: Predictor, picture: Tensor, val: CocoData) -> Tensor:
    """A picture with what a network finds in it."""
    found = predictor.predict([picture])[0]
    assert found.scores is not None
    return draw_instances(picture, found[found.scores > DRAWN_FROM], val.class_names)


if __name__ == "__main__":
    sys.exit(run("evaluate", evaluate, ("evaluate",), arguments=sys.argv[1:]))
