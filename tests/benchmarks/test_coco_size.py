"""The benchmark of a data set of COCO's size: it runs on a few images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import coco_size


@pytest.mark.slow
def test_it_runs_and_says_what_stages_took_and_left(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    assert coco_size.main(["--tiny", "--folder", str(tmp_path / "made"), "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [stage["program"] for stage in found["stages"]] == ["prepare", "split"]
    assert found["bytes"]["data/splits/points.json"] > found["bytes"]["data/splits/drawn.json"] > 0
