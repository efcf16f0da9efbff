"""Where MLflow's store is: a file of the project, or a server that the environment names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipelines import paths
from pipelines.cli.main import main
from pipelines.config.params import load_params
from pipelines.registry import register, versions
from pipelines.tracking import store, ui
from pipelines.tracking import tracker as tracking
from pipelines.tracking.runs import experiment_id
from pipelines.tracking.tracker import open_tracker
from tests.pipelines.serving.servers import free_port, wait_until_healthy
from wssis.errors import InputError
from wssis.settings import DecodeSettings

ROOT = Path(__file__).parents[3]
PARAMS = load_params(ROOT / "params.yaml")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a store, which is the current folder."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(tracking, "dvc_process", lambda: None)
    return tmp_path / "project"


@pytest.mark.parametrize("named", ["", "mlruns", "sqlite:///other.db", "databricks"])
def test_only_a_server_takes_the_place_of_the_projects_store(
    named: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(store.SERVER_VARIABLE, named)
    assert store.server() is None
    assert store.store_uri() == f"sqlite:///{project / paths.STORE}"
    assert not store.store_exists()
    monkeypatch.setenv(store.SERVER_VARIABLE, "https://mlflow.example/")
    assert store.server() == store.store_uri() == store.store_place() == "https://mlflow.example"
    assert store.store_exists()


def test_a_server_that_is_not_there_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv(store.SERVER_VARIABLE, address)
    monkeypatch.setenv(store.RETRIES_VARIABLE, "0")
    with pytest.raises(InputError, match="expected MLflow's store, found") as told:
        open_tracker("split", PARAMS, ())
    assert address in str(told.value)
    assert "unset MLFLOW_TRACKING_URI" in str(told.value)
    with pytest.raises(InputError, match="expected MLflow's store"):
        versions.versions(register.STUDENT)
    assert not (project / paths.STORE).exists()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A started `mlflow server` that keeps files itself, named by the environment."""
    port = str(free_port())
    words = ["--workers", "1", "--host", "127.0.0.1", "--port", port]
    kept = ["--backend-store-uri", f"sqlite:///{tmp_path / 'all.db'}", "--artifacts-destination", "all"]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *words, *kept],
        cwd=tmp_path,
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    ) as process:
        wait_until_healthy(process, url)
        monkeypatch.setenv(store.SERVER_VARIABLE, url)
        yield url
        process.send_signal(signal.SIGTERM)


@pytest.mark.slow
def test_runs_pictures_and_versions_are_kept_by_a_server(
    project: Path, server: str, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = open_tracker("split", PARAMS, ("split",))
    tracker.metrics({"loss": 0.5}, 3)
    tracker.picture("image", torch.zeros(3, 4, 4, dtype=torch.uint8))
    tracker.close()
    client = store.open_store()
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["loss"] == 0.5
    assert run.data.params["split.strong"] == str(PARAMS.split.strong)
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    assert client.list_artifacts(tracker.run_id)[0].path == "images"
    assert experiment_id(client, PARAMS.tracking.experiment) == run.info.experiment_id

    source = register.Source(tracker.run_id, {"AP": 0.5})
    assert register.register_student(models / "teacher", DecodeSettings(), source) == 1
    assert register.register_student(models / "teacher", DecodeSettings(), source) == 1
    found = versions.find(register.STUDENT, "candidate")
    assert (found.files / "weights.safetensors").read_bytes() == (
        models / "teacher" / "weights.safetensors"
    ).read_bytes()

    ui.become_ui(5000, False)
    assert f"{server}/#/experiments/{run.info.experiment_id}" in capsys.readouterr().out
    assert not list(project.glob("ml*"))  # neither a store nor files beside it


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("(sqlite3.OperationalError) database is locked\n[SQL: SELECT 1]", "run again when that has ended"),
        ("Detected out-of-date database schema (found version 1, expected 2)", "mlflow db upgrade"),
        ("Can't locate revision identified by '1'", "release of MLflow that wrote it"),
        ("Cannot set a deleted experiment 'x' as the active experiment", "mlflow experiments restore"),
        ("attempt to write a readonly database", "writable"),
        ("file is not a database", "keep it under another name"),
        ("", "keep it under another name"),
    ],
)
def test_what_keeps_the_store_from_use_has_a_remedy_that_removes_nothing(message: str, remedy: str) -> None:
    line = str(store.store_error(RuntimeError(message)))
    assert "mlflow.db: expected MLflow's store, found: " in line
    assert remedy in line
    assert "SQL" not in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "words",
    [
        ("models",),
        ("promote",),
        ("rollback",),
        ("trace", "models:/wssis-student@production"),
        ("predict", "a.png", "--model", "models:/wssis-student@production", "--out", "r.json"),
        ("ui",),
    ],
)
def test_a_damaged_store_is_one_line_in_commands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    damaged = b"not a database, and long enough to be read as a header of one" * 20
    Path("mlflow.db").write_bytes(damaged)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "mlflow.db: expected MLflow's store" in error
    assert Path("mlflow.db").read_bytes() == damaged
