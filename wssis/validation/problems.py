"""What can be wrong with a data set: the kinds, and one record of a kind."""

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
    "document": Kind("error", "the file lacks one of COCO's lists", "an empty list is put there"),
    "category": Kind("error", "classes without an id or a name of their own", "named and numbered anew"),
    "image-id": Kind("error", "images without an id of their own", "taken out"),
    "image-name": Kind("error", "images without a file name inside the image folder", "taken out"),
    "image-size": Kind("error", "images without a usable height and width", "read from the image"),
    "annotation-id": Kind("error", "annotations without an id of their own", "numbered anew"),
    "reference": Kind("error", "annotations of an image or class that is not listed", "taken out"),
    "field": Kind("error", "fields with values that mean nothing", "the field is taken out"),
    "no-folder": Kind("error", "the image folder is not there"),
    "missing-image": Kind(
        "error", "image files that are not there", "name mended if only its case differs, else taken out"
    ),
    "unreadable-image": Kind("error", "image files that cannot be read", "taken out"),
    "size-differs": Kind("error", "images of another size than the file says", "taken out"),
    "exif-size": Kind("error", "images annotated lying down (EXIF)", "labels are turned upright"),
    "bad-mask": Kind("error", "masks that cannot be read", "the point is kept, else taken out"),
    "no-label": Kind(
        "error", "annotations without mask or point", "a box becomes its middle, else taken out"
    ),
    "point-outside": Kind("error", "points outside the image", "moved in if within 2 px, else taken out"),
    "empty-mask": Kind("warning", "masks of zero area", "the point is kept, else taken out"),
    "same-mask": Kind("warning", "masks that are there twice", "one is kept, if of one class"),
    "close-points": Kind("warning", "points that seem clicked twice", "one is kept"),
    "point-off-mask": Kind("warning", "points that are not on their own mask", "the mask is kept"),
    "crossing": Kind("warning", "polygons that cross themselves", "written as the mask they are read as"),
    "same-image": Kind("warning", "images that are there twice", "the one with more labels is kept"),
    "same-name": Kind("warning", "file names that differ by case only"),
    "implausible": Kind("warning", "points on nothing that the teacher takes for an object"),
    "no-strong": Kind("warning", "no image has a mask for each of its objects"),
    "class-not-strong": Kind("warning", "classes without a mask in any strong image"),
    "no-level": Kind("warning", "objects of a size that no level of the model answers for"),
    "few-labels": Kind("note", "images with far fewer labels than the average"),
    "tiny-mask": Kind("note", "tiny masks"),
    "class-unused": Kind("note", "classes without any object"),
    "unlisted": Kind("note", "images in the folder that the file does not list"),
    "exif": Kind("note", "images turned by EXIF: read upright"),
    "grey": Kind("note", "grey images: read as RGB"),
    "deep": Kind("note", "images of more than 8 bits: scaled by their brightest pixel"),
    "palette": Kind("note", "palette images: read as RGB"),
    "cmyk": Kind("note", "CMYK images: read as RGB"),
    "alpha": Kind("note", "images with transparency: read on white"),
    "frames": Kind("note", "images of several frames: the first is read"),
}
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


def grouped(problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    """Problems by kind, in the order of `KINDS`."""
    found: dict[str, list[Problem]] = {}
    for problem in problems:
        found.setdefault(problem.kind, []).append(problem)
    return {kind: found[kind] for kind in KINDS if kind in found}


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something is told.

    Attributes:
        near: pixels between two points of a class that are taken for one click.
        tiny: pixels of a mask; fewer are tiny.
        few: share of the average number of labels; images with no more have few.
        average: labels an image, on average; below it no image has few.
        decode: images up to which every file is decoded whole; of more only the headers are read.
    """

    near: float = 3.0
    tiny: int = 4
    few: float = 0.1
    average: float = 10.0
    decode: int = 2000
