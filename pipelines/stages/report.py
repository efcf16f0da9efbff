"""report: what the pipeline came to, as a table, a picture and one HTML file that needs no network."""

import json
import sys
from pathlib import Path

from pipelines import paths
from pipelines.inference.load_models import load_predictor
from pipelines.report.page import Files, write_report
from pipelines.report.pictures import save_picture
from pipelines.runner.run_stage import Outcome, StageContext, run
from wssis.data.images import read_image
from wssis.files import write_text
from wssis.visualize import draw_instances, side_by_side

Row = tuple[str, ...]

# What the page is made of; `wssis report` writes the same page from it.
FILES = Files(
    metrics={
        "teacher": paths.METRICS_TEACHER,
        "strong_only": paths.METRICS_STRONG_ONLY,
        "student": paths.METRICS_STUDENT,
        "pseudo": paths.METRICS_PSEUDO,
        "summary": paths.METRICS_SUMMARY,
    },
    detections=paths.METRICS_DETECTIONS,
    losses={
        "teacher": paths.PLOT_TEACHER,
        "strong only": paths.PLOT_STRONG_ONLY,
        "student": paths.PLOT_STUDENT,
        "refiner": paths.PLOT_REFINER,
    },
    tune=paths.PLOT_TUNE_PSEUDO,
    labels=paths.PLOT_PSEUDO,
    classes=paths.PLOT_CLASSES,
    ledger=paths.LEDGER,
    gallery=paths.GALLERY,
    pictures={
        "Teacher's rough masks, refined masks, and what the student sees": paths.REPORT_EXAMPLE,
        "Student on images never seen, beside the truth": paths.PICTURE_PREDICTIONS,
    },
)


def report(stage: StageContext) -> Outcome:
    """Write report/: index.html, summary.md, example.png."""
    metrics = {name: json.loads(path.read_text()) for name, path in FILES.metrics.items()}
    detections = json.loads(FILES.detections.read_text())
    tables = [model_table(metrics), label_table(metrics)]
    if detections:
        tables.append(detection_table(detections))
    draw_example(stage, paths.REPORT_EXAMPLE)
    write_text(paths.REPORT_SUMMARY, "\n\n".join(as_markdown(table) for table in tables) + "\n")
    write_report(FILES, paths.REPORT_HTML)
    stage.say(f"{paths.REPORT_HTML} and {paths.REPORT_SUMMARY}")
    # Logged again, because stages that DVC skipped have no run under this parent.
    pseudo = {f"pseudo/{name}": value for name, value in metrics["pseudo"].items()}
    return Outcome(
        headline=metrics["summary"] | {"teacher_AP": metrics["teacher"]["AP"]} | pseudo,
        files=[(paths.REPORT, "report")],
    )


def model_table(metrics: dict[str, dict[str, float]]) -> list[Row]:
    """AP of each model on `val`, header first."""
    keys = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    names = (("teacher", "teacher"), ("strong_only", "strong only"), ("student", "student: strong + points"))
    # pycocotools says -1 where no object has that size.
    rows = [
        (title, *(f"{metrics[name][key]:.3f}" if metrics[name][key] >= 0 else "–" for key in keys))
        for name, title in names
    ]
    return [("model", *keys), *rows, ("gain from points", f"{metrics['summary']['gain']:+.3f}", *[""] * 5)]


def label_table(metrics: dict[str, dict[str, float]]) -> list[Row]:
    """Pseudo-labels and labeling hours, header first."""
    pseudo, summary = metrics["pseudo"], metrics["summary"]
    rows: list[Row] = [
        ("points", f"{pseudo['points']}"),
        ("of these masks / ignored", f"{pseudo['masks']} / {pseudo['ignored']}"),
    ]
    if "refined_iou" in pseudo:
        rows.append(
            ("IoU of rough / refined masks", f"{pseudo['rough_iou']:.3f} / {pseudo['refined_iou']:.3f}")
        )
        rows.append(("share over IoU .5", f"{pseudo['rough_iou50']:.3f} / {pseudo['refined_iou50']:.3f}"))
    hours = f"{summary['label_hours']:.2f} h / {summary['full_label_hours']:.2f} h"
    return [("labels", ""), *rows, ("labeling: this / every mask drawn", hours)]


def detection_table(detections: dict[str, float]) -> list[Row]:
    """Score threshold, and precision, recall and F1 on `val`, of each model; header first."""
    keys = ("precision", "recall", "F1")
    rows = [
        (title, f"{detections[f'{name}_score']:.2f}", *(f"{detections[f'{name}_{key}']:.3f}" for key in keys))
        for name, title in (("strong_only", "strong only"), ("student", "student: strong + points"))
        if f"{name}_score" in detections
    ]
    return [("instances shown", "score threshold", *keys), *rows]


def as_markdown(table: list[Row]) -> str:
    """A table in Markdown, columns aligned."""
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    return "\n".join(
        f"| {line} |" for line in [lines[0], " | ".join("-" * width for width in widths), *lines[1:]]
    )


def draw_example(stage: StageContext, path: Path) -> None:
    """Rough masks, refined masks and the student's prediction on the first weak image with three points."""
    labels, rough = stage.load(paths.PROPOSED), stage.load(paths.PROPOSED_ROUGH)
    settings = stage.params.evaluate.decode
    predictor, categories = load_predictor(paths.STUDENT, settings, device=stage.device, score=None)
    names = [category.name for category in categories]
    record = next((image for image in labels.images if len(image.annotations) >= 3), labels.images[0])
    picture = read_image(labels.image_dir, record.file_name, record.size)
    panels = [
        draw_instances(picture, rough.by_id[record.id].instances(), names),
        draw_instances(picture, record.instances(), names),
        draw_instances(picture, predictor.predict([picture])[0], names),
    ]
    save_picture(side_by_side(panels, ["rough", "refined", "student"]), path)


if __name__ == "__main__":
    sys.exit(run("report", report, ("evaluate",)))
