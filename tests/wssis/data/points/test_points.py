"""wssis.data.points: both formats, and everything that can be wrong in a file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from wssis.data.coco import save_coco
from wssis.data.points import read_points
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.data.split import split
from wssis.errors import InputError

DATA = CocoData(
    (Category(2, "cat"), Category(9, "big dog")),
    (ImageRecord(5, "a.png", 10, 20), ImageRecord(6, "sub/b.png", 30, 40)),
    "images",
)


@pytest.fixture
def write(tmp_path):
    def write(text, name="points.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def points_of(path) -> dict[int, list[tuple[float, float, int]]]:
    """Points without further clicks, of which there must be none."""
    found = read_points(path, DATA)
    assert not any(item.clicks for items in found.values() for item in items)
    return {image: [item[:3] for item in items] for image, items in found.items()}


def test_further_clicks_of_a_csv_file_belong_to_the_object_of_their_id(write) -> None:
    rows = [
        "a.png,1,2,cat,7,1",
        "a.png,3,4,cat,8,1",
        "a.png,1.5,2,cat,7,1",
        "a.png,9,9,cat,7,0",
        "sub/b.png,1,1,cat,7,1",
    ]
    found = read_points(write("file,x,y,class,object_id,inside\n" + "\n".join(rows)), DATA)
    assert found == {
        5: [(1, 2, 0, ((1.5, 2, True), (9, 9, False))), (3, 4, 0, ())],
        6: [(1, 1, 0, ())],
    }


def test_without_the_column_inside_every_row_is_an_object(write) -> None:
    found = points_of(write("file,x,y,class,object_id\na.png,1,2,cat,7\na.png,3,4,cat,7\n"))
    assert found == {5: [(1, 2, 0), (3, 4, 0)]}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a.png,1,2,cat,8,0", "line 3: expected a click on the object first, found one beside it"),
        ("a.png,1,2,cat,7,yes", "line 3: expected inside 1 .* found 'yes'"),
        ("a.png,1,2,big dog,7,1", "line 3: expected the class of object 7, cat, found big dog"),
    ],
)
def test_wrong_clicks_are_one_line(write, row: str, problem: str) -> None:
    text = f"file,x,y,class,object_id,inside\na.png,1,2,cat,7,1\n{row}\n"
    with pytest.raises(InputError, match=problem):
        read_points(write(text), DATA)


def test_further_clicks_of_a_json_file(write, tmp_path) -> None:
    clicks = ((3.0, 4.0, True), (9.0, 9.0, False))
    image = replace(DATA.images[0], annotations=(Annotation(1, 1, point=(2.0, 2.0), clicks=clicks),))
    save_coco(replace(DATA, images=(image,)), tmp_path / "p.json")
    assert read_points(tmp_path / "p.json", DATA) == {5: [(2, 2, 1, clicks)]}
    assert json.loads((tmp_path / "p.json").read_text())["annotations"][0]["clicks"] == [[3, 4, 1], [9, 9, 0]]


@pytest.mark.parametrize("clicks", [3, [[1, 2]], [[1, 2, 3]], [["1", 2, 1]], [[99, 2, 1]], [[1, 2, None]]])
def test_clicks_that_are_none_name_the_annotation(write, clicks) -> None:
    item = {"id": 4, "image_id": 1, "category_id": 1, "point": [1, 1], "clicks": clicks}
    text = json.dumps(
        {
            "info": {"image_dir": "images"},
            "images": [{"id": 1, "file_name": "a.png", "height": 10, "width": 20}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [item],
        }
    )
    with pytest.raises(InputError, match=r"annotation 4: expected clicks \[\[x, y"):
        read_points(write(text, "p.json"), DATA)


@pytest.mark.parametrize(
    "text",
    [
        "file,x,y,class\na.png,1.5,2,cat\na.png,19.9,9.9,big dog\nsub/b.png,0,0,cat\n",
        "\ufefffile;x;y;class\r\na.png;1.5;2;cat\r\na.png;19.9;9.9;big dog\r\nsub/b.png;0;0;cat\r\n",
        "class\ty\tx\tfile\ncat\t2\t1.5\ta.png\nbig dog\t9.9\t19.9\ta.png\n\ncat\t0\t0\tsub\\b.png",
        'File, X, Y, Class, who\n"a.png", 1.5, 2, cat, me\na.png,19.9,9.9,"big dog"\nsub/b.png,0,0,cat,,\n',
    ],
)
def test_csv_in_the_forms_that_programs_write(write, text):
    assert points_of(write(text)) == {
        5: [(1.5, 2.0, 0), (19.9, 9.9, 1)],
        6: [(0.0, 0.0, 0)],
    }


def test_csv_row_with_a_file_only_says_that_there_is_no_object(write):
    assert read_points(write("file,x,y,class\nsub/b.png,,,\n"), DATA) == {6: []}
    assert read_points(write("file,x,y,class\n"), DATA) == {}


@pytest.mark.parametrize(
    ("text", "record", "says"),
    [
        ("", "line 1", "expected the columns"),
        ("file,x,y\na.png,1,2\n", "line 1", "found no class"),
        ("file,x,y,class\nc.png,1,2,cat\n", "line 2", "'c.png'"),
        ("file,x,y,class\na.png,1,2,cow\n", "line 2", "'cow'"),
        ("file,x,y,class\na.png,1,2,\n", "line 2", "expected a class"),
        ("file,x,y,class\n\na.png,1,2,cat\na.png,20,2,cat\n", "line 4", "20 x 10 px"),
        ("file,x,y,class\na.png,-0.1,2,cat\n", "line 2", "20 x 10 px"),
        ("file,x,y,class\na.png,1,10,cat\n", "line 2", "20 x 10 px"),
        ("file,x,y,class\na.png,nan,1,cat\n", "line 2", "nan"),
        ("file,x,y,class\na.png,inf,1,cat\n", "line 2", "inf"),
        ("file,x,y,class\na.png,,1,cat\n", "line 2", "'x' as a number"),
        ("file,x,y,class\na.png,one,1,cat\n", "line 2", "one"),
        ("file,x,y,class\na.png\x00,1,1,cat\n", "line 2", "a.png"),
        (b"file,x,y,class\na.png,1,\xff,cat\n", "", "UTF-8"),
        ("file,x,y,class\n" + "a" * 200_000 + ",1,1,cat\n", "line 2", "expected CSV"),
    ],
)
def test_csv_that_is_wrong_names_its_line(write, text, record, says):
    path = write(text)
    with pytest.raises(InputError) as error:
        read_points(path, DATA)
    message = str(error.value)
    assert str(path) in message
    assert record in message
    assert says in message
    assert error.value.remedy
    assert "\n" not in message


def document(**changes):
    value = {
        "categories": [{"id": 1, "name": "big dog"}, {"id": 2, "name": "cat"}],
        "images": [
            {"id": 1, "file_name": "sub/b.png", "height": 30, "width": 40},
            {"id": 2, "file_name": "a.png", "height": 10, "width": 20},
        ],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "point": [39.5, 29.5]}],
    }
    return json.dumps(value | changes)


def test_json_is_matched_by_file_and_class_names_and_not_by_ids(write):
    assert points_of(write(document(), "p.json")) == {6: [(39.5, 29.5, 1)], 5: []}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"annotations": [{"id": 4, "image_id": 1, "category_id": 1, "point": [40, 1]}]}, "annotation 4"),
        ({"annotations": [{"id": 4, "image_id": 1, "category_id": 3, "point": [4, 1]}]}, "category_id 3"),
        ({"annotations": [{"id": 4, "image_id": 7, "category_id": 1, "point": [4, 1]}]}, "image_id 7"),
        (
            {
                "annotations": [
                    {"id": 4, "image_id": 2, "category_id": 1, "segmentation": [[0, 0, 9, 0, 9, 9]]}
                ]
            },
            'annotation 4: expected a "point"',
        ),
        ({"images": [{"id": 1, "file_name": "c.png", "height": 30, "width": 40}]}, "image 1: .*'c.png'"),
        (
            {"images": [{"id": 1, "file_name": "a.png", "height": 99, "width": 99}]},
            "image 1: expected 20 x 10 px .* found 99 x 99",
        ),
        (
            {"categories": [{"id": 1, "name": "cow"}], "images": json.loads(document())["images"]},
            "annotation 1: .*'cow'",
        ),
    ],
)
def test_json_that_is_wrong_names_its_record(write, changes, says):
    with pytest.raises(InputError, match=says) as error:
        read_points(write(document(**changes), "p.json"), DATA)
    assert error.value.remedy


@pytest.mark.parametrize("name", ["points.xml", "points", "points.csv.gz"])
def test_other_suffixes_are_refused_by_name(write, name):
    with pytest.raises(InputError, match=r"\.json, \.csv"):
        read_points(write("", name), DATA)


@pytest.mark.parametrize("name", ["none.csv", "none.json"])
def test_missing_file(tmp_path, name):
    with pytest.raises(InputError, match=r"found none.*Check the path"):
        read_points(tmp_path / name, DATA)


def test_what_split_writes_reads_back(tmp_path):
    from wssis.data.synthetic import generate

    train, _ = generate(tmp_path, 0, n_train=12, n_val=1)
    parts = split(train, 0.3, 0.2, 0, points="random", jitter=1)
    save_coco(parts.points, tmp_path / "points.json")
    points = read_points(tmp_path / "points.json", train)
    assert points == {
        image.id: [(*item.point, item.label, ()) for item in image.annotations]
        for image in parts.points.images
    }
    again = split(train, 0.3, 0.2, 0, clicked=points)
    matched = {item.id for image in again.points.images for item in image.annotations}
    made = {item.id for image in parts.points.images for item in image.annotations}
    assert len(matched & made) > 0.8 * len(made)
