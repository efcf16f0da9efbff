"""`wssis compare`: what it asks DVC for, and how it ends."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import paths
from pipelines.cli.main import main
from pipelines.comparison import command

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A project in which calls of DVC are noted and not made; the first item is the code they end with."""
    (tmp_path / "compare").mkdir()
    for name in (paths.PARAMS, paths.COMPARE_YAML):
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    noted: list[Any] = [0]

    def run(words: list[str], env: dict[str, str], check: bool) -> SimpleNamespace:
        noted.append((words[1:], env["WSSIS_RUN"]))
        return SimpleNamespace(returncode=noted[0])

    monkeypatch.setattr(subprocess, "run", run)
    return noted


def test_it_asks_for_the_table_and_shows_it(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    paths.COMPARE_DOC.parent.mkdir()
    paths.COMPARE_DOC.write_text("text\n\n## Mask AP\n\n| a |\n")
    assert main(["compare"]) == 0
    assert calls[1:] == [(["-m", "dvc", "repro", "compare/dvc.yaml:table"], "compare")]
    assert capsys.readouterr().out.splitlines()[-2:] == ["## Mask AP", "| a |"]


def test_dry_says_what_would_run(
    calls: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = {f"compare/dvc.yaml:train@0.1-0-{row}": [] for row in ("ours", "oracle")}
    found = {"stdout": json.dumps({**stages, "compare/dvc.yaml:table": []}), "stderr": ""}
    monkeypatch.setattr(subprocess, "run", lambda words, **_: SimpleNamespace(returncode=0, **found))
    assert main(["compare", "--dry"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "3 stages would run, and those that use what they change: 2 train, 1 table"
    found["stdout"] = "{}"
    assert main(["compare", "--dry"]) == 0
    assert "nothing is out of date" in capsys.readouterr().out
    found.update(stdout="", stderr="ERROR: you are not inside of a DVC repository\n")
    assert main(["compare", "--dry"]) == 2
    assert "not inside of a DVC repository" in capsys.readouterr().err


def test_it_ends_with_one_where_a_stage_failed(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    calls[0] = 255
    assert main(["compare"]) == 1
    assert "what is done is kept" in capsys.readouterr().err


def test_wrong_input_asks_for_nothing(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    paths.PARAMS.write_text(paths.PARAMS.read_text().replace("seeds: [0]", "seeds: [-1]"))
    assert main(["compare"]) == 2
    paths.COMPARE_YAML.unlink()
    assert main(["compare"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    assert calls == [0]
    assert command.TARGET == "compare/dvc.yaml:table"
