"""`wssis ui`: a server for this machine only, and one that changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.tracking import ui
from pipelines.tracking.store import open_store
from pipelines.tracking.ui_views import TAG, shared_view
from tests.pipelines.serving.servers import free_port, wait_until_healthy
from wssis.errors import InputError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def project(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a store."""
    shutil.copy(store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Words of the programs that this process would have become."""
    calls: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda path, words: calls.append(words))
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "true")
    return calls


@pytest.mark.parametrize("read_only", [True, False])
def test_only_this_machine_reaches_it(project: Path, calls: list[list[str]], read_only: bool) -> None:
    ui.become_ui(5077, read_only)
    [words] = calls
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--port") + 1] == "5077"
    assert os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert ("--backend-store-uri" in words) != read_only


def test_links_to_runs_and_pictures_are_printed(
    project: Path, calls: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    number = open_store().create_experiment("nuclei", tags={TAG: shared_view({})})
    ui.become_ui(5077, read_only=False)
    printed = capsys.readouterr().out
    assert f"ui: nuclei, runs: http://127.0.0.1:5077/#/experiments/{number}/runs?view" in printed
    assert "ui: nuclei, pictures: http://" in printed


def test_a_store_is_made_to_write_and_not_to_look(
    tmp_path: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"mlflow\.db: expected MLflow's store, found none"):
        ui.become_ui(5077, read_only=True)
    assert list(tmp_path.iterdir()) == []
    assert calls == []


def test_sqlite_itself_refuses_to_write(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking.client import MlflowClient

    open_store().create_experiment("mine", artifact_location=(project / "mlruns").as_uri())
    odd = project / "100 % mine?#"
    odd.mkdir()
    shutil.copy(project / "mlflow.db", odd)
    before = (odd / "mlflow.db").read_bytes()
    monkeypatch.chdir(odd)
    client = MlflowClient(ui.READ_ONLY_STORE, ui.READ_ONLY_STORE)
    assert {found.name for found in client.search_experiments()} == {"Default", "mine"}
    with pytest.raises(MlflowException, match="readonly"):
        client.create_experiment("other")
    with pytest.raises(MlflowException, match="readonly"):
        client.create_registered_model("other")
    assert (odd / "mlflow.db").read_bytes() == before
    assert [path.name for path in odd.iterdir()] == ["mlflow.db"]


API = "/ajax-api/2.0/mlflow"
CHANGES = [
    ("POST", f"{API}/upload-artifact?run_uuid=x&path=y"),
    ("POST", f"{API}/experiments/create"),
    ("POST", f"{API}/runs/set-tag"),
    ("POST", f"{API}/registered-models/alias"),
    ("POST", "/api/2.0/mlflow/runs/log-batch"),
    ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
    ("POST", "/ajax-api/3.0/mlflow/jobs/search/../runs/delete"),
    ("POST", "/gateway/x/mlflow/invocations"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/x"),
    ("PATCH", f"{API}/registered-models/update"),
    ("DELETE", f"{API}/registered-models/delete"),
]
QUESTIONS = [
    ("GET", "/"),
    ("GET", f"{API}/runs/get?run_id=x"),
    ("POST", f"{API}/runs/search"),
    ("POST", f"{API}/experiments/search"),
    ("POST", f"{API}/experiments/search-datasets"),
    ("POST", f"{API}/logged-models/search"),
    ("POST", f"{API}/registered-models/get-latest-versions"),
    ("POST", "/ajax-api/3.0/mlflow/traces/search"),
    ("POST", "/graphql"),
]


def asked(app: Any, method: str, path: str, kind: str = "http") -> list[dict[str, Any]]:
    """What an app sends."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app({"type": kind, "method": method, "path": path.split("?")[0]}, None, send))
    return sent


def test_questions_pass_and_changes_do_not() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "passed"})

    guarded = ui.ReadOnly(app)
    for method, path in QUESTIONS:
        assert asked(guarded, method, path) == [{"type": "passed"}], path
    for method, path in CHANGES:
        start, body = asked(guarded, method, path)
        assert start["status"] == 403, path
        assert "read-only" in json.loads(body["body"])["message"]
    assert asked(guarded, "GET", "/x", "websocket") == [{"type": "websocket.close", "code": 1008}]


@pytest.fixture
def address(project: Path) -> Iterator[str]:
    """A started `wssis ui --read-only`."""
    run = open_store().create_run("0", run_name="first")
    port = free_port()
    words = [sys.executable, "-m", "pipelines.cli.main", "ui", "--read-only", "--port", str(port)]
    with subprocess.Popen(words, cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_healthy(process, url)
        yield f"{url} {run.info.run_id}"
        process.send_signal(signal.SIGTERM)


@pytest.mark.slow
def test_a_started_server_shows_runs_and_keeps_them_as_they_are(project: Path, address: str) -> None:
    url, run_id = address.split()

    def status(method: str, path: str, document: Any = None) -> tuple[int, bytes]:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(
            url + path, body, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    before = (project / "mlflow.db").read_bytes()
    files = sorted(str(path) for path in project.rglob("*"))
    assert status("GET", "/")[0] == 200
    code, found = status("POST", f"{API}/runs/search", {"experiment_ids": ["0"]})
    assert code == 200
    assert json.loads(found)["runs"][0]["info"]["run_name"] == "first"
    for method, path in CHANGES:
        document = {"name": "x", "run_id": run_id, "key": "a", "value": "b"}
        assert status(method, path.replace("=x", f"={run_id}"), document)[0] in (403, 405), path
    assert (project / "mlflow.db").read_bytes() == before
    assert sorted(str(path) for path in project.rglob("*")) == files
