"""`wssis preset`: makes a file of presets/ the params.yaml, for a person's own data if told."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.config.params import (
    Params,
    differences,
    load_params,
    load_sections,
    parse,
    parse_yaml,
    with_values,
)
from wssis.data.coco import CocoData, ImageRecord, load_coco, save_coco
from wssis.data.images import image_digest
from wssis.errors import InputError
from wssis.files import write_text

TRAIN = "train.json"
VAL = "val.json"
VAL_SHARE = 0.2  # of the images with masks of all their objects, where no other images are given


def put_in_force(name: str, data: str | None, val: str | None) -> None:
    """Show what changes in params.yaml and replace it.

    Args:
        name: a file of presets/, without suffix.
        data: a folder that `wssis import` wrote, to train on; None: the data that the preset names.
        val: another, to report on; None: a share of the drawn images of `data` is set apart, as files in it.

    Raises:
        InputError: unknown preset, or data that cannot be trained on.
    """
    source = _preset(name)
    text = source.read_text(encoding="utf-8")
    if data is not None:
        text = with_values(source, own_data(Path(data), None if val is None else Path(val)))
    elif val is not None:
        raise InputError("expected --data, too", where="--val", remedy="Name the folder to train on")
    new = parse(parse_yaml(text, source), Params, where=source)
    if paths.PARAMS.exists():
        try:
            changes = differences(load_params(paths.PARAMS), new)
        except InputError as error:
            changes = [f"(replaces a file that was wrong: {error})"]
        for line in changes or ["nothing changes"]:
            print(f"  {line}")
    write_text(paths.PARAMS, text)
    print(f"{paths.PARAMS} is now {source}{f' on {data}' if data else ''}. `dvc repro` runs it.")


def own_data(data: Path, val: Path | None) -> dict[str, Any]:
    """Values of params with which the pipeline runs on imported folders; without `val` splits `data`."""
    train = load_coco(_file(data))
    annotations = data / paths.INSTANCES
    if val is not None:
        reported, reported_at = reported_on(val, train, annotations), val / paths.INSTANCES
    else:
        chosen = held_for_val(train)
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
        "data.source": "coco",
        "data.train": _section(annotations, train),
        "data.val": _section(reported_at, reported),
        "split.strong": 1.0 if weak else 0.5,
        "tracking.experiment": _experiment(data),
    }


def reported_on(val: Path, train: CocoData, annotations: Path) -> CocoData:
    """The imported folder to report on, which has the classes of `train`, the data in `annotations`."""
    reported = load_coco(_file(val))
    check_classes(reported, val, train, annotations)
    return reported


def check_classes(reported: CocoData, val: Path, train: CocoData, annotations: Path) -> None:
    """Raise where data to report on, in the folder `val`, has other classes than `train`."""
    if reported.categories != train.categories:
        raise InputError(
            f"expected the classes of {annotations}, found others",
            where=val / paths.INSTANCES,
            remedy=f"Import it with --classes {annotations.parent / 'classes.txt'}",
        )


def check_renewal(data: Path, labels: CocoData) -> None:
    """Raise whatever keeps params.yaml from following a folder, before `labels` are written there.

    Raises:
        InputError: params.yaml is wrong, or a pipeline that uses the folder could not use them.
    """
    used = in_use(data)
    if used is None:
        return
    train, val = used
    if val is None:
        held_for_val(replace(labels, path=data / paths.INSTANCES))
    elif same(data, train):
        reported_on(val, labels, data / paths.INSTANCES)
    else:
        check_classes(labels, data, load_coco(_file(train)), train / paths.INSTANCES)


def in_use(data: Path) -> tuple[Path, Path | None] | None:
    """The imported folders that params.yaml trains and, if that is another, reports on; None: not `data`."""
    if not paths.PARAMS.exists():
        return None
    now = load_sections("data").data
    if now.source != "coco" or now.train is None or now.val is None:
        return None
    train, val = Path(now.train.annotations).parent, Path(now.val.annotations).parent
    if not (same(data, train) or same(data, val)):
        return None
    return train, None if same(train, val) else val


def same(first: Path, second: Path) -> bool:
    """Whether both name one folder."""
    return first.absolute() == second.absolute()


def renew(data: Path) -> None:
    """Have params.yaml follow a folder whose labels have changed, if it is trained or reported on."""
    used = in_use(data)
    if used is None:
        return
    values = own_data(*used)
    kept = {name: value for name, value in values.items() if name.startswith("data.")}
    write_text(paths.PARAMS, with_values(paths.PARAMS, kept))
    print(f"{paths.PARAMS} has the new labels. `dvc repro` runs what depends on them.")


def held_for_val(data: CocoData) -> Sequence[ImageRecord]:
    """The images to report on: a fifth of those that are drawn, at least one, by the hash of their names.

    So that images which are added later leave most of the choice as it is. Corrected ones have no part in it:
    they were picked for their bad labels.

    Raises:
        InputError: fewer than 3 images with masks of all their objects: one is needed here, two to learn.
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


def _preset(name: str) -> Path:
    names = sorted(path.stem for path in paths.PRESETS.glob("*.yaml"))
    if not names:
        raise InputError(
            "expected presets, found none", where=paths.PRESETS, remedy="Run it in the project's folder"
        )
    if name not in names:
        raise InputError(
            f"expected one of {', '.join(names)}, found {name}", where="preset", remedy="Name one of them"
        )
    return paths.PRESETS / f"{name}.yaml"


def _file(folder: Path) -> Path:
    path = folder / paths.INSTANCES
    if not path.exists():
        raise InputError(
            f"expected {paths.INSTANCES}, found none",
            where=folder,
            remedy="Make the folder with `wssis import`",
        )
    return path


def _folder(data: CocoData) -> str:
    """Image folder of a data set, from the project."""
    return os.path.normpath(data.image_dir)


def _section(annotations: Path, data: CocoData) -> dict[str, str]:
    return {"annotations": str(annotations), "images": _folder(data), "sha256": image_digest(annotations)}


def _experiment(data: Path) -> str:
    name = "".join(sign if sign.isalnum() or sign in "_.- " else "_" for sign in data.absolute().name)
    return name or "mine"
