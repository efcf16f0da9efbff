"""Fixtures after LabelMe's documentation and the files that it writes."""

from __future__ import annotations

import base64
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wssis.data import rle
from wssis.errors import InputError
from wssis.formats.readers.labelme import read
from wssis.formats.records import LabeledImage, Options


def png(array: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def shape(
    kind: str | None, points: list[list[float]], label: Any = "cell", group: Any = None
) -> dict[str, Any]:
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


GOOD: dict[str, Any] = {
    "version": "5.5.0",
    "flags": {},
    "shapes": [
        shape("polygon", [[0, 0], [4, 0], [4, 3]], group=0),
        shape("rectangle", [[6, 5], [2, 1]]),
        shape("polygon", [[5, 5], [9, 5], [9, 8]], group=0),
        shape("polygon", [[5, 5], [9, 5], [9, 8]], "other", group=0),
        shape("circle", [[5, 5], [5, 7]]),
        shape("point", [[1.5, 2.5]], 3),
        shape("points", [[1, 1], [2, 2]]),
        shape("mask", [[7.0, 8.0], [9.0, 9.0]])
        | {"mask": png(np.array([[0, 1, 1], [1, 0, 0]], dtype=np.uint8))},
        shape(None, [[0, 0], [1, 0], [1, 1]], "__ignore__"),
    ],
    "imagePath": "..\\images\\a.png",
    "imageData": None,
    "imageHeight": 10,
    "imageWidth": 12,
}


def images(folder: Path, document: Any = GOOD, options: Options | None = None) -> list[LabeledImage]:
    path = folder / "a.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return list(read(path, options or Options()))


def test_reads_every_type(tmp_path: Path) -> None:
    (image,) = images(tmp_path)
    assert (image.file, image.size, image.content) == ("..\\images\\a.png", (10, 12), None)
    whole, box, other, circle, point, one, two, mask, ignored = image.labels
    assert [len(label.parts) for label in (whole, other)] == [2, 1]  # group 0 is a group; classes are apart
    assert box.box == (2, 1, 4, 4)
    x, y = np.array(circle.parts[0].outer).reshape(-1, 2).T
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((3, 7, 3, 7))
    assert (point.name, point.point) == ("3", (1.5, 2.5))
    assert (one.point, two.point) == ((1, 1), (2, 2))
    assert mask.rle is not None
    assert rle.decode([mask.rle], (10, 12))[0].nonzero().tolist() == [[8, 8], [8, 9], [9, 7]]
    assert ignored.ignore

    assert len(images(tmp_path, options=Options(points="one"))[0].labels) == 8


def test_a_folder_of_files_and_embedded_images(tmp_path: Path) -> None:
    data = png(np.zeros((10, 12), dtype=np.uint8))
    for name, path, embedded in (
        ("x/1.json", "1.png", data),
        ("y/1.json", "1.png", None),
        ("2.JSON", "2.png", None),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        document = {"shapes": [], "imagePath": path, "imageData": embedded}
        (tmp_path / name).write_text(json.dumps(document), encoding="utf-8")
    two, first, second = read(tmp_path, Options())
    assert [image.file for image in (two, first, second)] == ["2.png", "x/1.png", "y/1.png"]
    assert first.content == base64.b64decode(data)
    assert Path(second.where) == tmp_path / "y" / "1.json"
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="found none below"):
        list(read(tmp_path / "none", Options()))


@pytest.mark.parametrize(
    ("place", "change", "problem"),
    [
        (0, {"points": [[0, 0], [4, 0]]}, "3 or more points, found 2"),
        (0, {"points": [[0, 0, 1]]}, "points [x, y]"),
        (0, {"shape_type": "linestrip"}, "'linestrip'"),
        (0, {"label": None}, "'label'"),
        (1, {"points": [[0, 0], [4, 0], [1, 1]]}, "2 or 4 points, found 3"),
        (5, {"points": []}, "1 points, found 0"),
        (7, {"mask": "?"}, "base64"),
        (7, {"mask": base64.b64encode(b"GIF89a").decode()}, "as a PNG"),
        (7, {"points": [[7, 8], [10, 9]]}, "4 x 2 px as its points say, found 3 x 2"),
        (7, {"points": [[0, 0], [1e6, 1e6]]}, "megapixels"),
    ],
)
def test_damage_names_file_and_record(
    tmp_path: Path, place: int, change: dict[str, Any], problem: str
) -> None:
    document = copy.deepcopy(GOOD)
    document["shapes"][place].update(change)
    with pytest.raises(InputError) as caught:
        images(tmp_path, document)
    assert f"a.json, shape {place}:" in str(caught.value)
    assert problem in str(caught.value)


def test_other_json_is_refused(tmp_path: Path) -> None:
    for document, problem in (
        ({"images": []}, "'imagePath'"),
        ([], "LabelMe"),
        (GOOD | {"imageWidth": -1}, "px"),
    ):
        with pytest.raises(InputError, match=problem):
            images(tmp_path, document)
