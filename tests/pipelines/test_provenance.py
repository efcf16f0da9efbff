"""Digests of what a stage's results hang on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.code_digests import stage_digest
from pipelines.provenance import content_digest, dep_digests
from wssis.errors import InputError


def test_a_folder_is_its_files_and_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    (folder / "deep").mkdir(parents=True)
    (folder / "a").write_text("1")
    (folder / "deep/b").write_text("2")
    first = content_digest(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/a.pyc").write_text("x")
    assert content_digest(folder) == first
    (folder / "deep/b").rename(folder / "deep/c")
    assert content_digest(folder) != first
    (folder / "deep/c").rename(folder / "deep/b")
    assert content_digest(folder) == first
    (folder / "a").write_text("3")
    assert content_digest(folder) != first


def test_deps_are_those_of_dvc_yaml_data_here_and_code_as_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"dvc\.yaml"):
        dep_digests("b")
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  b:\n    cmd: x\n    deps: [data/a.json]\n    params: [seed, {code.json: [split]}]\n"
    )
    with pytest.raises(InputError, match=r"data/a\.json.*dvc repro b"):
        dep_digests("b")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.json").write_text("{}")
    found = dep_digests("b")
    # The code that runs, whatever an older code.json says.
    assert set(found) == {"data/a.json", "code.json:split"}
    assert found["code.json:split"] == stage_digest("split")
    (tmp_path / "data/a.json").write_text("[]")
    assert dep_digests("b")["data/a.json"] != found["data/a.json"]
