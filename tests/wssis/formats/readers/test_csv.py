"""wssis.formats.readers.csv: clicks in a table, as spreadsheets of several countries write it."""

from __future__ import annotations

import pytest

from wssis.errors import InputError
from wssis.formats.readers import READERS
from wssis.formats.records import Label, LabeledImage, Options


def read(tmp_path, text):
    path = tmp_path / "p.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(READERS["csv"](path, Options()))


@pytest.mark.parametrize(
    "text",
    [
        "file,x,y,class\na.png,1.5,2,cat\nb.png,,,\na.png,3,4,big dog\n",
        "\ufeffclass;y;note;x;FILE\r\ncat;2;;1.5;a.png\r\n;;;;b.png\r\nbig dog;4;;3;a.png\r\n",
        'file\tx\ty\tclass\n"a.png"\t1.5\t2\tcat\nb.png\n a.png \t3\t4\tbig dog',
    ],
)
def test_rows(tmp_path, text):
    assert read(tmp_path, text) == [
        LabeledImage(
            "a.png",
            (Label("cat", "line 2", point=(1.5, 2)), Label("big dog", "line 4", point=(3, 4))),
            record="line 2",
        ),
        LabeledImage("b.png", (), record="line 3"),
    ]


def test_a_decimal_comma_is_read_where_semicolons_separate(tmp_path):
    (image,) = read(tmp_path, "file;x;y;class\na.png;1,5;2;cat\n")
    assert image.labels[0].point == (1.5, 2)


def test_clicks_on_one_object(tmp_path):
    rows = ["a.png,1,2,cat,7,1", "a.png,3,4,cat,7,0", "a.png,5,6,cat,,1", "a.png,7,8,cat,,1"]
    (image,) = read(tmp_path, "\n".join(["file,x,y,class,object_id,inside", *rows]))
    assert [label.point for label in image.labels] == [(1, 2), (5, 6), (7, 8)]
    assert [label.clicks for label in image.labels] == [((3, 4, False),), (), ()]


def test_the_class_may_be_absent(tmp_path):
    (image,) = read(tmp_path, "file,x,y\na.png,1,2,\n")
    assert image.labels[0].name == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: expected the columns"),
        ("a.png,1,2,cat\n", "line 1: expected the columns"),
        ("file,x,class\n", "found no y"),
        ("file,x,y,class\n,1,2,cat\n", "line 2: expected a file name"),
        ("file,x,y,class\na.png,1,,cat\n", "line 2: expected 'y' as a number"),
        ("file,x,y,class\n\na.png,1,nan,cat\n", "line 3: expected 'y' as a number, found 'nan'"),
        ("file,x,y,class\na.png,1_0,2,cat\n", "line 2: expected 'x' as a number, found '1_0'"),
        ("file,x,y,class\na.png,٣,2,cat\n", "line 2: expected 'x' as a number, found '٣'"),
        ("file,x,y,class,object_id,inside\na.png,1,2,cat,7,1\na.png,1,2,dog,7,1\n", "the class of object 7"),
        ("file,x,y,class\na.png,,,cat\n", "line 2: expected 'x' as a number"),
        (
            "file,x,y,class\na.png,1,5,2,cat\n",
            "line 2: expected 4 cells, found 5. Write numbers with a point",
        ),
        ("file,x,y\na.png,1,2,cat\n", "line 2: expected 3 cells, found 4"),
        (b"file,x,y,class\n\xff,1,2,cat\n", "UTF-8"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    with pytest.raises(InputError, match=r"p\.csv") as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
