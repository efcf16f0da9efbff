"""What a cleaned copy does about problems of annotations."""

from __future__ import annotations

from collections.abc import Callable

from wssis.data.coco_fields import box_of, point_of, record_name, rle_of
from wssis.data.coco_reader import Problem
from wssis.validation.edits import Copy

NEAR = 2.0  # pixels outside of the image from which a point is moved in


def _drop(copy: Copy, problem: Problem) -> None:
    if copy.annotation(problem) is not None:
        copy.put(problem, "removed", None)


def _annotation_id(copy: Copy, problem: Problem) -> None:
    record = copy.annotation(problem)
    if record is not None:
        number = next(copy.free_ids)
        copy.put(problem, f"is now annotation {number}", {**record, "id": number})


def _field(copy: Copy, problem: Problem) -> None:
    record, name = copy.annotation(problem), problem.field
    if record is not None:
        without = {key: value for key, value in record.items() if key != name}
        copy.put(problem, f"without its {name}", without)


def _without_mask(copy: Copy, problem: Problem) -> None:
    """A mask that says nothing goes; the object stays if its point says where it is."""
    record = copy.annotation(problem)
    if record is None:
        return
    point = None if record.get("iscrowd") or record.get("ignore") else point_of(record)
    if point is None:
        return copy.put(problem, "removed", None)
    keep = {key: value for key, value in record.items() if key not in ("segmentation", "area", "bbox")}
    return copy.put(problem, "known by its point only", keep)


def _no_label(copy: Copy, problem: Problem) -> None:
    record = copy.annotation(problem)
    if record is None:
        return
    box = None if record.get("iscrowd") or record.get("ignore") else box_of(record)
    if box is None:
        return copy.put(problem, "removed", None)
    point = [box[0] + box[2] / 2, box[1] + box[3] / 2]
    return copy.put(problem, "its box's middle is its point", {**record, "box": list(box), "point": point})


def _point_outside(copy: Copy, problem: Problem) -> None:
    record = copy.annotation(problem)
    if record is None:
        return
    x, y = point_of(record) or (0.0, 0.0)
    document = copy.findings.document
    picture = document.pictures[document.rows[record["image_id"]]]
    inner = [min(max(x, 0.0), picture.width - 0.5), min(max(y, 0.0), picture.height - 0.5)]
    if -NEAR <= x <= picture.width + NEAR and -NEAR <= y <= picture.height + NEAR:
        return copy.put(problem, f"moved to ({inner[0]:g}, {inner[1]:g})", {**record, "point": inner})
    return _without_point(copy, problem)


def _without_point(copy: Copy, problem: Problem) -> None:
    record = copy.annotation(problem)
    if record is None:
        return
    if record.get("segmentation") in (None, []):
        return copy.put(problem, "removed", None)
    keep = {key: value for key, value in record.items() if key != "point"}
    return copy.put(problem, "known by its mask only", keep)


def _double(copy: Copy, problem: Problem) -> None:
    """Goes if the other, which says as much, is still there."""
    records = copy.lists["annotations"]
    record, other = records[problem.place], records[problem.other]
    if record is None or other is None or record.get("category_id") != other.get("category_id"):
        return
    copy.put(problem, f"removed, {record_name(other, problem.other)} is kept", None)


def _crossing(copy: Copy, problem: Problem) -> None:
    record = copy.annotation(problem)
    document = copy.findings.document
    if record is None or not isinstance(record.get("segmentation"), list):
        return
    picture = document.pictures[document.rows[record["image_id"]]]
    if picture.height:
        copy.put(problem, "written as its mask", {**record, "segmentation": rle_of(record, picture)})


REPAIRS: dict[str, Callable[[Copy, Problem], None]] = {
    "annotation-id": _annotation_id,
    "reference": _drop,
    "field": _field,
    "bad-mask": _without_mask,
    "no-label": _no_label,
    "point-outside": _point_outside,
    "empty-mask": _without_mask,
    "same-mask": _double,
    "close-points": _double,
    "point-off-mask": _without_point,
    "crossing": _crossing,
}
