"""wssis.formats.readers.dsb2018: one picture a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wssis.data import rle
from wssis.data.coco import load_coco
from wssis.errors import InputError
from wssis.formats.readers import dsb2018, label_image
from wssis.formats.records import Options, Unlabeled

OPTIONS = Options(name="nucleus")
SHARED = Path(__file__).parents[5] / "shared/data/dsb2018"


def write(source, name, masks, size=(4, 5)):
    (source / name / "images").mkdir(parents=True)
    (source / name / "masks").mkdir()
    Image.new("RGB", size[::-1]).save(source / name / "images" / f"{name}.png")
    for place, mask in enumerate(masks):
        Image.fromarray(mask).save(source / name / "masks" / f"{place}.png")


def test_masks_may_overlap_be_empty_and_rgba(tmp_path):
    gray = np.zeros((3, 4, 5), np.uint8)
    gray[0, :2] = 255
    gray[1, 1:3, 2:] = 255
    rgba = np.zeros((4, 5, 4), np.uint8)
    rgba[..., 3] = 255
    rgba[3, 3, :3] = 255
    write(tmp_path, "b", [*gray, rgba])
    write(tmp_path, "a", [])
    (tmp_path / "unlabelled" / "images").mkdir(parents=True)
    (tmp_path / "stage1_labels.csv").write_text("ImageId,EncodedPixels\n")
    (tmp_path / "b" / "masks" / ".DS_Store").write_bytes(b"\0")
    empty, image, left_out = dsb2018.read(tmp_path, OPTIONS)
    assert left_out == Unlabeled("folders without masks, left out", "unlabelled")
    assert (empty.file, empty.labels) == ("a/images/a.png", ())
    assert (image.file, image.size, image.where) == ("b/images/b.png", (4, 5), str(tmp_path / "b" / "masks"))
    masks = rle.decode([label.rle for label in image.labels], (4, 5)).numpy()
    assert np.array_equal(masks, [*(gray > 0), rgba[..., 0] > 0])
    assert [label.record for label in image.labels] == ["0.png", "1.png", "2.png", "3.png"]


def test_one_image_folder_is_a_source_too(tmp_path):
    write(tmp_path, "a", [np.ones((4, 5), np.uint8)])
    (image,) = dsb2018.read(tmp_path / "a", OPTIONS)
    assert (image.file, len(image.labels)) == ("images/a.png", 1)


def test_a_mask_of_another_size_is_named(tmp_path):
    write(tmp_path, "a", [np.ones((4, 5), np.uint8), np.ones((5, 4), np.uint8)])
    with pytest.raises(InputError, match=r"a/masks/1\.png: expected 5 x 4 px as the first mask, found 4 x 5"):
        list(dsb2018.read(tmp_path, OPTIONS))


@pytest.mark.parametrize("images", [0, 2])
def test_a_folder_has_one_image(images, tmp_path):
    write(tmp_path, "a", [])
    (tmp_path / "a/images/b.png").touch()
    if images == 0:
        for path in (tmp_path / "a/images").iterdir():
            path.unlink()
    with pytest.raises(InputError, match=f"expected one image, found {images}"):
        list(dsb2018.read(tmp_path, OPTIONS))


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_a_source_without_masks_is_refused(name, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError):
        list(dsb2018.read(tmp_path / name, OPTIONS))


@pytest.mark.skipif(not SHARED.is_dir(), reason="no nuclei beside the checkout")
def test_real_masks_come_back_pixel_for_pixel(tmp_path):
    data = load_coco(SHARED / "instances_val.json", SHARED / "val")
    for image in data.images[:3]:
        stack = rle.decode([item.rle for item in image.objects], image.size).numpy()
        write(tmp_path / "folders", f"n{image.id:03}", stack.astype(np.uint8) * 255, image.size)
        values = np.zeros(image.size, np.uint16)
        for value, mask in enumerate(stack, 300):
            values[mask] = value
        (tmp_path / "labels").mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / "labels" / f"n{image.id:03}_masks.tif")
        drawn = [values == value for value in np.unique(values)[1:]]

        folder = next(dsb2018.read(tmp_path / "folders" / f"n{image.id:03}", OPTIONS))
        by_name = sorted(range(len(stack)), key=lambda place: f"{place}.png")
        assert [label.rle for label in folder.labels] == [image.objects[place].rle for place in by_name]
        picture = next(label_image.read(tmp_path / "labels" / f"n{image.id:03}_masks.tif", OPTIONS))
        assert [label.rle for label in picture.labels] == rle.encode(np.stack(drawn))
