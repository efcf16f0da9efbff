"""A document in change: records that may be replaced, never altered, and what was done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from typing import Any

from wssis.data.coco_fields import MAX_ID, usable_id
from wssis.data.coco_reader import Problem
from wssis.validation.image_files import listing
from wssis.validation.validate import Findings

# What is done to many records, without what differs from one to the next.
_SUMMARIES = (
    (r"removed, ", "removed, the other is kept"),
    (r"moved to ", "moved into the image"),
    (r"is now ", "numbered anew"),
    (r"named ", "named anew"),
    (r"file name is now ", "file name corrected"),
    (r"\d+ x \d+ px", "size read from the image"),
)


@dataclass
class Change:
    """What was done about a record."""

    kind: str
    record: str
    image: str
    done: str

    @property
    def summary(self) -> str:
        """What was done, without what differs from record to record."""
        for pattern, words in _SUMMARIES:
            if re.match(pattern, self.done):
                return words
        return self.done

    def as_json(self) -> dict[str, str]:
        """For a person's program."""
        return {"kind": self.kind, "record": self.record, "image": self.image, "done": self.done}


@dataclass
class Copy:
    """Records that may be replaced, never altered; None: removed."""

    findings: Findings
    lists: dict[str, list[Any]]
    changes: list[Change] = field(default_factory=list)

    @cached_property
    def of_image(self) -> dict[Any, list[int]]:
        """Places of annotations by image id."""
        places: dict[Any, list[int]] = {}
        for place, raw in enumerate(self.lists["annotations"]):
            if isinstance(raw, dict) and type(raw.get("image_id")) is int:
                places.setdefault(raw["image_id"], []).append(place)
        return places

    @cached_property
    def free_ids(self) -> Iterator[int]:
        """Ids that no annotation has."""
        ids = (raw.get("id") for raw in self.lists["annotations"] if isinstance(raw, dict))
        taken = {key for key in ids if usable_id(key)}
        start = max(taken, default=0) + 1
        return (key for key in count(start if start < MAX_ID // 2 else 1) if key not in taken)

    @cached_property
    def present(self) -> dict[str, list[str]]:
        """Image files in the folder by their name in lower case."""
        names: dict[str, list[str]] = {}
        for name in listing(self.findings.folder):
            names.setdefault(name.casefold(), []).append(name)
        return names

    def annotation(self, problem: Problem) -> dict[str, Any] | None:
        """The record now; None if another change took it out."""
        record: dict[str, Any] | None = self.lists["annotations"][problem.place]
        return record

    def put(self, problem: Problem, done: str, record: Any, key: str = "annotations") -> None:
        self.lists[key][problem.place] = record
        self.changes.append(Change(problem.kind, problem.record, problem.image, done))
