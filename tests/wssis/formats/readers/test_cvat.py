"""Fixtures after CVAT's documentation of "CVAT for images 1.1"."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from wssis.data import rle
from wssis.errors import InputError
from wssis.formats.readers.cvat import read
from wssis.formats.records import Options

GOOD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>4</id><name>cells</name><labels><label><name>cell</name></label></labels></task></meta>
  <image id="0" name="a/b.png" width="10" height="6">
    <points label="cell" source="manual" occluded="1" points="1.5,2.00;3.25,4.5" z_order="0"></points>
    <polygon label="cell" occluded="0" points="0,0;4,0;4,3" group_id="0"><attribute name="n"/></polygon>
    <box label="cell" occluded="0" xtl="1" ytl="1" xbr="5" ybr="3" rotation="90.0"></box>
    <mask label="cell" occluded="0" rle="1, 2, 1, 1, 1" left="7" top="2" width="3" height="2"></mask>
    <tag label="good" source="manual"></tag>
  </image>
  <image id="1" name="empty.png" width="8" height="8"></image>
  <image id="2" name="c.png" width="10" height="10">
    <polygon label="cell" points="0,0;2,0;2,2;0,2" group_id="1"></polygon>
    <ellipse label="cell" cx="5" cy="5" rx="4" ry="2" rotation="90"></ellipse>
    <mask label="cell" rle="0, 1" left="9" top="9" width="1" height="1" group_id="1"></mask>
    <points label="other" points="5,5" group_id="1"></points>
    <points label="cell" points="1,1" outside="1"></points>
  </image>
</annotations>
"""


def write(folder: Path, text: str = GOOD) -> Path:
    path = folder / "annotations.xml"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_every_shape(tmp_path: Path) -> None:
    first, empty, last = read(write(tmp_path), Options())

    assert (first.file, first.size, len(first.labels)) == ("a/b.png", (6, 10), 5)
    one, two, polygon, box, mask = first.labels
    assert (one.point, two.point, one.name) == ((1.5, 2.0), (3.25, 4.5), "cell")
    assert list(polygon.parts[0].outer) == [0, 0, 4, 0, 4, 3]
    assert box.box == pytest.approx((2, 0, 2, 4))  # 4 x 2 about its middle (3, 2)
    assert mask.rle is not None
    shown = rle.decode([mask.rle], (6, 10))[0].numpy()
    assert np.argwhere(shown).tolist() == [[2, 8], [2, 9], [3, 8]]  # runs follow the rows of the box

    assert (empty.file, empty.labels) == ("empty.png", ())
    whole, ellipse, point = last.labels
    assert (point.name, point.point) == ("other", (5, 5))  # another class is another object
    assert whole.rle is not None
    assert rle.decode([whole.rle], (10, 10))[0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [9, 9]]
    x, y = np.array(ellipse.parts[0].outer).reshape(-1, 2).T
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((3, 7, 1, 9))


def test_points_of_one_shape_may_be_one_object(tmp_path: Path) -> None:
    first = next(read(write(tmp_path), Options(points="one")))
    assert [label.point for label in first.labels[:2]] == [(1.5, 2.0), None]
    assert all(inside for *_, inside in first.labels[0].clicks)
    many = next(read(write(tmp_path), Options()))
    assert len(first.labels[0].clicks) == len(many.labels) - len(first.labels) > 0


def test_a_mask_that_leaves_the_image_is_cut(tmp_path: Path) -> None:
    text = re.sub(r'rle="1, 2.*height="2"', 'rle="0,8" left="-1" top="4" width="2" height="4"', GOOD)
    mask = next(read(write(tmp_path, text), Options())).labels[4].rle
    assert mask is not None
    assert rle.decode([mask], (6, 10))[0].nonzero().tolist() == [[4, 0], [5, 0]]


def test_images_without_size_and_a_folder_of_files(tmp_path: Path) -> None:
    write(tmp_path, '<annotations><image name="a.png"><points label="x" points="1,1"/></image></annotations>')
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper", '<annotations><image name="b.png"/></annotations>')
    found = list(read(tmp_path, Options()))
    assert [(image.file, image.size, Path(image.where).name) for image in found] == [
        ("a.png", None, "annotations.xml"),
        ("b.png", None, "annotations.xml"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "record", "problem"),
    [
        ("<annotations>", '<!DOCTYPE x [<!ENTITY a "aa">]><annotations>', "line 2", "document type"),
        ("<annotations>", '<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotations>', "line 2", "document type"),
        ("1.5,2.00;", "1.5;", "line 6, points of image 'a/b.png'", "x,y"),
        ("1.5,2.00;", "nan,2;", "line 6", "a number"),
        ("0,0;4,0;4,3", "0,0;4,0", "line 7", "3 or more points, found 2"),
        ('xtl="1"', 'xtl="9"', "line 8", "wrong way round"),
        ('ytl="1"', "", "line 8", "'ytl'"),
        ("1, 2, 1, 1, 1", "1, 2, 1, 1, 2", "line 9", "sum to 2 x 3, found a sum of 7"),
        ("1, 2, 1, 1, 1", "1, x", "line 9", "whole numbers"),
        ("1, 2, 1, 1, 1", "-1, 7", "line 9", "sum"),
        ('width="3"', 'width="3000000000"', "line 9", "megapixels"),
        ('height="6"', 'height="0"', "image 'a/b.png'", "found 10 x 0"),
        ('label="cell" cx', "cx", "line 15", "'label'"),
        ("</annotations>", "", "line 21", "expected XML"),
        ("ellipse", "polyline", "line 15", "found a polyline"),
        ("ellipse", "cuboid", "line 15", "cuboid"),
        ("ellipse", "blob", "line 15", "blob"),
        ('<image id="2"', '<track id="2"', "", "CVAT for images 1.1"),
        ("annotations>", "annotation>", "line 2", "expected <annotations>"),
    ],
)
def test_damage_names_file_and_record(tmp_path: Path, old: str, new: str, record: str, problem: str) -> None:
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        list(read(write(tmp_path, GOOD.replace(old, new)), Options()))
    assert "annotations.xml" in str(caught.value)
    assert record in str(caught.value)
    assert problem in str(caught.value)


def test_odd_encodings_and_missing_files(tmp_path: Path) -> None:
    for name in ("hex", "nonsense", "utf-7", "shift_jis", "idna"):
        with pytest.raises(InputError, match="expected XML"):
            list(read(write(tmp_path, GOOD.replace('"utf-8"', f'"{name}"')), Options()))
    with pytest.raises(InputError, match="cannot be read"):
        list(read(tmp_path / "none.xml", Options()))
