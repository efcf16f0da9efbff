"""What registered versions answer on the validation set: each is asked in a process of its own.

A version is asked through MLflow with the code that it brings along, so that what is measured is what is
served, and a version that cannot be loaded anew is found out.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.console.progress import Meter
from pipelines.inference.label_dataset import prompts
from pipelines.registry.lineage import VAL_DIGEST
from pipelines.registry.versions import Version
from pipelines.tracking.store import store_uri
from wssis.data.coco import Annotation, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.files import write_json

CHILD = Path(__file__).with_name("predict_worker.py")
Results = list[dict[str, Any]]


@dataclass(frozen=True)
class Answers:
    """What a version answered.

    Attributes:
        results: COCO results of each image, in the order of the images (and of the points of a labeler).
        seconds: start, loading and answering.
        problem: why there are none, or why they cannot be used; "" if all is well.
    """

    results: tuple[Results, ...] = ()
    seconds: float = 0.0
    problem: str = ""


def ask(version: Version, val: CocoData, points: bool) -> Answers:
    """The answers of a version to every image of `val`, to the points of its objects if `points`."""
    try:
        own = version.folder
    except InputError as error:
        return Answers(problem=str(error))
    rows = [question(record, val, points) for record in val.images]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked = {
            "store": store_uri(),
            "model": str(own),  # by its name a server would send the files once more
            "rows": rows,
            "answers": str(folder / "answers"),
        }
        (folder / "questions.json").write_text(json.dumps(asked))
        complaint = _run(folder, f"version {version.number}", len(rows))
        if complaint:
            return Answers(seconds=time.monotonic() - started, problem=complaint)
        lines = (folder / "answers").read_text().splitlines()
    results = tuple(json.loads(line) for line in lines)
    problem = fault(results, val, rows)
    return Answers(results, time.monotonic() - started, problem)


def question(record: ImageRecord, val: CocoData, points: bool) -> dict[str, Any]:
    """The row of an image; with `points`, a point for each object that has a mask."""
    row: dict[str, Any] = {"image": str(Path(val.image_dir).resolve() / record.file_name)}
    if points:
        xy, labels, _ = prompts(replace(record, annotations=tuple(masked(record))))
        row["points"] = [
            {"x": x, "y": y, "class": val.class_names[label]}
            for (x, y), label in zip(xy.tolist(), labels.tolist(), strict=True)
        ]
    return row


def masked(record: ImageRecord) -> list[Annotation]:
    """The objects of an image that have a mask."""
    return [item for item in record.objects if item.rle is not None]


def _run(folder: Path, name: str, count: int) -> str:
    """Run the process; returns the last line of its complaint, or "" if it did well."""
    # No PYTHONPATH and a folder of its own: wssis must be found in the version and nowhere else.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = [sys.executable, "-P", str(CHILD), str(folder / "questions.json")]
    with open(folder / "errors", "w+") as errors:
        with subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            if process.stdout.readline():  # it is loaded
                with Meter(name, count, "images") as meter:
                    for _ in process.stdout:
                        meter.step()
        if process.returncode == 0:
            return ""
        errors.seek(0)
        lines = [line.strip() for line in errors if line.strip()]
        return lines[-1] if lines else f"it ended with {process.returncode}"


def fault(answers: tuple[Any, ...], val: CocoData, rows: list[dict[str, Any]]) -> str:
    """What is wrong with the form of the answers, "" if nothing is."""
    known = {category.id for category in val.categories}
    if len(answers) != len(rows):
        return f"expected {len(rows)} answers, found {len(answers)}"
    for record, found, row in zip(val.images, answers, rows, strict=True):
        if "points" in row and len(found) != len(row["points"]):
            return f"{record.file_name}: expected {len(row['points'])} masks, found {len(found)}"
        for item in found:
            try:
                good = (
                    item["category_id"] in known
                    and tuple(item["segmentation"]["size"]) == record.size
                    and 0 <= item["score"] <= 1
                )
            except (KeyError, TypeError, ValueError):
                good = False
            if not good:
                return f"{record.file_name}: expected COCO results, found {json.dumps(item)[:80]}"
    return ""


def kept(version: Version) -> Answers | None:
    """Answers of a version that were kept for the next comparison, None if there are none that hold."""
    try:
        document = json.loads(_file(version).read_text())
        if document["key"] == _key(version):
            return Answers(tuple(document["results"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def keep(version: Version, answers: Answers) -> None:
    """Keep the answers of the version that is now in production, in place of those of the last."""
    write_json(_file(version), {"key": _key(version), "results": answers.results})


def _file(version: Version) -> Path:
    return paths.project_root() / paths.SCRATCH / f"answers-{version.name}.json"


def _key(version: Version) -> str:
    libraries = [package_version(name) for name in ("torch", "torchvision", "timm", "numpy")]
    parts = [version.content, version.tags.get(VAL_DIGEST, ""), sys.version, *libraries]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
