"""The report: one HTML file, without network access, of the files that the stages wrote."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.report.charts import bars, curves, reliability_chart
from pipelines.report.pictures import as_webp
from pipelines.report.templates import render
from wssis.errors import InputError
from wssis.evaluation.coco_ap import AP_KEYS
from wssis.evaluation.reliability import calibration_gap, reliability
from wssis.files import write_text

MODELS = {"teacher": "teacher", "strong_only": "strong only", "student": "student"}  # name: title
SIZES = {"AP_small": "small", "AP_medium": "medium", "AP_large": "large"}
MANY_CLASSES = 20  # a longer table is folded
REMEDY = "Run `dvc repro` or `dvc checkout`"


@dataclass(frozen=True)
class Files:
    """The inputs of the report.

    Attributes:
        metrics: JSON of teacher, strong_only, student, pseudo and summary.
        detections: JSON of precision, recall and F1 at the score thresholds; older projects have none.
        losses: CSV curves by training.
        tune: CSV of the trials.
        labels: CSV, one pseudo-label per line, with its IoU if the ground truth is known.
        classes: CSV, AP by class.
        ledger, gallery: JSON.
        pictures: titles and files; missing files are left out.
    """

    metrics: dict[str, Path]
    detections: Path
    losses: dict[str, Path]
    tune: Path
    labels: Path
    classes: Path
    ledger: Path
    gallery: Path
    pictures: dict[str, Path]


def write_report(files: Files, out: Path) -> None:
    """Write the HTML file.

    Raises:
        InputError: a file is missing or damaged; nothing is written then.
    """
    metrics = {name: _json(path) for name, path in files.metrics.items()}
    classes = _table(files.classes)
    known = [
        row for row in _table(files.labels) if row["label"]
    ]  # one empty line if no ground truth is known
    bins = reliability([float(r["confidence"]) for r in known], [float(r["refined_iou"]) for r in known])
    try:
        page = render(
            "report.html",
            metrics=metrics,
            detections=_json(files.detections) if files.detections.exists() else {},
            models=MODELS,
            ap_keys=AP_KEYS,
            costs=costs(_json(files.ledger)),
            charts=training_charts(files),
            sizes=bars(
                list(SIZES.values()),
                {title: [metrics[name][key] for key in SIZES] for name, title in MODELS.items()},
                "AP",
            ),
            classes=[{name: _number(value) for name, value in row.items()} for row in classes],
            many_classes=len(classes) > MANY_CLASSES,
            bins=bins,
            gap=calibration_gap(bins),
            reliability=reliability_chart(bins),
            gallery=_json(files.gallery),
            pictures=[(title, picture(path)) for title, path in files.pictures.items() if path.exists()],
        )
    except KeyError as error:
        raise InputError(
            f"expected the outputs of the stages, found no {error}", where=out, remedy="Run `dvc repro`"
        ) from error
    write_text(out, page)


def costs(ledger: dict[str, Any]) -> dict[str, Any]:
    """Labels by use and kind with their seconds, in the order of the ledger, and total hours."""
    totals = dict(ledger["totals"])
    hours, full = totals.pop("label_hours"), totals.pop("full_label_hours")
    rows = [
        {"use": use, "kind": kind, "each": ledger["prices"][kind], **entry}
        for use, kinds in totals.items()
        for kind, entry in kinds.items()
    ]
    return {"rows": rows, "hours": hours, "full": full, "share": hours / full if full else 0.0}


def training_charts(files: Files) -> list[tuple[str, str]]:
    """Titles and charts of the training runs and of the search."""
    losses = {name: _columns(path, "step", "loss") for name, path in files.losses.items()}
    refiner = {"refiner": losses.pop("refiner")} if "refiner" in losses else {}
    charts = [
        ("Loss of teacher, strong only and student", curves(losses, ("step", "loss"), smooth=True)),
        ("Loss of the refiner", curves(refiner, ("step", "loss"), smooth=True)),
    ]
    trials = _table(files.tune)
    if trials and "value" in trials[0]:
        lines = {"trial": "value", "best so far": "best"}
        search = {name: _columns(files.tune, "trial", column) for name, column in lines.items()}
        charts.append(("Search for the rules of pseudo-labels", curves(search, ("trial", "label utility"))))
    return charts


def picture(path: Path) -> dict[str, Any]:
    """A picture as a data URI, with its size."""
    with Image.open(path) as image:
        small = as_webp(image.convert("RGB"))
        width, height = image.size
    source = f"data:image/webp;base64,{base64.b64encode(small).decode()}"
    return {"source": source, "width": width, "height": height}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError("expected a file, found none", where=path, remedy=REMEDY) from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_read(path))
    except ValueError as error:
        raise InputError(f"expected JSON, found {error}", where=path, remedy=REMEDY) from error


def _table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_read(path))))


def _columns(path: Path, x: str, y: str) -> tuple[Sequence[float], Sequence[float]]:
    rows = [row for row in _table(path) if row.get(y)]
    return [float(row[x]) for row in rows], [float(row[y]) for row in rows]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
