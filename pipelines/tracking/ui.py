"""`wssis ui`: MLflow's pages on the project's store, as they are or without the power to change anything."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from pipelines import paths
from pipelines.console.ports import check_free
from pipelines.tracking.store import open_store, server, store_uri
from pipelines.tracking.ui_views import TAG, links
from wssis.errors import InputError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

# SQLite itself will not write to it. Relative to the current folder, whose name would have to be quoted
# twice; and of an absolute path MLflow would make folders below one named "file:".
READ_ONLY_STORE = f"sqlite:///file:{paths.STORE}?mode=ro&uri=true"
# Questions that MLflow's pages ask with POST.
QUESTIONS = re.compile(
    r"/(ajax-)?api/\d\.\d/mlflow/"
    r"([a-z/-]+/search|experiments/search-datasets|registered-models/get-latest-versions"
    r"|traces/(batchGetInfos|metrics|calculate-filter-correlation))|/graphql"
)


def become_ui(port: int, read_only: bool) -> None:
    """Replace this process by MLflow's server; it listens on 127.0.0.1 only.

    Where the store is a server (`pipelines.tracking.store`), only the addresses of its pages are printed.

    Args:
        port: to listen on.
        read_only: refuse every change, in the store and in the files of runs.

    Raises:
        InputError: there is no store to look at (without `read_only` one is made), or the port is taken.
    """
    # MLflow's own job workers triple memory and start-up and are not needed to look at runs.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    there = server()
    if there:
        print(f"ui: the runs are on the server {there}")
        show_links(there)
        return
    root = paths.project_root()
    check_free(port)  # else MLflow's server says it, after seconds and in many lines
    address = ["--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    if read_only:
        if not (root / paths.STORE).exists():
            raise InputError(
                "expected MLflow's store, found none", where=root / paths.STORE, remedy="`dvc repro` makes it"
            )
        words = [
            "uvicorn",
            *address,
            "--log-level",
            "warning",
            "--factory",
            "pipelines.tracking.ui:read_only_app",
        ]
        print(f"ui: http://127.0.0.1:{port}, read only; Ctrl-C ends it")
    else:
        words = ["mlflow", "ui", *address, "--backend-store-uri", store_uri()]
    show_links(f"http://127.0.0.1:{port}")
    os.chdir(root)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", *words])


def show_links(address: str) -> None:
    """Print where each experiment's runs and pictures are shown by MLflow's server at an address."""
    for experiment in open_store().search_experiments():
        if TAG in experiment.tags:
            for what, link in links(address, experiment.experiment_id).items():
                print(f"ui: {experiment.name}, {what}: {link}")


def read_only_app() -> ReadOnly:
    """MLflow's server on the store in the current folder, for uvicorn."""
    from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, BACKEND_STORE_URI_ENV_VAR

    # Set as `mlflow ui` sets them for its workers; read when the app is imported.
    os.environ[BACKEND_STORE_URI_ENV_VAR] = READ_ONLY_STORE
    os.environ[ARTIFACT_ROOT_ENV_VAR] = str(paths.MLRUNS)
    from mlflow.server.fastapi_app import app

    return ReadOnly(app)


class ReadOnly:
    """In front of MLflow's server: answers questions and refuses the rest.

    The store alone would not do: files can be put into runs without it, and MLflow's assistant runs commands.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and harmless(scope)):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        document: dict[str, Any] = {
            "error_code": "PERMISSION_DENIED",
            "message": "expected a question, found a change: this server is read-only",
        }
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(document).encode()})


def harmless(scope: Scope) -> bool:
    """Whether a request only asks."""
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return True
    return scope["method"] == "POST" and QUESTIONS.fullmatch(scope["path"]) is not None
