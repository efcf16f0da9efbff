"""wssis.formats.readers.label_image: cellpose's and StarDist's label images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from wssis.data import rle
from wssis.errors import InputError
from wssis.formats.readers.label_image import read
from wssis.formats.records import Options

OPTIONS = Options(name="nucleus")
LABELS = np.array([[0, 0, 3, 3], [1, 0, 0, 0], [1, 0, 300, 3]], np.uint16)  # 3 is in two pieces


def save(path, labels=LABELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)


def test_every_value_is_one_object(tmp_path):
    save(tmp_path / "cells_masks.tif")
    (image,) = read(tmp_path / "cells_masks.tif", OPTIONS)
    assert (image.file, image.size, image.where) == ("cells", (3, 4), "")
    assert [label.record for label in image.labels] == ["value 1", "value 3", "value 300"]
    assert {label.name for label in image.labels} == {"nucleus"}
    masks = rle.decode([label.rle for label in image.labels], (3, 4)).numpy()
    assert np.array_equal(masks, np.array([1, 3, 300])[:, None, None] == LABELS)


def test_a_folder_of_cellpose_is_read_beside_images_and_pickles(tmp_path):
    save(tmp_path / "a_cp_masks.png")
    save(tmp_path / "b_cp_masks.png", np.zeros((3, 4), np.uint8))
    save(tmp_path / "a.tif", np.full((3, 4), 7, np.uint8))
    (tmp_path / "a_seg.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "._a_masks.png").write_bytes(b"left by macOS")
    save(tmp_path / "deeper" / "c_masks.png")
    images = list(read(tmp_path, OPTIONS))
    assert [(image.file, len(image.labels)) for image in images] == [("a", 3), ("b", 0)]
    assert images[0].where == str(tmp_path / "a_cp_masks.png")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a_mask.png", "a"),
        ("a_labels.tif", "a"),
        ("a_label.png", "a"),
        ("a.b_Masks.TIFF", "a.b"),
        ("_mask.png", "_mask"),
    ],
)
def test_the_image_is_named_by_the_stem_without_its_end(name, stem, tmp_path):
    save(tmp_path / name)
    assert [image.file for image in read(tmp_path, OPTIONS)] == [stem]


def test_files_without_an_end_are_all_read(tmp_path):
    save(tmp_path / "1.tif")
    save(tmp_path / "2.tif")
    assert [image.file for image in read(tmp_path, OPTIONS)] == ["1", "2"]


def test_two_label_images_of_one_image_are_refused(tmp_path):
    save(tmp_path / "a_masks.png")
    save(tmp_path / "a_cp_masks.png")
    with pytest.raises(InputError, match="expected one label image of 'a'"):
        list(read(tmp_path, OPTIONS))


@pytest.mark.parametrize("single", [True, False])
def test_pickles_are_not_opened(single, tmp_path):
    path = tmp_path / "a_seg.npy"
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match="pickles, which can run code"):
        list(read(path if single else tmp_path, OPTIONS))


def test_a_malformed_file_in_a_folder_is_named(tmp_path):
    save(tmp_path / "a.png", np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(InputError, match=r"a\.png: expected a label image of one channel"):
        list(read(tmp_path, OPTIONS))
