"""wssis.formats.readers.imagej: the Results table."""

from __future__ import annotations

import pytest

from wssis.errors import InputError
from wssis.formats.readers.imagej import read
from wssis.formats.records import Options

OPTIONS = Options(name="cell")


def save(tmp_path, text, name="Results.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_points_are_pixel_centers_and_labels_name_their_images(tmp_path):
    text = (
        " ,Label,Area,Mean,X,Y,Slice,Counter\n"
        "1,b.tif:0001-0001,0,7,10,20,0,0\n"
        "2,a.tif,0,9,11.5,0,0,0\n"
        "3,b.tif,0,9,1,2,1,0\n"
    )
    images = list(read(save(tmp_path, text), OPTIONS))
    assert [image.file for image in images] == ["b.tif", "a.tif"]
    assert [label.point for label in images[0].labels] == [(10.5, 20.5), (1.5, 2.5)]
    assert images[1].labels[0].point == (12.0, 0.5)
    assert {label.name for image in images for label in image.labels} == {"cell"}


def test_centroids_of_measured_particles_are_not_moved(tmp_path):
    text = " \tArea\tX\tY\tXM\tYM\tBX\tBY\n1\t12\t10,5\t20,25\t1\t1\t1\t1\n2\tNaN\t3\t4\t1\t1\t1\t1\n"
    (image,) = read(save(tmp_path, text, "plate_07.xls"), OPTIONS)
    assert image.file == "plate_07"
    assert [label.point for label in image.labels] == [(10.5, 20.25), (3.5, 4.5)]


def test_counters_are_classes_where_the_source_has_several(tmp_path):
    save(tmp_path, " ,X,Y,Counter\n1,1,2,0\n2,3,4,3\n", "a.csv")
    save(tmp_path, " ,X,Y,Counter\n1,1,2,0\n", "b.csv")
    save(tmp_path, " ,X,Y,Counter\n", "c.csv")
    names = {image.file: [label.name for label in image.labels] for image in read(tmp_path, OPTIONS)}
    assert names == {"a": ["counter 0", "counter 3"], "b": ["counter 0"], "c": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" ,Area,Mean\n1,2,3\n", "line 1: expected the columns x, y"),
        (" ,X,Y,Slice\n1,2,3,1\n2,2,3,2\n", "line 3: expected points of one picture"),
        (" ,Label,X,Y\n1,a.tif,2,3\n2,Mean,2,3\n", "line 3: expected an object, found 'Mean'"),
        (" ,X,Y\n1,NaN,3\n", "line 2: expected 'x' as a number"),
        (" ,X,Y\n1,2,5,3,5\n", "line 2: expected 3 cells, found 5. Write numbers with a point"),
    ],
)
def test_malformed_tables_are_refused(text, message, tmp_path):
    with pytest.raises(InputError) as raised:
        list(read(save(tmp_path, text), OPTIONS))
    assert f"Results.csv, {message}" in str(raised.value)
