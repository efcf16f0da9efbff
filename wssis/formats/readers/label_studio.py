"""Label Studio's JSON export (not JSON-MIN): a file, or a folder of them; a list of tasks, or one task.

    [{"id": 7, "data": {"image": "/data/upload/1/0a1b2c3d-a.png"},
      "annotations": [{"id", "was_cancelled": false, "updated_at": "2026-01-02T03:04:05.678Z", "result": [
        {"id": "x1", "type": "keypointlabels", "original_width": 640, "original_height": 480,
         "image_rotation": 0, "value": {"x": 50, "y": 25, "width": 0.5, "keypointlabels": ["cell"]}}]}],
      "predictions": […]}]

by `type`, lengths in percent of the image's width and height:

    keypointlabels    x, y
    polygonlabels     points [[x, y], …]
    rectanglelabels   x, y of the top left corner, width, height, rotation: degrees clockwise about it
    ellipselabels     x, y of the middle, radiusX, radiusY, rotation: degrees clockwise about it
    brushlabels       format "rle", rle: bytes of an RGBA picture, see `wssis.formats.brush_rle`

The same types without `labels` (`<KeyPoint>`, …) have their class in a result of type `labels` and that id.
What answers a question about the image (choices, textarea, relation, …) is skipped, any other type refused. A
rotated rectangle counts as the upright box around it. `image_rotation` other than 0 is refused.

Of several annotations of a task the one counts that was updated last and not cancelled; predictions never do.
A task without such an annotation was not looked at, and is left out; an empty result shows no object.

The picture is `data.image`, else the one text of `data` that names a picture. It is known by the path in its
address: of uploads the name without the eight digits that Label Studio puts before it (or with them), of
local files the path after `?d=`, of others the path on their server or in their bucket.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from wssis.formats.brush_rle import decode_alpha
from wssis.formats.geometry import ellipse, placed, turned_box
from wssis.formats.json_fields import EXPORT_AGAIN, Record, files, load_json
from wssis.formats.records import Label, LabeledImage, Options, Part, Unlabeled

SHAPES = ("keypoint", "polygon", "rectangle", "ellipse", "brush")
SKIPPED = (
    *("labels", "choices", "taxonomy", "rating", "textarea", "number", "datetime"),
    *("relation", "pairwise", "ranker"),
)
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".jp2", ".mpo")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")


def read(source: Path, options: Options) -> Iterator[LabeledImage | Unlabeled]:
    """Images and labels of Label Studio's JSON; see the module's text."""
    for path in files(source, ".json"):
        document = load_json(path)
        for place, value in enumerate(document if isinstance(document, list) else [document]):
            task = Record.of(value, path, f"task {place}")
            task = task.named(f"task {task.label('id', task.get('id', 'a number', place))}")
            if not isinstance(task.fields.get("data"), dict):
                raise task.error(
                    "expected a task with 'data' and 'annotations', found none (JSON-MIN has none)",
                    "Export as JSON in Label Studio",
                )
            if task.has("predictions") and not task.has("annotations"):
                raise task.error(
                    "expected a task with 'annotations', found predictions only",
                    "Import it in Label Studio, submit the task, and export as JSON",
                )
            annotation = _latest(task)
            if annotation is None:
                yield Unlabeled("tasks that nobody has submitted, left out", task.record)
            else:
                yield _image(task, annotation)


def _latest(task: Record) -> Record | None:
    """The annotation that counts."""
    found = []
    for annotation in task.children("annotations", "annotation"):
        if not annotation.flag("was_cancelled"):
            updated = annotation.text("updated_at", None) or annotation.text("created_at", None)
            found.append((_moment(annotation, updated), annotation))
    return max(enumerate(found), key=lambda item: (item[1][0], item[0]))[1][1] if found else None


def _moment(annotation: Record, text: str | None) -> float:
    """Seconds of a date; the least where there is none."""
    if text is None:
        return float("-inf")
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    except (ValueError, OverflowError) as error:
        raise annotation.wrong("updated_at", "a date such as 2026-01-02T03:04:05Z", text) from error


def _image(task: Record, annotation: Record) -> LabeledImage:
    results = list(annotation.children("result", "result"))
    classes = {
        result.text("id"): _class(result, "labels")
        for result in results
        if result.text("type") == "labels" and result.has("id")
    }
    labels = []
    size = None
    for result in results:
        kind = result.text("type")
        if kind in SKIPPED:
            continue
        shape = kind.removesuffix("labels")
        if shape not in SHAPES:
            raise result.error(
                f"expected {', '.join(SHAPES)}, found {kind[:40]!r}",
                f"Delete it in Label Studio or draw the object as a polygon, then {EXPORT_AGAIN.lower()}",
            )
        found = _size(result)
        if size is not None and found != size:
            raise result.error(
                f"expected an image of {size[1]} x {size[0]} px, found {found[1]} x {found[0]}"
            )
        size = found
        name = classes.get(result.text("id", ""), "") if shape == kind else _class(result, kind)
        labels.append(Label(name, result.record, **_shape(shape, result.child("value"), result, size)))
    file, *also = _names(task)
    return LabeledImage(file, tuple(labels), size, task.record, where=task.where, also=tuple(also))


def _class(result: Record, key: str) -> str:
    value = result.child("value")
    names = value.array(key, [])
    if len(names) > 1:
        raise result.error(f"expected one label, found {len(names)}", "Choose one label for each region")
    return value.label(key, names[0]) if names else ""


def _size(result: Record) -> tuple[int, int]:
    size = result.size("original_height", "original_width")
    if size is None:
        raise result.error("expected 'original_width' and 'original_height', found none")
    if result.number("image_rotation", 0.0) % 360:
        raise result.error(
            "expected an image that was not turned in Label Studio, found 'image_rotation'",
            "Turn the file itself, then label it again",
        )
    if result.whole("item_index", 0):
        raise result.error("expected tasks of one image, found a list of images", "Make a task of each image")
    return size


def _shape(shape: str, value: Record, result: Record, size: tuple[int, int]) -> dict[str, Any]:
    """What a label has beside name and record."""
    across, down = size[1] / 100, size[0] / 100  # pixels of a percent
    if shape == "brush":
        return _brush(value, size)
    if shape == "polygon":
        points = value.pairs("points")
        if len(points) < 3:
            raise result.error(f"expected a polygon of 3 or more points, found {len(points)}")
        return {"parts": (Part([part for x, y in points for part in (x * across, y * down)]),)}
    x, y = value.number("x") * across, value.number("y") * down
    if shape == "keypoint":
        return {"point": (x, y)}
    keys = ("width", "height") if shape == "rectangle" else ("radiusX", "radiusY")
    width, height = value.number(keys[0]) * across, value.number(keys[1]) * down
    if width < 0 or height < 0:
        raise result.error(f"expected {keys[0]!r} and {keys[1]!r} of 0 or more, found less")
    degrees = value.number("rotation", 0.0)
    if shape == "rectangle":
        return {"box": turned_box((x, y, width, height), degrees, (x, y))}
    return {"parts": (Part(ellipse((x, y), (width, height), degrees)),)}


def _brush(value: Record, size: tuple[int, int]) -> dict[str, Any]:
    if value.text("format", "rle") != "rle":
        raise value.wrong("format", "'rle'", value.fields["format"])
    try:
        data = bytes(value.array("rle"))
    except (TypeError, ValueError) as error:
        raise value.error("expected 'rle' as a list of bytes, found other values") from error
    try:
        return {"rle": placed(decode_alpha(data, size), 0, 0, size)}
    except ValueError as error:
        raise value.error(f"expected 'rle' as Label Studio writes it: {error}") from error


def _names(task: Record) -> list[str]:
    """The names that the image of a task may have, likeliest first."""
    data = task.child("data")
    address = data.fields.get("image")
    if address is None:
        texts = [value for value in data.fields.values() if isinstance(value, str)]
        texts = [value for value in texts if _path(data, value).lower().endswith(PICTURES)]
        if len(texts) != 1:
            raise task.error(f"expected 'data' with one address of an image, found {len(texts)}")
        address = texts[0]
    if not isinstance(address, str) or address.startswith("data:"):
        raise task.error("expected 'data' with the address of one image, found a list or an image itself")
    path = _path(data, address)
    name = PurePosixPath(path).name
    if not name:
        raise task.error(f"expected the address of an image, found {address[:80]!r}")
    if "/data/upload/" in address:
        return list(dict.fromkeys((_UPLOAD.sub("", name), name)))
    return [path]


def _path(data: Record, address: str) -> str:
    """The path in an address: on its server, in its bucket, or after `?d=`."""
    data.checked_text("image", address)
    try:
        parts = urlsplit(address)
        local = parse_qs(parts.query, errors="strict").get("d") if "/local-files" in parts.path else None
        path = local[0] if local else parts.path
        if not local and (parts.scheme or path.startswith("/")):
            path = unquote(path, errors="strict")
    except ValueError as error:
        raise data.error(f"expected the address of an image, found {address[:80]!r}") from error
    return path.lstrip("/")
