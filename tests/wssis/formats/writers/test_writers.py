"""What annotation tools are given: what our readers make of it, and the tools' documented layout."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import numpy as np
import pytest
import torch

from wssis.data import rle as rle_api
from wssis.data.coco import load_coco
from wssis.data.mask_to_polygons import outlines
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.errors import InputError
from wssis.formats.writers import FOLDERS, WRITERS
from wssis.formats.writers.cvat import mask_fields
from wssis.formats.writers.label_studio import packed

SIZE = (30, 44)


def masks() -> torch.Tensor:
    """A disc, two parts, a mask that fills the image, and one pixel in its last corner."""
    y, x = torch.arange(SIZE[0])[:, None] + 0.5, torch.arange(SIZE[1])[None] + 0.5
    disc = (x - 12) ** 2 + (y - 11) ** 2 < 64
    parts = torch.zeros(SIZE, dtype=torch.bool)
    parts[2:6, 0:5] = parts[20:25, 30:38] = True
    corner = torch.zeros(SIZE, dtype=torch.bool)
    corner[-1, -1] = True
    return torch.stack([disc, parts, torch.ones(SIZE, dtype=torch.bool), corner])


def data() -> CocoData:
    drawn = [
        Annotation(n, n % 2, rle, score=0.1 * n) for n, rle in enumerate(rle_api.encode(masks()), start=1)
    ]
    point = Annotation(9, 1, point=(10.25, 20.5), score=0.0)
    images = (
        ImageRecord(5, "deep/b c.png", *SIZE, (point, *drawn)),
        ImageRecord(4, "a.png", *SIZE, ()),
    )
    return CocoData((Category(1, 'a "cell" & <more>'), Category(2, "seed")), images, "images")


def written(kind: str, folder: Path) -> Path:
    path = folder / "labels" if kind in FOLDERS else folder / f"labels.{'xml' if kind == 'cvat' else 'json'}"
    WRITERS[kind](data(), path)
    if kind == "labelstudio":  # what a person sends off becomes an annotation
        tasks = json.loads(path.read_text())
        for task in tasks:
            task["annotations"] = [{"result": p["result"]} for p in task.pop("predictions")]
        path.write_text(json.dumps(tasks))
    return path


@pytest.mark.parametrize("kind", WRITERS)
def test_our_reader_finds_every_label_again(kind: str, tmp_path: Path) -> None:
    reader: Any = pytest.importorskip(f"wssis.formats.readers.{kind}")
    options = importlib.import_module("wssis.formats.records").Options()
    path = written(kind, tmp_path)
    found = {Path(image.file).name: image for image in reader.read(path, options)}
    assert set(found) == {"b c.png", "a.png"}
    assert found["a.png"].labels == ()
    names = data().class_names
    given = data().images[0].annotations
    point = [label for label in found["b c.png"].labels if label.point and not (label.rle or label.parts)]
    assert [label.point for label in point] == [pytest.approx((10.25, 20.5))]
    drawn = [label for label in found["b c.png"].labels if label.rle or label.parts]
    assert [label.name for label in drawn] == [names[item.label] for item in given[1:]]
    for label, item in zip(drawn, given[1:], strict=True):
        assert item.rle is not None
        if kind == "labelme":
            rle = rle_api.from_polygons([list(part.outer) for part in label.parts], SIZE)
            assert overlap(rle, item.rle) > 0.95
        else:
            assert overlap(label.rle, item.rle) == 1.0


def overlap(first: rle_api.Rle, second: rle_api.Rle) -> float:
    one, two = rle_api.decode([first, second], SIZE)
    return float((one & two).sum() / (one | two).sum())


def test_a_mask_of_cvat_is_runs_along_the_rows_of_its_box() -> None:
    mask = np.zeros((1, 5, 6), dtype=bool)
    mask[0, 1:3, 2:5] = [[False, True, True], [True, True, False]]
    fields = mask_fields(rle_api.encode(mask)[0])
    assert fields == {"rle": "1, 4, 1", "left": "2", "top": "1", "width": "3", "height": "2"}
    # The first run is background, also where there is none.
    assert mask_fields(rle_api.encode(np.ones((1, 2, 2), dtype=bool))[0])["rle"] == "0, 4"


def test_cvat_gets_every_name_escaped_and_the_quality_as_attribute(tmp_path: Path) -> None:
    root = xml.parse(written("cvat", tmp_path)).getroot()
    assert [image.get("name") for image in root.iter("image")] == ["deep/b c.png", "a.png"]
    assert [label.findtext("name") for label in root.iter("label")] == ['a "cell" & <more>', "seed"]
    assert [item.text for item in root.iter("attribute") if item.get("name") == "quality"] == [
        "0.000",
        *("0.100", "0.200", "0.300", "0.400"),
    ]


def unpacked(data: bytes) -> np.ndarray:
    """Label Studio's decoder, as its documentation has it."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        run, length = read(1), read(sizes[read(2)]) + 1
        values += [read(word)] * length if run else [read(word) for _ in range(length)]
    return np.array(values).reshape(*SIZE, 4)


@pytest.mark.parametrize("number", range(4))
def test_label_studio_gets_an_rgba_picture_of_the_mask(number: int) -> None:
    picture = unpacked(packed(rle_api.encode(masks())[number]))
    assert (picture == 255 * masks()[number].numpy()[:, :, None]).all()


def test_label_studio_gets_pictures_scores_and_a_configuration(tmp_path: Path) -> None:
    WRITERS["labelstudio"](data(), tmp_path / "l.json")
    first, second = json.loads((tmp_path / "l.json").read_text())
    assert first["data"]["image"] == "/data/local-files/?d=deep/b%20c.png"
    assert first["predictions"][0]["score"] == pytest.approx(0.2)
    assert second["predictions"][0]["result"] == []
    view = xml.parse(tmp_path / "l.xml").getroot()
    controls = {control.get("name"): [label.get("value") for label in control] for control in view}
    assert controls["mask"] == controls["point"] == list(data().class_names)
    names = {result["from_name"] for result in first["predictions"][0]["result"]}
    assert names == {"mask", "point"}


def test_labelme_finds_its_images_from_its_own_folder(tmp_path: Path) -> None:
    placed = CocoData(data().categories, data().images, str(tmp_path / "images"))
    WRITERS["labelme"](placed, tmp_path / "labels")
    document = json.loads((tmp_path / "labels/deep/b c.json").read_text())
    assert document["imagePath"] == "../../images/deep/b c.png"
    kinds = [(shape["shape_type"], shape["group_id"]) for shape in document["shapes"]]
    assert kinds == [
        ("point", None),
        ("polygon", None),
        ("polygon", 2),
        ("polygon", 2),
        *[("polygon", None)] * 2,
    ]
    twins = (ImageRecord(1, "a.png", *SIZE), ImageRecord(2, "a.jpg", *SIZE))
    with pytest.raises(InputError, match=r"a\.jpg"):
        WRITERS["labelme"](CocoData(data().categories, twins, "images"), tmp_path / "twins")
    assert not (tmp_path / "twins").exists()


def test_coco_is_the_same_data(tmp_path: Path) -> None:
    again = load_coco(written("coco", tmp_path))
    assert [image.file_name for image in again.images] == ["deep/b c.png", "a.png"]
    assert [(i.id, i.rle, i.point, i.score) for i in again.images[0].annotations] == [
        (i.id, i.rle, i.point, i.score) for i in data().images[0].annotations
    ]


def test_outlines_hold_the_middles_of_a_masks_pixels_and_of_no_others() -> None:
    ring = masks()[0].clone()
    ring[9:13, 10:14] = False
    for mask in (*masks(), ring):
        rle = rle_api.encode(mask[None])[0]
        found = torch.zeros(SIZE, dtype=torch.bool)
        for part in outlines(rle):
            outer, *holes = (
                rle_api.from_polygons([line.flatten().tolist()], SIZE) for line in (part.outer, *part.holes)
            )
            found |= rle_api.decode([outer], SIZE)[0]
            for hole in holes:
                found &= ~rle_api.decode([hole], SIZE)[0]
        assert (found != mask).sum() <= 4  # corners of holes, which the rasteriser counts as inside


def test_simpler_outlines_stay_within_the_tolerance_and_have_three_corners() -> None:
    for rle in rle_api.encode(masks()):
        exact, simple = outlines(rle), outlines(rle, 0.35)
        for one, two in zip(exact, simple, strict=True):
            assert 3 <= len(two.outer) <= len(one.outer)
    assert outlines(rle_api.encode(torch.zeros((1, *SIZE), dtype=torch.bool))[0]) == []
    assert all(len(part.outer) >= 3 for part in outlines(rle_api.encode(masks())[3], 50.0))
