"""`wssis budget --which N`: the images that are worth drawing next."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pipelines import paths
from pipelines.config.params import load_params
from pipelines.console.progress import Meter
from pipelines.console.text import pluralize
from wssis.data.coco import load_coco
from wssis.data.images import read_image
from wssis.data.records import CocoData, ImageRecord
from wssis.errors import InputError
from wssis.image_ranking import Candidate, appearance, rank_images


def which_images(count: int) -> list[dict[str, Any]]:
    """Print the images to draw next, best first, and return them.

    Raises:
        InputError: the pipeline has made no pseudo-labels yet.
    """
    if not paths.LABELS.exists():
        raise InputError("does not exist", where=paths.LABELS, remedy="Run `dvc repro pseudo`")
    labels = load_coco(paths.LABELS)
    drawn = [load_coco(path) for path in (paths.STRONG, paths.HOLDOUT)]
    masks = np.zeros(labels.num_classes, dtype=np.int64)
    for data in drawn:
        for record in data.images:
            np.add.at(masks, [item.label for item in record.objects], 1)
    unlabeled = {record.id: record for record in _unlabeled()}
    records = {record.id: record for record in labels.images if not _is_drawn(record)} | unlabeled
    total = len(records) + sum(len(data.images) for data in drawn)
    with Meter("look", total, "images") as meter:
        seen = [look for data in drawn for look in _looks(data, data.images, meter)]
        looks = list(_looks(labels, records.values(), meter))
    candidates = [
        Candidate(record.id, None if record.id in unlabeled else kinds, quality, look)
        for record, look in zip(records.values(), looks, strict=True)
        for kinds, quality in [_clicked(record)]
    ]
    chosen = rank_images(candidates, masks, np.stack(seen) if seen else np.zeros((0, 0)), count)
    seconds = load_params().prices.mask
    rows: list[dict[str, Any]] = []
    for choice in chosen:
        record = records[choice.id]
        kinds, quality = _clicked(record)
        names = sorted({labels.class_names[label] for label in kinds})
        rows.append(
            {
                "image_id": record.id,
                "file_name": record.file_name,
                "objects": None if record.id in unlabeled else len(kinds),
                "hours": round(len(kinds) * seconds / 3600, 4),
                "quality": round(float(quality.mean()), 4) if len(quality) else None,
                "classes": names,
                "gain": round(choice.gain, 4),
            }
        )
    hours = sum(row["hours"] for row in rows)
    print(f"Draw these first ({pluralize(len(rows), 'image')}, {hours:.1f} h):")
    for row in rows:
        quality = "" if row["quality"] is None else f", labels of quality {row['quality']:.2f}"
        objects = "not labeled yet"
        if row["objects"] is not None:
            objects = f"{pluralize(row['objects'], 'object')} ({', '.join(row['classes'])})"
        print(f"  {row['file_name']}: {objects}{quality}")
    return rows


def _unlabeled() -> Sequence[ImageRecord]:
    """The training images that have neither masks nor points, which the stage split left out."""
    left_out = set(json.loads(paths.LEDGER.read_text())["unlabelled"]) if paths.LEDGER.exists() else set()
    return (
        [image for image in load_coco(paths.PREPARED_TRAIN).images if image.id in left_out]
        if left_out
        else []
    )


def _is_drawn(record: ImageRecord) -> bool:
    """Whether a person drew every mask of a clicked image."""
    return bool(record.annotations) and all(item.extra.get("drawn") for item in record.annotations)


def _clicked(record: ImageRecord) -> tuple[Any, Any]:
    """Classes (N,) and expected quality (N,) of the labels of an image's points; 0 of an ignored one."""
    items = [item for item in record.annotations if not item.extra.get("drawn")]
    quality = [0.0 if item.ignored else float(item.extra.get("quality", 0.0)) for item in items]
    return np.array([item.label for item in items], dtype=np.int64), np.array(quality)


def _looks(data: CocoData, records: Iterable[ImageRecord], meter: Meter) -> Iterable[Any]:
    for record in records:
        yield appearance(read_image(data.image_dir, record.file_name, record.size).numpy())
        meter.step()
