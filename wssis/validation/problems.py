"""The kinds of problems of a data set, and the limits from which they are reported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from wssis.data.coco_reader import Problem

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem.

    Attributes:
        severity: `error`: the pipeline stops; `warning`: labels are probably wrong; `note`: good to know.
        title: what it is, in a few words.
        fix: what a cleaned copy does about it; "" if a person has to decide.
    """

    severity: Severity
    title: str
    fix: str = ""


KINDS: dict[str, Kind] = {
    "document": Kind("error", "the file lacks one of COCO's lists", "an empty list is added"),
    "category": Kind("error", "classes without a unique id and name", "renamed or renumbered"),
    "image-id": Kind("error", "images without a unique id", "removed"),
    "image-name": Kind("error", "images without a file name inside the image folder", "removed"),
    "image-size": Kind("error", "images without a usable height and width", "read from the image"),
    "annotation-id": Kind("error", "annotations without a unique id", "renumbered"),
    "reference": Kind("error", "annotations of an unlisted image or class", "removed"),
    "field": Kind("error", "fields with invalid values", "the field is removed"),
    "no-folder": Kind("error", "the image folder is missing"),
    "missing-image": Kind(
        "error", "missing image files", "name corrected if only its case differs, else removed"
    ),
    "unreadable-image": Kind("error", "unreadable image files", "removed"),
    "size-differs": Kind("error", "images whose size differs from the annotations", "removed"),
    "exif-size": Kind("error", "images annotated before EXIF rotation", "labels are rotated"),
    "bad-mask": Kind("error", "invalid masks", "the point is kept, else removed"),
    "no-label": Kind(
        "error", "annotations without mask or point", "a box becomes its center point, else removed"
    ),
    "point-outside": Kind("error", "points outside the image", "moved inside if within 2 px, else removed"),
    "empty-mask": Kind("warning", "masks of zero area", "the point is kept, else removed"),
    "same-mask": Kind("warning", "duplicate masks", "one is kept if the class is the same"),
    "close-points": Kind("warning", "points that look like double clicks", "one is kept"),
    "point-off-mask": Kind("warning", "points outside their own mask", "the mask is kept"),
    "crossing": Kind("warning", "polygons that cross themselves", "replaced by the mask that is read"),
    "same-image": Kind("warning", "duplicate images", "the one with more labels is kept"),
    "same-name": Kind("warning", "file names that differ by case only"),
    "implausible": Kind("warning", "points where the teacher sees no object"),
    "no-strong": Kind("warning", "no image has a mask for each of its objects"),
    "class-not-strong": Kind("warning", "classes without a mask in any strong image"),
    "no-level": Kind("warning", "objects of a size that no level of the model covers"),
    "few-labels": Kind("note", "images with far fewer labels than the average"),
    "tiny-mask": Kind("note", "tiny masks"),
    "class-unused": Kind("note", "classes without objects"),
    "unlisted": Kind("note", "images in the folder that the file does not list"),
    "exif": Kind("note", "images rotated by EXIF: read upright"),
    "grey": Kind("note", "gray images: read as RGB"),
    "deep": Kind("note", "images of more than 8 bits: scaled by their brightest pixel"),
    "palette": Kind("note", "palette images: read as RGB"),
    "cmyk": Kind("note", "CMYK images: read as RGB"),
    "alpha": Kind("note", "images with transparency: read on white"),
    "frames": Kind("note", "multi-frame images: the first frame is read"),
}
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


def problems_by_kind(problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    """Problems by kind, in the order of `KINDS`."""
    found: dict[str, list[Problem]] = {}
    for problem in problems:
        found.setdefault(problem.kind, []).append(problem)
    return {kind: found[kind] for kind in KINDS if kind in found}


@dataclass(frozen=True, slots=True)
class Limits:
    """Thresholds of the checks.

    Attributes:
        near: pixels; closer points of a class count as one click.
        tiny: pixels of a mask; fewer are tiny.
        few: share of the average number of labels, up to which an image has few.
        average: labels per image on average, below which no image has few.
        decode: number of images up to which every file is decoded; beyond it only headers are read.
    """

    near: float = 3.0
    tiny: int = 4
    few: float = 0.1
    average: float = 10.0
    decode: int = 2000
