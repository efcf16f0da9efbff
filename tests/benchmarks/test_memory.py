"""The benchmark of memory: it runs, and its growth is that of an image more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import memory
from benchmarks.memory import Growth
from wssis.data.coco import load_coco

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_runs_and_writes_what_it_found(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    # A process of its own: this one may have threads, which a fork does not take along.
    call = [sys.executable, "-m", "benchmarks.memory", "--tiny", "--out", str(out)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert [part["part"] for part in found["parts"]] == ["pseudo", "rough", "evaluate"]
    assert all(part["few"] > 2**26 and part["many"] > 2**26 for part in found["parts"])
    assert "| evaluate" in done.stdout


def test_growth_is_by_the_images_that_came_on_top() -> None:
    assert Growth("label", few=1000, many=10_000, images=10, times=4).an_image == 300


def test_an_image_that_is_repeated_has_ids_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    memory.make_data(3, 4)
    points = load_coco("data/splits/points.json")
    assert len({image.id for image in points.images}) == len(points.images) == 12
    assert len({image.file_name for image in points.images}) == 3
    items = [item for image in points.images for item in image.annotations]
    assert len({item.id for item in items}) == len(items) > 0
    assert all(item.rle is None and item.point for item in items)


def test_wrong_counts_and_orders_are_refused() -> None:
    for words in (["--images", "0"], ["--times", "1"], ["--parts", "merge", "label"]):
        with pytest.raises(SystemExit) as caught:
            memory.main(words)
        assert caught.value.code == 2
