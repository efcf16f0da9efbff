"""`wssis import`: what annotation tools export, as a folder that the pipeline reads."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import wssis
from pipelines import paths
from pipelines.config.imported_data import check_renewal, renew
from pipelines.config.protected_paths import check_own
from pipelines.console.text import pluralize
from wssis.data.coco import save_coco
from wssis.data.images import image_digest
from wssis.data.records import IMAGE_KINDS, CocoData
from wssis.errors import InputError
from wssis.files import gc_disabled, write_json, write_text
from wssis.formats.assemble import Gathered, Notices, gather
from wssis.formats.class_map import Classes, as_line, read_classes
from wssis.formats.parallel import cores
from wssis.formats.readers import READERS
from wssis.formats.records import Options

SOURCE = "source.json"
NOUNS = {"masks": "mask", "points": "point", "boxes": "box", "regions": "region"}
CLASSES = "classes.txt"
IMAGES = "images"
PARALLEL_FROM = 2**24  # bytes of annotations


def import_labels(
    kind: str,
    sources: Sequence[str],
    images: str | None,
    out: str,
    *,
    classes: str | None = None,
    options: Options | None = None,
    force: bool = False,
    replacing: bool = False,
) -> None:
    """Write OUT/instances.json, classes.txt and source.json, and say what is in them.

    Args:
        kind: a key of `READERS`.
        sources: annotation files or folders.
        images: folder of the images; None: the sources hold them, they are written to OUT/images.
        out: folder.
        classes: file of class names, see `read_classes`.
        options: for the reader.
        force: whether what an earlier import wrote there may be replaced.
        replacing: whether a later source's labels of an image replace those of earlier ones.

    Raises:
        InputError: unknown format, wrong sources or images, an earlier import in OUT, or labels that a
            pipeline which is trained on OUT could not use; nothing is written.
    """
    options = options or Options()
    folder = Path(out)
    check_own(out=out, images=images)
    check_sources(kind, sources)
    if (folder / paths.INSTANCES).exists() and not force:
        raise InputError(
            "expected a new folder, found an earlier import",
            where=folder / paths.INSTANCES,
            remedy="Name another --out, replace it with --force, or correct it with --into",
        )
    wanted = read_classes(classes) if classes else None
    with _temporary(folder.absolute().parent) as temporary:
        gathered = read_sources(kind, sources, images, temporary / IMAGES, wanted, options, replacing)
        data = gathered.data
        check_renewal(folder, data)
        if images is None:
            data = replace(data, image_dir=str(folder / IMAGES))
            _replace_folder(temporary / IMAGES, folder / IMAGES)
        note: dict[str, Any] = {
            "images": data.image_dir,
            **origin(kind, sources, options, replacing, gathered.notices),
            "classes": classes,
            "counts": counts(data),
        }
        write_import(folder, data, note)
    print("\n".join(summary(folder / paths.INSTANCES, note["counts"], gathered.notices)))
    renew(folder)


def read_sources(
    kind: str,
    sources: Sequence[str],
    images: str | None,
    embedded: Path,
    classes: Classes | None,
    options: Options,
    replacing: bool,
) -> Gathered:
    """What annotation files hold, as one data set; images that they hold go to the folder `embedded`."""
    reader = READERS[kind]
    with gc_disabled():
        return gather(
            ((source, reader(Path(source), options)) for source in sources),
            images,
            classes=classes,
            name=options.name,
            replace=replacing,
            embedded=embedded,
            workers=cores() if sum(map(_size, sources)) > PARALLEL_FROM else 0,
        )


def origin(
    kind: str, sources: Sequence[str], options: Options, replacing: bool, notices: Notices
) -> dict[str, Any]:
    """Where labels came from, for source.json."""
    return {
        "format": kind,
        "sources": [{"path": source, "sha256": _digest(Path(source))} for source in sources],
        "options": {**asdict(options), "replace": replacing},
        "version": wssis.__version__,
        "notices": notices.values(),
    }


def write_import(folder: Path, data: CocoData, note: dict[str, Any]) -> None:
    """Write the files of an imported folder; instances.json is the last: where it is, everything is."""
    write_text(folder / CLASSES, "".join(f"{as_line(name)}\n" for name in data.class_names))
    write_json(folder / SOURCE, note, indent=2)
    save_coco(data, folder / paths.INSTANCES)


def check_sources(kind: str, sources: Sequence[str]) -> None:
    """Raises InputError for an unknown format, and for sources that are missing or named twice."""
    if kind not in READERS:
        raise InputError(
            f"expected one of {', '.join(READERS)}, found {kind}",
            where="wssis import",
            remedy="Name the format first",
        )
    for source in sources:
        if not os.path.exists(source):
            raise InputError(
                "expected annotations, found no such file", where=source, remedy="Check the path"
            )
    real = [os.path.realpath(source) for source in sources]
    if twice := [source for source, path in zip(sources, real, strict=True) if real.count(path) > 1]:
        raise InputError("expected each source once", where=twice[0], remedy="Name it once")


def counts(data: CocoData) -> dict[str, Any]:
    """Images and labels by kind, objects by class."""
    kinds = Counter(image.kind for image in data.images)
    classes = data.class_names
    labels: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for image in data.images:
        for item in image.annotations:
            if item.ignored:
                labels["regions"] += 1
                continue
            kind = "masks" if item.rle is not None else "boxes" if "box" in item.extra else "points"
            labels[kind] += 1
            names[classes[item.label]] += 1
    return {
        "images": {"all": len(data.images)} | {k: kinds[k] for k in IMAGE_KINDS},
        "labels": {kind: labels[kind] for kind in ("masks", "points", "boxes", "regions")},
        "classes": {name: names[name] for name in classes},
    }


def summary(path: Path, found: dict[str, Any], notices: Notices) -> list[str]:
    """Lines to print of `counts`."""
    images, labels, classes = found["images"], found["labels"], found["classes"]
    shown = [f"{name} {count}" for name, count in list(classes.items())[:12]]
    return [
        f"{path}: {pluralize(images['all'], 'image')}, "
        + ", ".join(f"{images[kind]} {kind}" for kind in IMAGE_KINDS),
        "labels: " + ", ".join(pluralize(count, NOUNS[kind], kind) for kind, count in labels.items()),
        f"{pluralize(len(classes), 'class', 'classes')}: "
        f"{', '.join(shown)}{', …' if len(classes) > 12 else ''}",
        *(f"note: {line}" for line in notices.lines()),
    ]


@contextmanager
def _temporary(parent: Path) -> Iterator[Path]:
    """A folder beside OUT, so that images get there by a rename; removed whatever happens."""
    try:
        existing = next(path for path in (parent, *parent.parents) if path.is_dir())
        folder = Path(tempfile.mkdtemp(dir=existing, prefix=".wssis-import-"))
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", where=parent) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace_folder(new: Path, old: Path) -> None:
    try:
        old.parent.mkdir(parents=True, exist_ok=True)
        if old.exists():
            os.replace(old, new.parent / "old")
        os.replace(new, old)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", where=old) from error


def _size(source: str) -> int:
    return os.path.getsize(source) if os.path.isfile(source) else 0


def _digest(source: Path) -> str:
    """SHA-256 of a file; of a folder, that of the names and digests of its files."""
    if not source.is_dir():
        return image_digest(source)
    digest = hashlib.sha256()
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(source)}\0{image_digest(path)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
