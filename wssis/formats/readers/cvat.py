"""CVAT for images 1.1: an XML file, or a folder of such files.

    <annotations>
      <image id="0" name="folder/a.png" width="640" height="480">
        <points   label points="x,y;x,y"/>
        <polygon  label points="x,y;x,y;x,y"/>
        <box      label xtl ytl xbr ybr rotation/>          degrees clockwise about the middle
        <ellipse  label cx cy rx ry rotation/>
        <mask     label rle="3, 2, 5" left top width height/>
        <tag      label/>

Lengths are pixels from the top left corner of the image. The `rle` of a mask is the lengths of runs along
the rows of its box, background first. Shapes may have `occluded` and `z_order`, which say nothing here,
`outside="1"` (not in the image: skipped), and `group_id`: shapes of one group, other than 0, and one label
are parts of one object. A rotated box counts as the upright box around it.

An image without shapes has been looked at and shows no object. Tags label the image and are skipped.
Polylines, cuboids and skeletons outline no object, and leaving them out would show the object as background:
they are refused, and so is CVAT for video (`<track>`). No document type is accepted, so that no entity is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from wssis.errors import InputError
from wssis.formats.geometry import ellipse, from_row_runs, grouped, placed, turned_box
from wssis.formats.json_fields import EXPORT_AGAIN, Record, files
from wssis.formats.records import Label, LabeledImage, Options, Part

REFUSED = ("polyline", "cuboid", "skeleton")
SHAPES = ("points", "polygon", "box", "ellipse", "mask")
_CHUNK = 1 << 20  # bytes
Size = tuple[int, int] | None


def read(source: Path, options: Options) -> Iterator[LabeledImage]:
    """Images and labels of CVAT's XML; see the module's text."""
    for path in files(source, ".xml"):
        for element in _images(path):
            yield _image(element, path, options)


@dataclass
class _Element:
    name: str
    fields: dict[str, str]
    line: int
    shapes: list[_Element] = field(default_factory=list)


class _Document:
    """Collects image elements while expat reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.open: list[str] = []
        self.images: list[_Element] = []  # whole ones
        self.image: _Element | None = None
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.StartDoctypeDeclHandler = self.doctype

    def error(self, problem: str, remedy: str = EXPORT_AGAIN) -> InputError:
        line = f"line {self.parser.CurrentLineNumber}"
        return InputError(problem, where=self.path, record=line, remedy=remedy)

    def start(self, name: str, fields: dict[str, str]) -> None:
        if not self.open and name != "annotations":
            raise self.error(f"expected <annotations> of CVAT, found <{name[:40]}>")
        if len(self.open) == 1 and name == "track":
            raise self.error("expected images, found a <track>", "Export as 'CVAT for images 1.1'")
        element = _Element(name, fields, self.parser.CurrentLineNumber)
        if len(self.open) == 1 and name == "image":
            self.image = element
        elif len(self.open) == 2 and self.image is not None:
            self.image.shapes.append(element)
        self.open.append(name)

    def end(self, name: str) -> None:
        self.open.pop()
        if len(self.open) == 1 and self.image is not None:
            self.images.append(self.image)
            self.image = None

    def doctype(self, *_: object) -> None:
        raise self.error("expected XML without a document type, found <!DOCTYPE")


def _images(path: Path) -> Iterator[_Element]:
    document = _Document(path)
    try:
        with open(path, "rb") as file:
            while True:
                chunk = file.read(_CHUNK)
                try:
                    document.parser.Parse(chunk, not chunk)
                except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: odd encodings
                    raise document.error(f"expected XML, found something else ({error})") from error
                yield from document.images
                document.images.clear()
                if not chunk:
                    return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read ({reason})", where=path) from error


def _image(element: _Element, path: Path, options: Options) -> LabeledImage:
    image = Record(element.fields, str(path), f"line {element.line}, image")
    name = image.text("name")
    image = image.named(f"image {name!r}" if len(name) < 200 else image.record)
    size = None
    if image.has("width") or image.has("height"):
        size = _whole(image, "height"), _whole(image, "width")
        image.check_size(size, "'width' and 'height'")
    shapes = []
    for shape in element.shapes:
        record = Record(shape.fields, str(path), f"line {shape.line}, {shape.name[:40]} of {image.record}")
        if shape.name in REFUSED:
            raise record.error(
                f"expected {', '.join(SHAPES)}, found a {shape.name}, which outlines no object",
                f"Delete it in CVAT or draw the object as a polygon, then {EXPORT_AGAIN.lower()}",
            )
        if shape.name == "tag" or record.fields.get("outside") == "1":
            continue
        if shape.name not in SHAPES:
            raise record.error(f"expected {', '.join(SHAPES)} or tag, found {shape.name[:40]!r}")
        group = record.text("group_id", "0")
        found = _labels(shape.name, record, size, options)
        shapes += [(None if group == "0" else group, label) for label in found]
    return LabeledImage(name, grouped(shapes, str(path)), size, image.record, where=str(path))


def _labels(kind: str, record: Record, size: Size, options: Options) -> Iterator[Label]:
    name = record.text("label")
    if kind == "points":
        points = _pairs(record)
        for clicked in options.objects_of(points):
            yield Label(name, record.record, **clicked)
    elif kind == "polygon":
        points = _pairs(record)
        if len(points) < 3:
            raise record.error(f"expected a polygon of 3 or more points, found {len(points)}")
        yield Label(name, record.record, parts=(Part([value for point in points for value in point]),))
    elif kind == "box":
        left, top, right, bottom = (_number(record, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        if right < left or bottom < top:
            raise record.error(
                "expected 'xtl' up to 'xbr' and 'ytl' up to 'ybr', found them the wrong way round"
            )
        middle = (left + right) / 2, (top + bottom) / 2
        box = left, top, right - left, bottom - top
        yield Label(name, record.record, box=turned_box(box, _number(record, "rotation", 0.0), middle))
    elif kind == "ellipse":
        x, y, *radii = (_number(record, key) for key in ("cx", "cy", "rx", "ry"))
        if min(radii) < 0:
            raise record.error(f"expected radii of 0 or more, found {min(radii):g}")
        ring = ellipse((x, y), (radii[0], radii[1]), _number(record, "rotation", 0.0))
        yield Label(name, record.record, parts=(Part(ring),))
    else:
        yield _mask(name, record, size)


def _mask(name: str, record: Record, size: Size) -> Label:
    if size is None:
        raise record.error("expected an image with 'width' and 'height', as a mask needs, found none")
    left, top, width, height = (_whole(record, key) for key in ("left", "top", "width", "height"))
    record.check_size((height, width), "a mask's 'width' and 'height'")
    text = record.text("rle")
    try:
        mask = from_row_runs([int(run) for run in text.split(",")] if text.strip() else [], height, width)
    except ValueError as error:
        reason = error if "sum" in str(error) else "expected 'rle' as whole numbers between commas"
        raise record.error(str(reason)) from error
    return Label(name, record.record, rle=placed(mask, left, top, size))


def _pairs(record: Record) -> list[tuple[float, float]]:
    points = []
    for pair in record.text("points").split(";"):
        x, comma, y = pair.partition(",")
        if not comma:
            raise record.wrong("points", "x,y;x,y", pair)
        points.append((_parsed(record, "points", x), _parsed(record, "points", y)))
    return points


def _number(record: Record, key: str, default: float | None = None) -> float:
    if default is not None and not record.has(key):
        return default
    return _parsed(record, key, record.text(key))


def _whole(record: Record, key: str) -> int:
    value = _number(record, key)
    if not value.is_integer():
        raise record.wrong(key, "a whole number", value)
    return int(value)


def _parsed(record: Record, key: str, text: str) -> float:
    try:
        return record.checked_number(key, float(text))
    except ValueError as error:
        raise record.wrong(key, "a number", text) from error
