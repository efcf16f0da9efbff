"""Exit codes, and where a stage finds things."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from pipelines import paths
from pipelines.runner.run_stage import Outcome, exit_code, log, run
from pipelines.tracking.tracker import NullTracker
from wssis.errors import InputError


def raising(error: BaseException) -> int:
    def work() -> None:
        raise error

    return exit_code(work)


def test_wrong_input_is_one_line_and_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(InputError("expected a, found b", where="f.json", record="line 3", remedy="Mend it")) == 2
    assert capsys.readouterr().err == "wssis: f.json, line 3: expected a, found b. Mend it\n"


def test_a_full_disk_is_input_and_others_are_faults(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(OSError(errno.ENOSPC, "No space left on device", "out.json")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "out.json" in error
    assert "space" in error
    assert raising(OSError(errno.EROFS, "Read-only file system", "models/a")) == 2
    error = capsys.readouterr().err
    assert error.startswith("wssis: models/a: cannot be used (Read-only file system). ")
    assert error.count("\n") == 1
    assert raising(OSError(errno.EIO, "I/O error")) == 1
    assert raising(ValueError("a fault")) == 1
    assert "Traceback" in capsys.readouterr().err
    assert raising(KeyboardInterrupt()) == 130
    assert exit_code(lambda: None) == 0


@pytest.mark.parametrize("old", ["argument", "variable"])
def test_shards_of_before_get_one_line(
    old: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if old == "argument":
        monkeypatch.setattr("sys.argv", ["refiner", "--shard", "1/2"])
    else:
        monkeypatch.setenv("WSSIS_SHARDS", "/nfs")
    assert run("refiner", lambda stage: pytest.fail("it works"), ()) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "stage refiner: --shard and WSSIS_SHARDS were removed. Set `launcher:" in line


def test_what_a_stage_returns_is_logged() -> None:
    logged: list[tuple[str, Any]] = []

    class Recorder(NullTracker):
        run_id = "r"

        def metrics(self, values: Any, step: int = 0) -> None:
            logged.append((f"metrics {step}", dict(values)))

        def headline(self, values: Any) -> None:
            logged.append(("headline", dict(values)))

        def picture(self, key: str, picture: Any, step: int = 0) -> None:
            logged.append((key, step))

    outcome = Outcome({"a": 1}, {7: {"b": 2}}, {"AP": 0.5}, pictures=(one for one in [("p", None, 3)]))
    log(Recorder(), outcome)
    assert logged == [("metrics 0", {"a": 1}), ("metrics 7", {"b": 2}), ("headline", {"AP": 0.5}), ("p", 3)]
    unused = iter([("p", None, 3)])
    log(NullTracker(), Outcome(pictures=unused))
    assert next(unused)  # nothing draws pictures that nobody keeps


def test_a_queued_experiment_knows_its_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = tmp_path / ".dvc/tmp/exps/tmpabc"
    workspace.mkdir(parents=True)
    assert paths.project_root(workspace) == tmp_path
    assert paths.project_root(workspace / "sub") == tmp_path
    assert paths.project_root(tmp_path) == tmp_path
    assert paths.in_queued_experiment(workspace)
    assert not paths.in_queued_experiment(tmp_path)
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(workspace)
    assert paths.source("data") == tmp_path / "data"
    (workspace / "data").mkdir()
    assert paths.source("data") == Path("data")
    assert paths.source("/abs") == Path("/abs")
