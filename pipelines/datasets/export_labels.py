"""`wssis export-labels`: pseudo-labels for people to correct in their tool, the worst first."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from pipelines import paths
from pipelines.config.protected_paths import check_own
from pipelines.console.text import pluralize
from wssis.data.coco import load_coco
from wssis.data.images import image_path
from wssis.data.records import Annotation, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.files import atomic_path
from wssis.formats.writers import FOLDERS, WRITERS

SHOWN = 3


def export_labels(kind: str, out: str, worst: int | None, images: str | None) -> None:
    """Write the labels of the weak images to `out`, and say what to begin with.

    Args:
        kind: a key of `WRITERS`.
        out: file, or folder for a format of a file for each image.
        worst: how many images; None: all.
        images: folder that the images are copied to; None: they stay where they are.

    Raises:
        InputError: no labels, something is at `out` already, or it cannot be written.
    """
    if worst is not None and worst < 1:
        raise InputError(f"expected 1 image or more, found {worst}", where="--worst", remedy="Name another")
    check_own(out=out, images=images)
    target = Path(out)
    if target.exists() and not (kind in FOLDERS and target.is_dir() and not any(target.iterdir())):
        raise InputError(
            "exists already, perhaps with corrections in it",
            where=target,
            remedy="Name another --out",
        )
    if not paths.LABELS.exists():
        raise InputError(
            "expected pseudo-labels, found none", where=paths.LABELS, remedy="Run `dvc repro pseudo` first"
        )
    data = worst_first(load_coco(paths.LABELS), worst)
    if images is not None:
        data = copied(data, Path(images))
    WRITERS[kind](data, target)
    print("\n".join(_summary(data, target)))


def worst_first(data: CocoData, worst: int | None = None) -> CocoData:
    """Labels to correct: images by their mean quality, and the labels of each by theirs.

    Masks have their quality as `score`; an ignored point is a point, of quality 0. Images without a label are
    the last.
    """
    images = []
    for record in data.images:
        items = sorted((to_correct(item) for item in record.annotations), key=lambda item: item.score or 0.0)
        images.append(replace(record, annotations=tuple(items)))
    images.sort(key=mean_quality)
    return replace(data, images=tuple(images[:worst]), path=None)


def to_correct(item: Annotation) -> Annotation:
    """A label as a person should see it."""
    if item.ignored or item.rle is None:
        return Annotation(item.id, item.label, point=item.point, score=0.0)
    # A mask that a person drew in an image of clicks is there to be kept.
    if item.extra.get("drawn"):
        return Annotation(item.id, item.label, item.rle, item.point, score=1.0)
    quality = float(item.extra.get("quality", item.extra.get("confidence", 0.0)))
    return Annotation(item.id, item.label, item.rle, item.point, score=quality)


def mean_quality(record: ImageRecord) -> float:
    """Mean quality of an image's labels; over 1 where it has none."""
    scores = [item.score or 0.0 for item in record.annotations]
    return sum(scores) / len(scores) if scores else 2.0


def copied(data: CocoData, folder: Path) -> CocoData:
    """The data set with its images in `folder`, under their names; those that are there already stay."""
    for record in data.images:
        source, target = image_path(data.image_dir, record.file_name), folder / record.file_name
        if target.exists():
            continue
        if not source.is_file():
            raise InputError("expected an image, found no such file", where=source)
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    return replace(data, image_dir=os.fspath(folder))


def _summary(data: CocoData, target: Path) -> list[str]:
    """Lines to print."""
    labels = [item for record in data.images for item in record.annotations]
    masks = sum(item.rle is not None for item in labels)
    first = [
        f"{record.file_name} {mean_quality(record):.2f}"
        for record in data.images[:SHOWN]
        if record.annotations
    ]
    return [
        f"{target}: {pluralize(len(data.images), 'image')}, {pluralize(masks, 'mask')}, "
        f"{pluralize(len(labels) - masks, 'point')} without a mask",
        f"begin with (mean quality): {', '.join(first) or 'nothing to correct'}",
    ]
