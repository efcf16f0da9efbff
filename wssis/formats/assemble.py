"""Labels of one or several annotation files, as one data set.

Each image is found and its header read once; labels are brought to upright pixels (`fit`); what several files
say of one image is put together; classes get their ids. What cannot be used is counted (`Notices`), never
dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wssis.data import rle as rle_api
from wssis.data.records import Annotation, Click, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.formats.class_map import Classes, named, one_line
from wssis.formats.find_images import Embedded, Locator
from wssis.formats.parallel import in_batches
from wssis.formats.records import LabeledImage, Unlabeled
from wssis.formats.to_pixels import Fit, Task, fit_all, task_of

Sources = Iterable[tuple[str, Iterable[LabeledImage | Unlabeled]]]
FIRST = 3  # records that are named


class Notices:
    """Non-errors that a person should know about: counts by kind, with the first few records."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, list[str]]] = {}

    def add(self, what: str, record: str, count: int = 1) -> None:
        """Count `what` once more, at `record`."""
        before, records = self.found.get(what, (0, []))
        self.found[what] = before + count, (records if len(records) >= FIRST else [*records, record])

    def lines(self) -> list[str]:
        """A line for each kind."""
        return [
            f"{what}: {count} ({'; '.join(records)}{'; …' if count > len(records) else ''})"
            for what, (count, records) in self.found.items()
        ]

    def values(self) -> list[Mapping[str, Any]]:
        """The same as JSON values."""
        return [
            {"what": what, "count": count, "first": records} for what, (count, records) in self.found.items()
        ]


@dataclass(frozen=True)
class Gathered:
    """The data set, and what a person should know of its making."""

    data: CocoData
    notices: Notices


class _Object(NamedTuple):
    name: str
    counts: str | None  # of its mask
    area: int
    box: tuple[float, float, float, float] | None
    point: tuple[float, float] | None
    clicks: tuple[Click, ...]
    crowd: bool
    ignore: bool
    score: float | None


class _Seen:
    """An image file, and what is known of it so far."""

    __slots__ = ("name", "objects", "size", "source")

    def __init__(self, source: int, name: str) -> None:
        self.source, self.name = source, name
        self.size = (0, 0)
        self.objects: list[_Object] = []


def gather(
    sources: Sources,
    images: str | Path | None,
    *,
    classes: Classes | None = None,
    name: str = "object",
    replace: bool = False,
    embedded: str | Path = "images",
    workers: int = 0,
) -> Gathered:
    """One data set of what readers return.

    Args:
        sources: annotation files and the images that they speak of; `Unlabeled` ones are only counted.
        images: folder of the image files; None: the annotation files hold them.
        classes: classes and their order; None: those that the labels name, sorted.
        name: class of labels that have none.
        replace: a later source's labels of an image replace those of earlier ones, instead of adding to them.
        embedded: folder to write images to, where `images` is None.
        workers: processes beside this one, which pay off from some ten thousand labels.

    Returns:
        Images in the order in which they are first named; ids from 1. An object with a mask has no box; one
        with a box and no mask keeps it as `box` in `extra`, and the middle of it as its point if it has none.

    Raises:
        InputError: images that are missing, ambiguous or of another size; labels far outside their image;
            classes that `classes` has not; sources without an image.
    """
    gatherer = _Gatherer(images, classes, name, replace, Path(embedded))
    return gatherer.run(sources, workers)


class _Gatherer:
    def __init__(
        self, images: str | Path | None, classes: Classes | None, name: str, replace: bool, embedded: Path
    ) -> None:
        self.locator = None if images is None else Locator(images)
        self.embedded = Embedded(embedded)
        self.folder = str(embedded if images is None else images)
        self.classes, self.name, self.replace = classes, name, replace
        self.notices = Notices()
        self.seen: dict[str, _Seen] = {}
        self.unknown: dict[str, str] = {}  # class: its first label
        self.lost: list[InputError] = []

    def run(self, sources: Sources, workers: int) -> Gathered:
        done = in_batches(
            fit_all,
            self.found(sources),
            payload=lambda item: item[0],
            weight=lambda item: 2 + len(item[0].drawn),
            workers=workers,
        )
        for (task, source, image), fitted in done:
            self.take(task, source, image, fitted)
        if self.lost:
            first, others = self.lost[0], len(self.lost) - 1
            raise InputError(
                first.problem,
                where=first.where,
                record=first.record,
                remedy=f"Check --images{f' ({others} more images are not found)' if others else ''}",
            )
        self.check_classes()
        if not self.seen:
            raise InputError(
                "expected images, found none",
                where=", ".join(self.paths),
                remedy="; ".join(self.notices.lines()),
            )
        return Gathered(self.data(), self.notices)

    def found(self, sources: Sources) -> Iterator[tuple[Task, int, LabeledImage]]:
        """What to fit; nothing more once an image is lost, since nothing will come of it."""
        self.paths: list[str] = []
        for source, (path, images) in enumerate(sources):
            self.paths.append(path)
            for image in images:
                if isinstance(image, Unlabeled):
                    self.notices.add(image.what, image.record)
                    continue
                where = image.where or path
                try:
                    file = self.file(image, where)
                except InputError as error:
                    if self.locator is None:
                        raise
                    self.lost.append(error)
                    continue
                self.note(file, source, image, where)
                if not self.lost:
                    yield task_of(image, self.folder, file, where), source, image

    def file(self, image: LabeledImage, where: str) -> str:
        if self.locator is None:
            return self.embedded.find(image, where)
        paths: list[str] = []
        for name in (image.file, *image.also):
            paths = self.locator.find(name) or paths
            if len(paths) == 1:
                return paths[0]
        several = f"expected one image that {image.file!r} can mean, found {', '.join(paths[:3])}"
        none = f"expected the image {image.file!r}, found none in {self.folder}"
        raise InputError(several if paths else none, where=where, record=image.record)

    def note(self, file: str, source: int, image: LabeledImage, where: str) -> None:
        """Know the file as the image of its name; a source must not mean it by another name, too."""
        seen = self.seen.get(file)
        if seen is None:
            self.seen[file] = _Seen(source, image.file)
            return
        if seen.source == source and seen.name != image.file:
            raise InputError(
                f"expected an image of its own for {image.file!r}, "
                f"found {file}, which {seen.name!r} means, too",
                where=where,
                record=image.record,
                remedy="Put all images into the folder, with their own folders",
            )
        if seen.source != source:
            if self.replace:
                self.notices.add("images whose labels a later source replaced", file)
                seen = self.seen[file] = _Seen(source, image.file)
            seen.source, seen.name = source, image.file

    def take(self, task: Task, source: int, image: LabeledImage, fitted: Fit) -> None:
        """Keep the labels of an image, those that a later source has not replaced."""
        for what, record in fitted.notices:
            self.notices.add(what, record)
        seen = self.seen[task.file]
        if self.replace and seen.source != source:
            return
        seen.size = fitted.size
        for label, made in zip(image.labels, fitted.labels, strict=True):
            name = one_line(label.name) or self.name
            if self.classes is not None and name not in self.classes.meaning:
                self.unknown.setdefault(name, f"{task.where}, {label.record}")
            item = _Object(name, *made, label.crowd, label.ignore, label.score)
            kept = self.usable(item, f"{task.where}, {label.record}") if not made.area else item
            if kept is not None:
                seen.objects.append(kept)

    def usable(self, item: _Object, record: str) -> _Object | None:
        """A label without a mask that has pixels: by its point or its box, or not at all."""
        empty = item.counts is not None
        if item.crowd or item.ignore:
            self.notices.add("regions (crowd, ignore) without an area, left out", record)
            return None
        if item.point is None and item.box is None:
            kind = "masks of zero area" if empty else "boxes of zero area"
            self.notices.add(f"{kind}, left out", record)
            return None
        if empty:
            kind = "box" if item.point is None else "point"
            self.notices.add(f"masks of zero area, kept as a {kind}", record)
        if item.point is None and item.box is not None:
            x, y, width, height = item.box
            item = item._replace(point=(x + width / 2, y + height / 2))
        return item._replace(counts=None)

    def check_classes(self) -> None:
        if self.unknown:
            names = ", ".join(list(self.unknown)[:10]) + (", …" if len(self.unknown) > 10 else "")
            raise InputError(
                f"expected the classes of --classes, found {names}",
                where=next(iter(self.unknown.values())),
                remedy="Add them to that file, or `name=class` to count one as another",
            )

    def data(self) -> CocoData:
        classes = self.classes or named(
            item.name for seen in self.seen.values() for item in seen.objects if not item.ignore
        )
        if not classes.names:
            classes = named([self.name])
        records = []
        number = 0
        for key, (file, seen) in enumerate(self.seen.items(), 1):
            objects, seen.objects = self.joined(file, seen), []
            if not objects:
                self.notices.add("images without a label, taken to show no object", file)
            size = list(seen.size)
            annotations = []
            for item in objects:
                number += 1
                extra: dict[str, Any] = {"ignore": True} if item.ignore else {}
                if item.box is not None and item.counts is None:
                    extra["box"] = list(item.box)
                rle = None if item.counts is None else {"size": size, "counts": item.counts}
                area = float(item.area) if rle else None
                label = classes.meaning.get(item.name, 0)  # an ignore region alone makes no class
                annotations.append(
                    Annotation(
                        number, label, rle, item.point, item.crowd, item.score, extra, area, item.clicks
                    )
                )
            records.append(ImageRecord(key, file, *seen.size, tuple(annotations)))
        return CocoData(classes.categories, tuple(records), self.folder)

    def joined(self, file: str, seen: _Seen) -> list[_Object]:
        """Its objects; a click on a mask of its class, the smallest that has no point yet, is that mask's."""
        objects = seen.objects
        clicks = [i for i, item in enumerate(objects) if item.counts is None and item.box is None]
        if not clicks or len(clicks) == len(objects):
            return objects
        meaning = self.classes.meaning if self.classes else None
        free = {
            i: item
            for i, item in enumerate(objects)
            if item.counts is not None and item.point is None and not (item.crowd or item.ignore)
        }
        gone = set()
        for i in clicks:
            click = objects[i]
            under = [
                (item.area, j)
                for j, item in free.items()
                if (item.name == click.name or (meaning and meaning[item.name] == meaning[click.name]))
                and rle_api.contains({"size": seen.size, "counts": item.counts}, np.array([click.point]))[0]
            ]
            if under:
                j = min(under)[1]
                objects[j] = free.pop(j)._replace(point=click.point, clicks=click.clicks)
                gone.add(i)
        if gone:
            self.notices.add("points on a mask of their class, which became its point", file, len(gone))
        return [item for i, item in enumerate(objects) if i not in gone]
