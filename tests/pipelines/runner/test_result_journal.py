"""Results that outlive a kill: whole lines only, and annotations as they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from pipelines.inference.label_dataset import from_json, remaining_images, rough_dataset, to_json
from pipelines.inference.load_models import load_solov2
from pipelines.runner.result_journal import Journal
from wssis.data import rle as rle_api
from wssis.data.records import Annotation, Category, CocoData, ImageRecord
from wssis.pseudo_labels.labeler import Labeler

RECORD = ImageRecord(
    4, "a.png", 64, 80, (Annotation(1, 0, point=(0.0, 0.0)), Annotation(2, 1, point=(36, 15)))
)


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.jsonl"
    first = Journal(path)
    first.add(4, [0.1, None, {"a": "é"}])
    first.add(7, [])
    whole = path.read_bytes()
    for torn in (b"[9,[1,", b"[9,[1,2]]", b"\x00\x00\n[3,[1]]\n"):
        path.write_bytes(whole + torn)
        again = Journal(path)
        assert again.done == {4: [0.1, None, {"a": "é"}], 7: []}
        again.add(9, [3])
        assert Journal(path).done[9] == [3]
    assert Journal().done == {}


def test_annotations_are_coco_and_come_back_as_they_were(tmp_path: Path) -> None:
    rle = rle_api.encode(torch.ones((1, 64, 80), dtype=torch.bool))[0]
    extra = {"confidence": 0.3333, "ignore": True, "big": 2**70}
    items = (Annotation(1, 0, rle, (0.1, 2.7), True, 1 / 3, extra, 4.5), Annotation(2, 1))
    record = replace(RECORD, annotations=items, corrected=True)
    data = CocoData((Category(7, "a"), Category(9, "b")), (record, replace(record, id=5)), ".")
    journal = Journal(tmp_path / "a.jsonl")
    journal.add(record.id, to_json(record, data))
    first, second = Journal(tmp_path / "a.jsonl").done[4]
    assert (first["category_id"], first["segmentation"]["size"], second["id"]) == (7, [64, 80], 2)
    assert from_json(replace(record, annotations=()), [first, second], data) == record
    assert [image.id for image in remaining_images(data, journal).images] == [5]


def test_labeling_asks_only_for_images_that_are_not_done(tmp_path: Path, models: Path, images: Path) -> None:
    records = (RECORD, ImageRecord(5, "b.png", 64, 64, (Annotation(3, 1, point=(30, 30)),)))
    data = CocoData((Category(3, "cat"), Category(7, "dog")), records, str(images))
    saved = load_solov2(models / "teacher", "cpu")
    labeler = Labeler(saved.model, None, saved.resize)
    whole = rough_dataset(labeler, data, "rough")
    path = tmp_path / "rough.jsonl"
    assert rough_dataset(labeler, data, "rough", Journal(path)) == whole
    path.write_bytes(path.read_bytes()[:-5])  # killed while it wrote the second
    gone = replace(records[0], file_name="gone.png")  # the first need not be read again
    again = rough_dataset(labeler, replace(data, images=(gone, records[1])), "rough", Journal(path))
    assert [image.annotations for image in again.images] == [image.annotations for image in whole.images]
