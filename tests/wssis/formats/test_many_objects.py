"""Every reader on an image with 300 masks: pycocotools counts the areas of a list in a byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.wssis.formats.test_brush_rle import brush
from wssis.data import rle
from wssis.formats.assemble import gather
from wssis.formats.readers import READERS
from wssis.formats.records import Options

COUNT, SIDE, PITCH, COLUMNS = 300, 6, 10, 20
HEIGHT, WIDTH = COUNT // COLUMNS * PITCH, COLUMNS * PITCH
CORNERS = [(PITCH * (n % COLUMNS) + 2, PITCH * (n // COLUMNS) + 2) for n in range(COUNT)]  # x, y
Write = Callable[[Path], Path]


def outline(x: int, y: int, shift: float = 0.0) -> list[list[float]]:
    low_x, low_y, high_x, high_y = x + shift, y + shift, x + SIDE + shift, y + SIDE + shift
    return [[low_x, low_y], [high_x, low_y], [high_x, high_y], [low_x, high_y]]


def flat(x: int, y: int) -> list[float]:
    return [value for corner in outline(x, y) for value in corner]


def mask(x: int, y: int) -> np.ndarray:
    found = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    found[y : y + SIDE, x : x + SIDE] = 1
    return found


def labeled() -> np.ndarray:
    """Objects by their numbers, from 1."""
    found = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    for number, (x, y) in enumerate(CORNERS, 1):
        found[y : y + SIDE, x : x + SIDE] = number
    return found


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def written(path: Path, document: Any) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def coco(folder: Path, segmentation: Callable[[int, int], Any] | None = None, **more: Any) -> Path:
    segmentation = segmentation or (lambda x, y: [flat(x, y)])
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 1, "name": "cell", "keypoints": ["middle"], "skeleton": []}],
        "annotations": [
            {
                "id": number,
                "image_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [x, y, SIDE, SIDE],
                "segmentation": segmentation(x, y),
                **{key: value(x, y) for key, value in more.items()},
            }
            for number, (x, y) in enumerate(CORNERS, 1)
        ],
    }
    return written(folder / "a.json", document)


def coco_rle(folder: Path) -> Path:
    return coco(folder, lambda x, y: rle.encode(mask(x, y)[None] > 0)[0])


def keypoints(folder: Path) -> Path:
    return coco(folder, keypoints=lambda x, y: [x + 3, y + 3, 2])


def pointsup(folder: Path) -> Path:
    return coco(folder, point_coords=lambda x, y: [[x + 3, y + 3]], point_labels=lambda x, y: [1])


def cvat(folder: Path) -> Path:
    def points(x: int, y: int) -> str:
        return ";".join(f"{a},{b}" for a, b in outline(x, y))

    half = COUNT // 2
    items = [f'<polygon label="cell" points="{points(x, y)}"/>' for x, y in CORNERS[:half]]
    place = 'width="6" height="6"'
    items += [f'<mask label="cell" rle="0, 36" left="{x}" top="{y}" {place}/>' for x, y in CORNERS[half:]]
    image = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{"".join(items)}</image>'
    return written(folder / "a.xml", f"<annotations><version>1.1</version>{image}</annotations>")


def datumaro(folder: Path) -> Path:
    items = [
        {"id": n, "type": "polygon", "attributes": {}, "group": 0, "label_id": 0, "points": flat(x, y)}
        for n, (x, y) in enumerate(CORNERS)
    ]
    image = {"path": "a.png", "size": [HEIGHT, WIDTH]}
    document = {
        "info": {},
        "categories": {"label": {"labels": [{"name": "cell"}]}},
        "items": [{"id": "a", "image": image, "annotations": items}],
    }
    return written(folder / "a.json", document)


def labelme(folder: Path) -> Path:
    shapes = [{"label": "cell", "points": outline(x, y), "shape_type": "polygon"} for x, y in CORNERS]
    document = {"imagePath": "a.png", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": shapes}
    return written(folder / "a.json", document)


def labelstudio(folder: Path) -> Path:
    sizes = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}

    def result(number: int, kind: str, **value: Any) -> dict[str, Any]:
        names = {"from_name": "label", "to_name": "image", "type": kind}
        return {"id": f"r{number}", **names, "value": {**value, kind: ["cell"]}, **sizes}

    results = []
    for number, (x, y) in enumerate(CORNERS):
        if number < COUNT // 2:
            points = [[100 * a / WIDTH, 100 * b / HEIGHT] for a, b in outline(x, y)]
            results.append(result(number, "polygonlabels", points=points, closed=True))
        else:
            results.append(result(number, "brushlabels", format="rle", rle=brush(mask(x, y) > 0)))
    annotations = [{"id": 1, "was_cancelled": False, "result": results}]
    return written(folder / "a.json", [{"id": 1, "data": {"image": "a.png"}, "annotations": annotations}])


def napari(folder: Path) -> Path:
    # A pixel's center is whole there.
    lines = ["index,shape-type,vertex-index,axis-0,axis-1"]
    for number, (x, y) in enumerate(CORNERS):
        lines += [f"{number},polygon,{n},{b},{a}" for n, (a, b) in enumerate(outline(x, y, -0.5))]
    return written(folder / "a.csv", "\n".join(lines) + "\n")


def qupath(folder: Path) -> Path:
    features = [
        {
            "type": "Feature",
            "properties": {"objectType": "annotation", "classification": {"name": "cell"}},
            "geometry": {"type": "Polygon", "coordinates": [[*outline(x, y), outline(x, y)[0]]]},
        }
        for x, y in CORNERS
    ]
    return written(folder / "a.geojson", {"type": "FeatureCollection", "features": features})


def labelimage(folder: Path) -> Path:
    save(folder / "a_masks.png", labeled())
    return folder


def dsb2018(folder: Path) -> Path:
    save(folder / "a/images/a.png", np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    for number, corner in enumerate(CORNERS):
        save(folder / f"a/masks/{number}.png", mask(*corner) * 255)
    return folder


def bitmask(folder: Path) -> Path:
    numbers = labeled()
    car = np.where(numbers > 0, 3, 0)
    save(folder / "a.png", np.stack([car, 0 * car, numbers >> 8, numbers & 255], 2).astype(np.uint8))
    return folder


def scalabel(folder: Path) -> Path:
    labels = [
        {"category": "car", "poly2d": [{"vertices": outline(x, y), "types": "LLLL", "closed": True}]}
        for x, y in CORNERS
    ]
    return written(folder / "a.json", [{"name": "a.png", "labels": labels}])


def csv(folder: Path) -> Path:
    lines = [f"a.png,{x + 3},{y + 3},cell" for x, y in CORNERS]
    return written(folder / "a.csv", "\n".join(["file,x,y,class", *lines]) + "\n")


def imagej(folder: Path) -> Path:
    lines = [f"{n},a.png,{x + 3},{y + 3}" for n, (x, y) in enumerate(CORNERS, 1)]
    return written(folder / "a.csv", "\n".join([" ,Label,X,Y", *lines]) + "\n")


WRITERS: dict[str, tuple[Write, ...]] = {
    "bdd100k": (bitmask, scalabel),
    "coco": (coco, coco_rle),
    "coco-keypoints": (keypoints,),
    "csv": (csv,),
    "cvat": (cvat,),
    "datumaro": (datumaro,),
    "dsb2018": (dsb2018,),
    "imagej": (imagej,),
    "labelimage": (labelimage,),
    "labelme": (labelme,),
    "labelstudio": (labelstudio,),
    "napari": (napari,),
    "pointsup": (pointsup,),
    "qupath": (qupath,),
}
POINTS_ONLY = ("csv", "imagej")


def test_every_format_is_here() -> None:
    assert WRITERS.keys() == READERS.keys()


@pytest.mark.parametrize(
    ("kind", "write"),
    [
        pytest.param(kind, write, id=f"{kind} {write.__name__}")
        for kind, writers in WRITERS.items()
        for write in writers
    ],
)
def test_300_objects_of_an_image_are_all_read(kind: str, write: Write, tmp_path: Path) -> None:
    source, images = tmp_path / "source", tmp_path / "images"
    source.mkdir()
    name = "a/images/a.png" if kind == "dsb2018" else "a.png"
    save(images / name, np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    found = list(READERS[kind](write(source), Options(name="cell")))
    (image,) = gather([(str(source), found)], images).data.images
    assert len(image.objects) == COUNT
    if kind in POINTS_ONLY:
        assert all(item.point is not None for item in image.objects)
        return
    masks = [item.rle for item in image.objects]
    assert rle.areas(masks).tolist() == [SIDE * SIDE] * COUNT
    assert sorted(map(tuple, (box[:2] for box in rle.bounding_boxes(masks)))) == sorted(CORNERS)
