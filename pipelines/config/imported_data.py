"""Imported data in params.yaml: which images are trained on and which are reported on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.config.params import load_sections, with_values
from wssis.data.coco import load_coco, save_coco
from wssis.data.images import image_digest
from wssis.data.records import CocoData, ImageRecord
from wssis.errors import InputError
from wssis.files import write_text

TRAIN = "train.json"
VAL = "val.json"
VAL_SHARE = 0.2  # of the images with masks of all their objects, where no other images are given


def values_for(data: Path, val: Path | None) -> dict[str, Any]:
    """Values of params.yaml for imported folders; without `val`, writes TRAIN and VAL in `data`."""
    train = _load(data)
    annotations = data / paths.INSTANCES
    if val is not None:
        reported, reported_at = _load(val), val / paths.INSTANCES
        _check_classes(reported, val, train, annotations)
    else:
        chosen = choose_val(train)
        annotations, reported_at = data / TRAIN, data / VAL
        reported = train.subset(image.id for image in chosen)
        train = train.subset({image.id for image in train.images} - {image.id for image in chosen})
        for part, path in ((train, annotations), (reported, reported_at)):
            save_coco(replace(part, path=None), path)
        print(f"{reported_at}: {len(chosen)} of the images with masks, set apart for the report")
    weak = sum(not image.strong for image in train.images)
    if not weak:
        print("every image is drawn: the masks of half of them are replaced by points (split.strong)")
    return {
        "data": {
            "source": "coco",
            "train": _folder(annotations, train),
            "val": _folder(reported_at, reported),
        },
        "split": {"strong": 1.0 if weak else 0.5},
        "tracking": {"experiment": _experiment(data)},
    }


def check_renewal(data: Path, labels: CocoData) -> None:
    """Check, before `labels` are written to a folder, that params.yaml can follow.

    Raises:
        InputError: params.yaml is invalid, or a pipeline that uses the folder cannot use these labels.
    """
    used = _folders_in_use(data)
    if used is None:
        return
    train, val = used
    if val is None:
        choose_val(replace(labels, path=data / paths.INSTANCES))
    elif _same(data, train):
        _check_classes(_load(val), val, labels, data / paths.INSTANCES)
    else:
        _check_classes(labels, data, _load(train), train / paths.INSTANCES)


def renew(data: Path) -> None:
    """Update params.yaml to the new labels of a folder, if it trains or reports on them."""
    used = _folders_in_use(data)
    if used is None:
        return
    write_text(paths.PARAMS, with_values(paths.PARAMS, {"data": values_for(*used)["data"]}))
    print(f"{paths.PARAMS} has the new labels. `dvc repro` runs what depends on them.")


def choose_val(data: CocoData) -> Sequence[ImageRecord]:
    """The images to report on: a fifth of the drawn ones, at least one, chosen by the hash of their names.

    The hash keeps most of the choice when images are added. Corrected images are never chosen: they were
    selected for their bad labels.

    Raises:
        InputError: fewer than 3 images with masks of all their objects: one is needed here, two to train.
    """
    drawn = [image for image in data.images if image.objects and image.strong and not image.corrected]
    if len(drawn) < 3:
        raise InputError(
            f"expected at least 3 images with masks of all their objects, found {len(drawn)}",
            where=data.path or "",
            remedy="Draw more, or name drawn images to report on with --val",
        )
    drawn.sort(key=lambda image: hashlib.sha256(image.file_name.encode(errors="surrogatepass")).digest())
    return drawn[: max(1, min(round(VAL_SHARE * len(drawn)), len(drawn) - 2))]


def _check_classes(reported: CocoData, val: Path, train: CocoData, annotations: Path) -> None:
    """Raise if data to report on, in the folder `val`, has other classes than `train`, in `annotations`."""
    if reported.categories != train.categories:
        raise InputError(
            f"expected the classes of {annotations}, found others",
            where=val / paths.INSTANCES,
            remedy=f"Import it with --classes {annotations.parent / 'classes.txt'}",
        )


def _folders_in_use(data: Path) -> tuple[Path, Path | None] | None:
    """The imported folders that params.yaml trains on and, if separate, reports on; None if not `data`."""
    if not paths.PARAMS.exists():
        return None
    section = load_sections("data").data
    if section.source != "coco" or section.train is None or section.val is None:
        return None
    train, val = Path(section.train.annotations).parent, Path(section.val.annotations).parent
    if not (_same(data, train) or _same(data, val)):
        return None
    return train, None if _same(train, val) else val


def _same(first: Path, second: Path) -> bool:
    return first.absolute() == second.absolute()


def _load(folder: Path) -> CocoData:
    path = folder / paths.INSTANCES
    if not path.exists():
        raise InputError(
            f"expected {paths.INSTANCES}, found none",
            where=folder,
            remedy="Create the folder with `wssis import`",
        )
    return load_coco(path)


def _folder(annotations: Path, data: CocoData) -> dict[str, str]:
    return {
        "annotations": str(annotations),
        "images": os.path.normpath(data.image_dir),
        "sha256": image_digest(annotations),
    }


def _experiment(data: Path) -> str:
    name = "".join(sign if sign.isalnum() or sign in "_.- " else "_" for sign in data.absolute().name)
    return name or "mine"
