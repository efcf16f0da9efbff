"""What a reader of annotation files returns: images and their labels as the file has them, nothing more.

Readers know their format only. Finding the image files, sizes, EXIF, class ids, clipping to the image and
making masks of polygons is left to `wssis.formats.assemble`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from wssis.data.records import Click
from wssis.data.rle import Rle

Ring = Sequence[float]  # x1, y1, x2, y2, …: a closed line in pixels, at least 3 corners


@dataclass(frozen=True, slots=True)
class Part:
    """A polygon with holes."""

    outer: Ring
    holes: tuple[Ring, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """One labeled object; pixels, x to the right, y down, origin at the top left corner of the image.

    Any of mask, box and point may be there; at least one is.

    Attributes:
        name: of the class; "" if the file names none.
        record: what an error calls it, e.g. ``annotation 17`` or ``line 3``.
        parts: polygons, whose union is the mask.
        rle: the mask as compressed COCO RLE of the whole image, in place of polygons.
        box: x, y, width, height.
        point: x, y.
        crowd: a region of many objects.
        ignore: a region of which nothing is known.
        score: 0..1, of a label that a model made.
        clicks: further clicks on the object, or beside it.
    """

    name: str
    record: str
    parts: tuple[Part, ...] = ()
    rle: Rle | None = None
    box: tuple[float, float, float, float] | None = None
    point: tuple[float, float] | None = None
    crowd: bool = False
    ignore: bool = False
    score: float | None = None
    clicks: tuple[Click, ...] = ()


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """An image that somebody has looked at; without labels it shows no object.

    Attributes:
        file: path or name as the annotation file has it, `/` or `\\` between folders; maybe without suffix.
        labels: in the order of the file.
        size: (H, W) in pixels that the file says; None: it does not.
        record: what an error calls it.
        content: bytes of the image file, where the annotation file holds them.
        where: the annotation file, where the source is a folder; "" otherwise.
        also: other names that the image may have, to look for in this order if there is no `file`.
    """

    file: str
    labels: tuple[Label, ...]
    size: tuple[int, int] | None = None
    record: str = ""
    content: bytes | None = None
    where: str = ""
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unlabeled:
    """What a source holds of an image that nobody has looked at: no image of the data set.

    Attributes:
        what: is left out and why, for many of the kind.
        record: what a person knows it by.
    """

    what: str
    record: str


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may have to say beside the file.

    Attributes:
        points: `many`: several coordinates in one shape are that many objects; `one`: they are one object,
            whose point is the first and whose further clicks are the others.
        name: class of objects that the file gives none.
    """

    points: Literal["many", "one"] = "many"
    name: str = "object"

    def objects_of(self, points: Sequence[tuple[float, float]]) -> list[dict[str, Any]]:
        """`point` and `clicks` of each object that the points of one shape stand for."""
        if self.points == "many":
            return [{"point": point} for point in points]
        return [{"point": points[0], "clicks": tuple((x, y, True) for x, y in points[1:])}] if points else []
