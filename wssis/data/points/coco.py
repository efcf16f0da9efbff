"""Points as COCO JSON: annotations with `"point": [x, y]`, images known by their `file_name`.

Further clicks on an object, or beside it, are in `"clicks": [[x, y, 1], [x, y, 0]]`.

Ids of images and categories are the file's own; images are matched by `file_name`, classes by name. An image
that the file lists without annotations shows no object.
"""

from __future__ import annotations

from pathlib import Path

from wssis.data.coco import load_coco
from wssis.data.records import ClickedObject, CocoData
from wssis.errors import InputError


def read(path: Path, data: CocoData) -> dict[int, list[ClickedObject]]:
    """Points by image id of `data`; see `wssis.data.points.read_points`."""
    found = load_coco(path, data.image_dir)
    images = {image.file_name: image for image in data.images}
    labels = {name: label for label, name in enumerate(data.class_names)}
    points: dict[int, list[ClickedObject]] = {}
    for image in found.images:
        known = images.get(image.file_name)
        if known is None or known.size != image.size:
            raise InputError(
                f"expected an image of the data set, found {image.file_name!r}"
                if known is None
                else f"expected {known.width} x {known.height} px as in the data set, "
                f"found {image.width} x {image.height}",
                where=path,
                record=f"image {image.id}",
                remedy=f"Correct it; the data set is {data.path or data.image_dir}",
            )
        rows = points.setdefault(known.id, [])
        for item in image.objects:
            name = found.class_names[item.label]
            if item.point is None or name not in labels:
                raise InputError(
                    'expected a "point", found a mask only'
                    if item.point is None
                    else f"expected a class of the data set, found {name!r}",
                    where=path,
                    record=f"annotation {item.id}",
                    remedy="Add the point" if item.point is None else f"Classes are {_listed(data)}",
                )
            rows.append(ClickedObject(*item.point, labels[name], item.clicks))
    return points


def _listed(data: CocoData) -> str:
    return ", ".join(data.class_names[:10]) + (", …" if data.num_classes > 10 else "")
