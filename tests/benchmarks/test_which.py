"""The replay of `wssis budget --which`: what it trains on and what it judges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import which
from pipelines import paths
from wssis.data.coco import save_coco
from wssis.data.synthetic import generate

ROOT = Path(__file__).parents[2]


def test_judged_images_are_neither_drawn_nor_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    data, _ = generate("scenes", n_train=14, n_val=1, size=48)
    weak = replace(data, images=data.images[2:])
    for path, part in (
        (paths.STRONG, replace(data, images=data.images[:1])),
        (paths.HOLDOUT, replace(data, images=data.images[1:2])),
        (paths.LABELS, weak),
        (paths.WEAK_TRUTH, weak),
    ):
        save_coco(part, path)
    calls: list[tuple[int, set[int], set[int]]] = []

    def ap_of(params: Any, steps: Any, drawn: Any, guessed: Any, judged: Any) -> float:
        learned = {image.id for part in (*drawn, *guessed) for image in part.images}
        calls.append((sum(len(part.images) for part in drawn), learned, set(judged.by_id)))
        return 0.5

    monkeypatch.setattr(which, "ap_of", ap_of)
    assert which.main(["--images", "3"]) == 0
    out = capsys.readouterr().out
    assert "| --which | " in out
    assert "| random | " in out
    assert [drawn for drawn, _, _ in calls] == [5, 5, 5, 5]
    assert [len(learned) for _, learned, _ in calls] == [5, 11, 5, 11]
    assert all(len(judged) == 3 and not judged & learned for _, learned, judged in calls)
