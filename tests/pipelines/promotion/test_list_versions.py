"""`wssis models`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines.promotion.list_versions import list_models, version_table
from pipelines.registry import versions
from wssis.errors import InputError


def test_every_version_has_a_line(registered: Path) -> None:
    versions.tag("wssis-student", 2, {"git.commit": "0123456789", "git.dirty": "True", "label_hours": 1.83})
    versions.set_alias("wssis-student", "production", 3)
    lines: list[str] = []
    list_models(lines.append)
    title, head, *rows = lines
    assert title == "\nwssis-student"
    assert head.split()[:5] == ["version", "aliases", "AP", "gain", "label"]
    assert [row.split()[0] for row in rows] == ["3", "2", "1"]
    assert "candidate, production" in rows[0]
    assert "0.300" in rows[0]
    assert "dddddddd" in rows[0]
    assert "01234567+" in rows[1]
    assert "1.830" in rows[1]
    assert rows[2].split()[1] == "-"


def test_no_models_is_one_line(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(store, tmp_path / "mlflow.db")
    with pytest.raises(InputError, match=r"mlflow\.db.*found none.*dvc repro"):
        list_models()


def test_columns_are_aligned() -> None:
    assert version_table([["a", "bb"], ["ccc", "d"]]) == ["a    bb", "ccc  d"]
