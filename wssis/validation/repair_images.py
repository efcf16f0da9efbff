"""What a cleaned copy does about problems of classes and images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from wssis.data.coco_fields import usable_id
from wssis.data.coco_reader import TWICE, Problem
from wssis.validation.edits import Change, Copy
from wssis.validation.repair_exif import turned


def _document(copy: Copy, problem: Problem) -> None:
    copy.changes.append(Change(problem.kind, problem.record, "", "an empty list"))


def _category(copy: Copy, problem: Problem) -> None:
    records = copy.lists["categories"]
    if problem.place < 0:  # none is listed: those that annotations name
        named = (raw.get("category_id") for raw in copy.lists["annotations"] if isinstance(raw, dict))
        used = {key for key in named if usable_id(key)}
        records += [{"id": key, "name": f"class {key}"} for key in sorted(used) or [1]]
        copy.changes.append(Change(problem.kind, problem.record, "", "the classes that annotations name"))
        return
    record = records[problem.place]
    others = [item for place, item in enumerate(records) if isinstance(item, dict) and place != problem.place]
    if not isinstance(record, dict) or problem.detail == TWICE:
        # Annotations of the id belong to the first of the two; this one can have none.
        return copy.put(problem, "removed", None, "categories")
    if usable_id(record.get("id")):
        names = [item.get("name") for item in others]
        name = next(name for name in _names(record) if name not in names)
        return copy.put(problem, f"named {name!r}", {**record, "name": name}, "categories")
    number = max((item["id"] for item in others if usable_id(item.get("id"))), default=0) + 1
    return copy.put(problem, f"is now category {number}", {**record, "id": number}, "categories")


def _names(record: dict[str, Any]) -> Iterator[str]:
    """Its name, or its id as one, and the same with numbers."""
    name = record.get("name")
    base = name if isinstance(name, str) and name.strip() else f"class {record['id']}"
    yield base
    yield from (f"{base} {number}" for number in count(2))


def _drop_image(copy: Copy, problem: Problem) -> None:
    """Its annotations are without an image in the next round."""
    if copy.lists["images"][problem.place] is not None:
        copy.put(problem, "image removed, with its labels", None, "images")


def _drop_record(copy: Copy, problem: Problem) -> None:
    """An image whose id is another's: no annotation can be its own."""
    copy.put(problem, "removed", None, "images")


def _image_size(copy: Copy, problem: Problem) -> None:
    file = copy.findings.files[problem.image]
    if file.problem:
        return _drop_image(copy, problem)
    height, width = file.size
    record = copy.lists["images"][problem.place]
    if record is not None:
        copy.put(problem, f"{width} x {height} px", {**record, "height": height, "width": width}, "images")
    return None


def _missing_image(copy: Copy, problem: Problem) -> None:
    same = copy.present.get(problem.image.casefold(), [])
    record = copy.lists["images"][problem.place]
    if len(same) != 1 or record is None:
        return _drop_image(copy, problem)
    return copy.put(problem, f"file name is now {same[0]}", {**record, "file_name": same[0]}, "images")


def _exif_size(copy: Copy, problem: Problem) -> None:
    """Turn the image's size and all its labels upright."""
    document = copy.findings.document
    picture = document.pictures[document.rows[copy.lists["images"][problem.place]["id"]]]
    orientation = copy.findings.files[picture.file_name].orientation
    record = {**copy.lists["images"][problem.place], "height": picture.width, "width": picture.height}
    copy.put(problem, "labels turned upright", record, "images")
    annotations = copy.lists["annotations"]
    for place in copy.of_image.get(picture.id, []):
        annotations[place] = turned(annotations[place], picture, orientation)


def _same_image(copy: Copy, problem: Problem) -> None:
    """Of two images the one with fewer labels goes, the later if they have equally many."""
    images = copy.lists["images"]
    if images[problem.place] is None or images[problem.other] is None:
        return
    later, first = images[problem.place]["id"], images[problem.other]["id"]
    rows = copy.findings.document.rows
    labels = [int((copy.findings.labels.picture == rows[key]).sum()) for key in (later, first)]
    if labels[0] <= labels[1]:
        return copy.put(problem, f"removed, image {first} is kept", None, "images")
    images[problem.other] = None
    copy.changes.append(Change(problem.kind, f"image {first}", "", f"removed, image {later} is kept"))
    return None


REPAIRS: dict[str, Callable[[Copy, Problem], None]] = {
    "document": _document,
    "category": _category,
    "image-id": _drop_record,
    "image-name": _drop_image,
    "missing-image": _missing_image,
    "unreadable-image": _drop_image,
    "size-differs": _drop_image,
    "exif-size": _exif_size,
    "image-size": _image_size,
    "same-image": _same_image,
}
