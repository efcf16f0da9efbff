"""Results of long work on many images, kept one by one so that a kill costs the image at hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from wssis.data.coco import Annotation, CocoData, ImageRecord


class Journal:
    """JSON values by number, a line each, on disk as soon as they are added; without a file, in memory.

    A last line that a kill cut off is dropped. Lines are not synced: they outlive the process, and a machine
    that loses power loses images that are made again.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.done: dict[int, Any] = {}
        self._file = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab+", buffering=0)  # noqa: SIM115 (open as long as the stage runs)
        self._file.seek(0)
        whole = 0
        for line in self._file.readlines():
            try:
                key, value = json.loads(line) if line.endswith(b"\n") else (None, None)
            except ValueError:
                break
            if key is None:
                break
            self.done[key] = value
            whole += len(line)
        self._file.truncate(whole)

    def add(self, key: int, value: Any) -> None:
        """Keep the value of `key`."""
        self.done[key] = value
        if self._file is not None:
            self._file.write(json.dumps([key, value], separators=(",", ":")).encode() + b"\n")


def left(data: CocoData, journal: Journal) -> CocoData:
    """The images of `data` that have nothing in the journal yet."""
    return data.subset(image.id for image in data.images if image.id not in journal.done)


def packed(record: ImageRecord) -> list[list[Any]]:
    """An image's annotations as JSON."""
    return [
        [item.id, item.label, item.rle, item.point, item.crowd, item.score, item.extra, item.area]
        for item in record.annotations
    ]


def unpacked(record: ImageRecord, values: list[list[Any]]) -> ImageRecord:
    """The image with the annotations that `packed` made."""
    annotations = tuple(
        Annotation(number, label, rle, point and (point[0], point[1]), crowd, score, extra, area)
        for number, label, rle, point, crowd, score, extra, area in values
    )
    return replace(record, annotations=annotations)
