"""wssis.formats.assemble: images found, labels upright and inside, sources put together, nothing lost."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from wssis.data import rle as rle_api
from wssis.data.coco import load_coco, save_coco
from wssis.errors import InputError
from wssis.formats.assemble import gather
from wssis.formats.class_map import as_line, one_line, read_classes
from wssis.formats.records import Label, LabeledImage, Part, Unlabeled

H, W = 40, 60
SQUARE = (10, 10, 20, 10, 20, 20, 10, 20)


def picture(path, size=(W, H), orientation=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", size).save(path, exif=exif)


@pytest.fixture
def folder(tmp_path):
    picture(tmp_path / "images" / "a.png")
    picture(tmp_path / "images" / "sub" / "b.jpg")
    return tmp_path / "images"


def polygon(name="cat", ring=SQUARE, record="annotation 1", **fields):
    return Label(name, record, parts=(Part(ring, fields.pop("holes", ())),), **fields)


def point(x, y, name="cat", record="line 2", **fields):
    return Label(name, record, point=(x, y), **fields)


def one(folder, *labels, file="a.png", size=None, **options):
    """The single image of one source, and the notices."""
    found = gather([("f.json", [LabeledImage(file, labels, size, "image 7")])], folder, **options)
    return found.data.images[0], found.notices


def box_of(item):
    return rle_api.bounding_box(item.rle)


# ---- images


@pytest.mark.parametrize(
    "name", ["sub/b.jpg", "sub\\b.jpg", "b.jpg", "C:\\work\\b.jpg", "/data/upload/sub/b.jpg", "b", "x/b.png"]
)
def test_an_image_is_found_by_what_tools_call_it(folder, name):
    assert one(folder, file=name)[0].file_name == "sub/b.jpg"


def test_other_names_of_an_image_are_tried_in_turn(folder):
    image = LabeledImage("0123abcd-a.png", (point(1, 1),), also=("nowhere.png", "a.png"))
    found = gather([("f.json", [image])], folder)
    assert [record.file_name for record in found.data.images] == ["a.png"]
    assert found.data.num_objects == 1


def test_the_longest_common_end_wins_and_an_ambiguous_name_is_refused(folder):
    picture(folder / "other" / "b.jpg")
    assert one(folder, file="/home/x/other/b.jpg")[0].file_name == "other/b.jpg"
    with pytest.raises(InputError, match=r"f.json, image 7: expected one image .* sub/b.jpg"):
        one(folder, file="b.jpg")


def test_missing_images_are_counted(folder):
    images = [LabeledImage(name, (), record=f"image {name}") for name in ("x.png", "y.png", "a.png")]
    with pytest.raises(InputError, match=r"f.json, image x.png: .*'x.png'.* \(1 more"):
        gather([("f.json", images)], folder)


def test_two_names_of_one_source_cannot_mean_one_image(folder):
    images = [LabeledImage("one/a.png", ()), LabeledImage("two/a.png", (), record="image 2")]
    with pytest.raises(InputError, match=r"image 2: .*'one/a.png'"):
        gather([("f.json", images)], folder)
    assert len(gather([("f", images[:1]), ("g", images[1:])], folder).data.images) == 1


def test_no_name_reaches_out_of_the_folder(folder):
    picture(folder.parent / "secret.png")
    for name in ("../secret.png", str(folder.parent / "secret.png"), "\0", ""):
        with pytest.raises(InputError, match="image 7"):
            one(folder, file=name)


def test_embedded_images_are_written(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (W, H)).save(buffer, "PNG")
    png = buffer.getvalue()
    names = ("x/a.png", "y/a.png", "../../c", "d?.PNG")
    images = [LabeledImage(name, (point(1, 2),), content=png) for name in names]
    found = gather([("f.json", images)], None, embedded=tmp_path / "new")
    assert [image.file_name for image in found.data.images] == ["a.png", "a-2.png", "c.png", "d_.PNG"]
    assert {path.name for path in tmp_path.rglob("*.*")} == {image.file_name for image in found.data.images}
    with pytest.raises(InputError, match=r"--images"):
        gather([("f.json", [LabeledImage("a.png", (), record="image 1")])], None)
    with pytest.raises(InputError, match=r"another 'a.png'"):
        gather(
            [("f", [LabeledImage("a.png", (), content=data) for data in (png, png + b"x")])],
            None,
            embedded=tmp_path / "new",
        )


# ---- upright


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_of_the_stored_picture_are_turned_with_it(tmp_path, orientation):
    stored = np.zeros((H, W), dtype=np.uint8)
    stored[5:9, 30:50] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png"))) > 0
    labels = (
        polygon(
            ring=(30, 5, 50, 5, 50, 9, 30, 9), point=(30.5, 5.5), clicks=((48.5, 7.5, True), (2, 2, False))
        ),
        Label("cat", "annotation 2", rle=rle_api.encode(stored[None] > 0)[0]),
        Label("cat", "annotation 3", box=(30, 5, 20, 4)),
        Label("cat", "annotation 4", box=(0, 0, W, H), ignore=True),
    )
    image, notices = one(tmp_path, *labels, size=(H, W))
    assert image.size == (W, H)
    for item in image.annotations[:2]:
        assert np.array_equal(rle_api.decode([item.rle], image.size)[0].numpy(), upright)
    x, y = image.annotations[0].point
    assert upright[int(y), int(x)]
    assert [(upright[int(y), int(x)], inside) for x, y, inside in image.annotations[0].clicks] == [
        (True, True),
        (False, False),
    ]
    assert image.annotations[2].extra["box"] == box_of(image.annotations[0])
    assert image.annotations[3].area == H * W
    assert "as stored" in notices.lines()[0]
    same, notices = one(tmp_path, polygon(ring=(1, 1, 5, 1, 5, 5, 1, 5)), size=(W, H))
    assert box_of(same.annotations[0])[:2] == [1, 1]
    assert notices.lines() == []


def test_a_size_that_fits_no_way_is_refused(folder):
    with pytest.raises(
        InputError, match=r"f.json, image 7: expected the size of .*60 x 40 px, found 41 x 40"
    ):
        one(folder, size=(40, 41))
    rle = rle_api.encode(np.ones((1, 41, 60), dtype=bool))[0]
    with pytest.raises(InputError, match=r"annotation 9: expected a mask of 60 x 40 px, found 60 x 41"):
        one(folder, Label("cat", "annotation 9", rle=rle), size=(H, W))


# ---- masks, boxes, points


def test_polygons_with_parts_and_holes(folder):
    hole = (12, 12, 18, 12, 18, 18, 12, 18)
    far = (40, 30, 44, 30, 44, 34, 40, 34)
    label = Label("cat", "1", parts=(Part(SQUARE, (hole, (11, 11, 13, 11, 13, 13, 11, 13))), Part(far)))
    mask = rle_api.decode([one(folder, label)[0].annotations[0].rle], (H, W))[0].numpy()
    wanted = np.zeros((H, W), dtype=bool)
    wanted[10:20, 10:20] = True
    wanted[12:18, 12:18] = wanted[11:13, 11:13] = False
    wanted[30:34, 40:44] = True
    assert np.array_equal(mask, wanted)


def test_images_without_a_label_are_told(folder):
    image, notices = one(folder)
    assert image.annotations == ()
    assert notices.lines() == ["images without a label, taken to show no object: 1 (a.png)"]


def test_what_nobody_has_looked_at_is_counted_and_named(folder):
    left_out = [Unlabeled("tasks, left out", f"task {number}") for number in range(5)]
    found = gather([("f.json", [*left_out, LabeledImage("a.png", (point(1, 2),))])], folder)
    assert [image.file_name for image in found.data.images] == ["a.png"]
    assert found.notices.lines() == ["tasks, left out: 5 (task 0; task 1; task 2; …)"]
    with pytest.raises(InputError, match=r"found none\. tasks, left out: 5 \(task 0;"):
        gather([("f.json", left_out)], folder)


def test_what_reaches_over_the_border_is_cut_and_what_is_far_outside_refused(folder):
    ring = (-20, -5, 10, -5, 10, 10, -20, 10)
    image, notices = one(folder, polygon(ring=ring), polygon(ring=(50, 30, 61, 30, 61, 41.5, 50, 41.5)))
    assert [box_of(item) for item in image.annotations] == [[0, 0, 10, 10], [50, 30, 10, 10]]
    assert notices.lines() == [
        "polygons that reach out of their image, cut at its border: 1 (f.json, annotation 1)"
    ]
    image, _ = one(folder, point(W, H), point(-1.5, 3), Label("cat", "4", box=(50, 30, 11, 12)))
    assert [item.point for item in image.annotations[:2]] == [(W - 1 / 64, H - 1 / 64), (0, 3)]
    assert image.annotations[2].extra["box"] == [50, 30, 10, 10]
    assert image.annotations[2].point == (55, 35)
    for label in (
        point(W + 2.1, 3, record="annotation 1"),
        point(float("nan"), 3, record="annotation 1"),
        polygon(ring=(0, 0, 5, 5, 3 * W, 0)),
        polygon(ring=(0, 0, 5, 5, float("inf"), 0)),
        polygon(ring=(0, 0, 5, 5)),
        polygon(ring=(0, 0, 5, 5, 9, 9, 1)),
        Label("cat", "annotation 1", box=(10, 10, -5, 5)),
        Label("cat", "annotation 1", box=(10, 10, 1e9, 5)),
    ):
        with pytest.raises(InputError, match=r"f.json, annotation 1: expected"):
            one(folder, label)


def test_masks_without_a_pixel_stay_as_point_or_box_and_are_counted(folder):
    thin = (5, 5, 5, 9, 5, 5)
    image, notices = one(
        folder,
        polygon(ring=thin, point=(5, 6), record="1"),
        polygon(ring=thin, box=(5, 5, 2, 4), record="2"),
        polygon(ring=thin, record="3"),
        Label("cat", "4", box=(3, 3, 0, 5)),
        point(1, 1, ignore=True, record="5"),
    )
    assert [(item.point, item.rle) for item in image.annotations] == [((5, 6), None), ((6, 7), None)]
    assert [entry["count"] for entry in notices.values()] == [1] * 5
    assert [entry["first"] for entry in notices.values()] == [[f"f.json, {n}"] for n in (1, 2, 3, 4, 5)]


def test_regions_are_no_objects_and_a_box_will_do(folder):
    image, _ = one(folder, polygon(crowd=True), Label("cat", "2", box=(10, 10, 5, 4), ignore=True))
    assert image.objects == ()
    assert [item.area for item in image.annotations] == [100, 20]
    assert (image.annotations[0].crowd, image.annotations[1].extra) == (True, {"ignore": True})


# ---- several sources


def test_an_ignore_region_makes_no_class(folder):
    image = LabeledImage("a.png", (polygon(name="", ignore=True), point(30, 30)))
    found = gather([("f.json", [image])], folder)
    assert found.data.class_names == ("cat",)
    assert [item.ignored for item in found.data.images[0].annotations] == [True, False]


def test_a_point_on_a_mask_of_its_class_is_that_masks(folder):
    big = polygon(ring=(0, 0, 40, 0, 40, 40, 0, 40))
    drawn = [LabeledImage("a.png", (big, polygon()))]
    clicks = [point(15, 15), point(16, 16), point(17, 17), point(15, 15, "dog"), point(50, 5)]
    found = gather([("m.json", drawn), ("p.csv", [LabeledImage("images/a.png", tuple(clicks))])], folder)
    (image,) = found.data.images
    assert [(item.rle is not None, item.point) for item in image.annotations] == [
        (True, (16, 16)),
        (True, (15, 15)),
        (False, (17, 17)),
        (False, (15, 15)),
        (False, (50, 5)),
    ]
    assert found.notices.values()[0]["count"] == 2


def test_a_later_source_adds_or_replaces(folder):
    first = [LabeledImage("a.png", (point(1, 1), point(2, 2))), LabeledImage("b", (point(3, 3),))]
    second = [LabeledImage("a.png", (polygon(),))]
    for replace, count in ((False, 3), (True, 1)):
        data = gather([("f", first), ("g", second)], folder, replace=replace).data
        assert [len(image.annotations) for image in data.images] == [count, 1]


# ---- classes


def test_classes_are_sorted_or_those_of_a_file(folder, tmp_path):
    labels = (point(1, 1, "dog"), point(2, 2, "cat"), point(3, 3, ""))
    data = gather([("f", [LabeledImage("a.png", labels)])], folder, name="thing").data
    assert [(item.id, item.name) for item in data.categories] == [(1, "cat"), (2, "dog"), (3, "thing")]
    assert [item.label for item in data.images[0].annotations] == [1, 0, 2]
    path = tmp_path / "classes.txt"
    path.write_text("\ufeffthing\n\ndog = animal\ncat=animal\nunused\n")
    data = gather(
        [("f", [LabeledImage("a.png", labels)])], folder, name="thing", classes=read_classes(path)
    ).data
    assert data.class_names == ("thing", "animal", "unused")
    assert [item.label for item in data.images[0].annotations] == [1, 1, 0]
    path.write_text("cat\n")
    with pytest.raises(InputError, match=r"f, line 2: .* found dog, thing"):
        gather([("f", [LabeledImage("a.png", labels)])], folder, name="thing", classes=read_classes(path))


@given(names=st.lists(st.text("a= \\", min_size=1).filter(str.strip), unique_by=one_line, min_size=1))
def test_every_name_comes_back_from_its_line(names):
    names = [one_line(name) for name in names]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classes.txt"
        path.write_text("".join(f"{as_line(name)}\n" for name in names))
        found = read_classes(path)
    assert found.names == tuple(names)
    assert found.meaning == {name: place for place, name in enumerate(names)}


def test_white_space_makes_no_class(folder, tmp_path):
    labels = (point(1, 1, " big\n cat "), point(2, 2, "big cat"), point(3, 3, " \u2028"))
    data = gather([("f", [LabeledImage("a.png", labels)])], folder, name="thing").data
    assert data.class_names == ("big cat", "thing")  # as lines of a file of classes, too
    save_coco(data, tmp_path / "instances.json")
    assert load_coco(tmp_path / "instances.json").images == data.images


@pytest.mark.parametrize("text", ["", "cat\ncat\n", "=cat\n", "cat=\n"])
def test_a_wrong_file_of_classes_is_refused(tmp_path, text):
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(InputError, match=r"c\.txt"):
        read_classes(tmp_path / "c.txt")


# ---- the whole


def test_processes_change_nothing_and_load_coco_reads_it(folder, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)

    def images():
        for number in range(60):
            picture(folder / f"{number}.png") if not (folder / f"{number}.png").exists() else None
            ring = rng.uniform(0, 40, 16).tolist()
            yield LabeledImage(
                f"{number}.png", (polygon(ring=ring), point(*rng.uniform(0, 40, 2), "dog")) * 50
            )

    alone = gather([("f", list(images()))], folder, workers=0)
    rng = np.random.default_rng(0)
    several = gather([("f", images())], folder, workers=2)
    assert several.data == alone.data
    save_coco(several.data, tmp_path / "out.json")
    loaded = load_coco(tmp_path / "out.json")
    assert loaded.images == several.data.images
    wrong = [*images(), LabeledImage("0.png", (point(99, 0, record="the last"),))]
    with pytest.raises(InputError, match="f, the last"):
        gather([("f", wrong)], folder, workers=2)


def test_sources_without_images_are_refused(folder):
    with pytest.raises(InputError, match=r"f\.json: expected images"):
        gather([("f.json", [])], folder)
    with pytest.raises(InputError, match="folder of images"):
        gather([("f.json", [])], folder / "nowhere")
