"""Predictions of registered versions on the validation set, each made in a process of its own.

A version runs through MLflow with the code stored in it. So what is measured is what is served, and a
version that does not load any more is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.console.progress import Meter
from pipelines.inference.label_dataset import prompts
from pipelines.promotion.gate_result import Results
from pipelines.registry.lineage import VAL_DIGEST
from pipelines.registry.versions import Version
from pipelines.tracking.store import store_uri
from wssis.data.records import Annotation, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.files import write_json

WORKER = Path(__file__).with_name("predict_worker.py")


@dataclass(frozen=True)
class Predictions:
    """Predictions of a version.

    Attributes:
        results: COCO results of each image, in the order of the images (and of the points of a labeler).
        seconds: to start, load and predict.
        problem: why there are none, or why they cannot be used; "" if all is well.
    """

    results: tuple[Results, ...] = ()
    seconds: float = 0.0
    problem: str = ""


def predict_val(version: Version, val: CocoData, points: bool) -> Predictions:
    """A version's predictions for every image of `val`; with `points`, for a point in each of its objects."""
    try:
        model = version.folder  # by its name a server would send the files once more
    except InputError as error:
        return Predictions(problem=str(error))
    rows = [input_row(image, val, points) for image in val.images]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "results"
        request = {"store": store_uri(), "model": str(model), "rows": rows, "results": str(file)}
        (folder / "request.json").write_text(json.dumps(request))
        problem = _run_worker(folder, f"version {version.number}", len(rows))
        results = () if problem else tuple(json.loads(line) for line in file.read_text().splitlines())
    problem = problem or format_problem(results, val, rows)
    return Predictions(results, time.monotonic() - started, problem)


def input_row(image: ImageRecord, val: CocoData, points: bool) -> dict[str, Any]:
    """The model's input for an image; with `points`, a point for each object that has a mask."""
    row: dict[str, Any] = {"image": str(Path(val.image_dir).resolve() / image.file_name)}
    if points:
        xy, labels, *_ = prompts(replace(image, annotations=tuple(with_masks(image))))
        row["points"] = [
            {"x": x, "y": y, "class": val.class_names[label]}
            for (x, y), label in zip(xy.tolist(), labels.tolist(), strict=True)
        ]
    return row


def with_masks(image: ImageRecord) -> list[Annotation]:
    """The objects of an image that have a mask."""
    return [item for item in image.objects if item.rle is not None]


def _run_worker(folder: Path, name: str, count: int) -> str:
    """Run the worker; returns the last line of its error output, or "" if it succeeded."""
    # No PYTHONPATH and another folder: wssis must come from the version and nowhere else.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-P", str(WORKER), str(folder / "request.json")]
    with open(folder / "errors", "w+") as errors:
        with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            if process.stdout.readline():  # the model is loaded
                with Meter(name, count, "images") as meter:
                    for _ in process.stdout:
                        meter.step()
        if process.returncode == 0:
            return ""
        errors.seek(0)
        lines = [line.strip() for line in errors if line.strip()]
        return lines[-1] if lines else f"the process ended with {process.returncode}"


def format_problem(results: Sequence[Any], val: CocoData, rows: Sequence[dict[str, Any]]) -> str:
    """What makes results unusable, "" if nothing does."""
    known = {category.id for category in val.categories}
    if len(results) != len(rows):
        return f"expected results of {len(rows)} images, found {len(results)}"
    for image, items, row in zip(val.images, results, rows, strict=True):
        if "points" in row and len(items) != len(row["points"]):
            return f"{image.file_name}: expected {len(row['points'])} masks, found {len(items)}"
        for item in items:
            try:
                valid = (
                    item["category_id"] in known
                    and tuple(item["segmentation"]["size"]) == image.size
                    and 0 <= item["score"] <= 1
                )
            except (KeyError, TypeError, ValueError):
                valid = False
            if not valid:
                return f"{image.file_name}: expected COCO results, found {json.dumps(item)[:80]}"
    return ""


def cached(version: Version) -> Predictions | None:
    """Predictions that `cache` kept for this version, None if there are none or libraries changed since."""
    try:
        document = json.loads(_cache_file(version).read_text())
        if document["key"] == _cache_key(version):
            return Predictions(tuple(document["results"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def cache(version: Version, results: Sequence[Results]) -> None:
    """Keep the predictions of the version that is now in production for the next comparison."""
    write_json(_cache_file(version), {"key": _cache_key(version), "results": results})


def _cache_file(version: Version) -> Path:
    return paths.project_root() / paths.SCRATCH / f"answers-{version.name}.json"


def _cache_key(version: Version) -> str:
    libraries = [package_version(name) for name in ("torch", "torchvision", "timm", "numpy")]
    parts = [version.content, version.tags.get(VAL_DIGEST, ""), sys.version, *libraries]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
