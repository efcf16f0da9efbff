"""wssis.formats.readers.napari: layers saved as CSV."""

from __future__ import annotations

import pytest

from wssis.errors import InputError
from wssis.formats.readers.napari import read
from wssis.formats.records import Options

OPTIONS = Options(name="cell")
SHAPES = """index,shape-type,vertex-index,axis-0,axis-1
0,polygon,1,2.0,9.0
0,polygon,0,2.0,3.0
0,polygon,2,6.0,3.0
1,rectangle,0,0.0,1.0
1,rectangle,1,0.0,5.0
1,rectangle,2,3.0,5.0
1,rectangle,3,3.0,1.0
2,ellipse,0,10.0,20.0
2,ellipse,1,10.0,28.0
2,ellipse,2,14.0,28.0
2,ellipse,3,14.0,20.0
"""


def save(tmp_path, text, name="plate_07.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_points_are_rows_and_columns_of_pixel_centers(tmp_path):
    path = save(tmp_path, "index,axis-0,axis-1\n0.0,3.0,40.0\n1.0,-0.5,0.25\n")
    (image,) = read(path, OPTIONS)
    assert (image.file, image.where) == ("plate_07", "")
    assert [label.point for label in image.labels] == [(40.5, 3.5), (0.75, 0.0)]
    assert [(label.name, label.record) for label in image.labels] == [("cell", "line 2"), ("cell", "line 3")]


def test_a_column_names_the_class_and_a_first_axis_of_zeros_is_left_out(tmp_path):
    path = save(tmp_path, "index,axis-0,axis-1,axis-2,confidence,Label\n0,0.0,3,4,.5,T cell\n1,0,5,6,.5,\n")
    (image,) = read(path, OPTIONS)
    assert [(label.name, label.point) for label in image.labels] == [
        ("T cell", (4.5, 3.5)),
        ("cell", (6.5, 5.5)),
    ]


def test_points_of_other_frames_are_refused(tmp_path):
    path = save(tmp_path, "index,axis-0,axis-1,axis-2\n0,0,3,4\n1,2,5,6\n")
    with pytest.raises(InputError, match=r"plate_07\.csv, line 3: expected points of one frame"):
        list(read(path, OPTIONS))


def test_a_folder_holds_a_table_an_image(tmp_path):
    save(tmp_path, "index,axis-0,axis-1\n", "b.csv")
    save(tmp_path, "index,axis-0,axis-1\n0,1,2\n", "a.tif.csv")
    images = list(read(tmp_path, OPTIONS))
    assert [(image.file, len(image.labels)) for image in images] == [("a.tif", 1), ("b", 0)]
    assert images[1].where == str(tmp_path / "b.csv")


def test_shapes_are_masks_and_boxes(tmp_path):
    (image,) = read(save(tmp_path, SHAPES), OPTIONS)
    polygon, rectangle, ellipse = image.labels
    assert polygon.parts[0].outer == [3.5, 2.5, 9.5, 2.5, 3.5, 6.5]  # sorted by vertex-index
    assert (rectangle.box, rectangle.parts) == ((1.5, 0.5, 4.0, 3.0), ())
    xs, ys = ellipse.parts[0].outer[::2], ellipse.parts[0].outer[1::2]
    assert (min(xs), max(xs), min(ys), max(ys)) == pytest.approx((20.5, 28.5, 10.5, 14.5))
    assert all(
        (x - 24.5) ** 2 / 16 + (y - 12.5) ** 2 / 4 == pytest.approx(1) for x, y in zip(xs, ys, strict=True)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,x,y\n0,1,2\n", "line 1: expected the columns axis-0, axis-1"),
        ("axis-0,axis-1,axis-3\n0,1,2\n", "line 1: expected the columns axis-0, axis-1, axis-2"),
        ("axis-0,axis-1\n0,here\n", "line 2: expected 'axis-1' as a number"),
        (SHAPES.replace("rectangle", "path"), "line 5: expected a polygon"),
        (SHAPES.replace("1,rectangle,1,0.0", "1,rectangle,1,0.5"), "line 5: expected an upright rectangle"),
        (SHAPES.replace("0,polygon,2,6.0,3.0\n", ""), "line 3: expected a polygon of 3"),
        ("shape-type,axis-0,axis-1\npolygon,0,1\n", "line 1: expected a column index"),
    ],
)
def test_malformed_tables_are_refused(text, message, tmp_path):
    with pytest.raises(InputError) as raised:
        list(read(save(tmp_path, text), OPTIONS))
    assert f"plate_07.csv, {message}" in str(raised.value)
