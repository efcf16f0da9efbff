"""MLflow's store: the project's own, created once by the first process, or a shared server."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from filelock import FileLock

from pipelines import paths
from wssis.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.tracking.client import MlflowClient

# MLflow's own; other stores than servers that it may name are not used.
SERVER_VARIABLE = "MLFLOW_TRACKING_URI"
RETRIES_VARIABLE = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# What an error of the store says, and what to do about it. No remedy removes anything.
REMEDIES = {
    "locked": "Another process is writing to it: run again when that has ended",
    "deleted": "Restore the experiment (`mlflow experiments restore`), or set another tracking.experiment",
    "readonly": "Make the file and its folder writable, or copy the project",
    "schema": "Use the release of MLflow that wrote it, or copy the file and run `mlflow db upgrade`",
    "revision": "Use the release of MLflow that wrote it",
}
KEEP = "Restore it from a backup; without one, keep it under another name: it has the registered models"


def server() -> str | None:
    """The MLflow server that the environment names, None for the project's own store."""
    uri = os.environ.get(SERVER_VARIABLE, "")
    return uri.rstrip("/") if uri.startswith(("http://", "https://")) else None


def open_store() -> MlflowClient:
    """The store, the project's made on first use; safe with several processes, also if one is killed.

    Raises:
        InputError: the environment names a server, and none answers there; or the store is damaged or
            locked, or of another release of MLflow.
    """
    there = server()
    if there:
        return _open_server(there)
    root = paths.project_root()
    store = root / paths.STORE
    if not store.exists():
        with store_lock(root):
            if not store.exists():
                create_store(store, root / paths.MLRUNS)
    return _open_file(store_uri())


@cache
def _open_file(uri: str) -> MlflowClient:
    """Asked once a process, so that what keeps a store from being read is found here."""
    from mlflow.tracking.client import MlflowClient

    try:
        client = MlflowClient(uri, uri)
        client.search_experiments(max_results=1)
    except Exception as error:
        raise store_error(error) from error
    return client


def store_error(error: Exception) -> InputError:
    """An error of MLflow or its database on one line, with a remedy."""
    text = str(error)
    lines = [line for line in text.splitlines() if line.strip()] or [type(error).__name__]
    remedy = next((remedy for word, remedy in REMEDIES.items() if word in text.lower()), KEEP)
    return InputError(f"expected MLflow's store, found: {lines[0]}", where=store_place(), remedy=remedy)


@cache
def _open_server(address: str) -> MlflowClient:
    """Asked once a process: what MLflow keeps is looked up in many small steps, each with a client."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking.client import MlflowClient

    # MLflow's 7 tries take minutes: a training would stand still at each note while its server is away.
    os.environ.setdefault(RETRIES_VARIABLE, "2")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines for each trial
    client = MlflowClient(address, address)
    try:
        client.search_experiments(max_results=1)
    except MlflowException as error:
        raise InputError(
            f"expected MLflow's store, found: {error.message.splitlines()[0]}",
            where=address,
            remedy=f"Start the server, or unset {SERVER_VARIABLE}",
        ) from error
    return client


def store_uri() -> str:
    """The store as MLflow names it."""
    return server() or f"sqlite:///{paths.project_root() / paths.STORE}"


def store_exists() -> bool:
    """Whether there is a store to look at; a server is assumed to exist."""
    return server() is not None or (paths.project_root() / paths.STORE).exists()


def store_place() -> str:
    """The store as an error names it: an address or a file."""
    return server() or str(paths.project_root() / paths.STORE)


def store_lock(root: Path) -> FileLock:
    """Held while a process on this machine creates the store or a parent run."""
    (root / paths.SCRATCH).mkdir(exist_ok=True)
    return FileLock(root / paths.SCRATCH / "mlflow.lock")


def create_store(store: Path, artifacts: Path) -> None:
    """Make the tables in a temporary file and rename it: half a store would stay broken for good."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    temporary = store.with_suffix(".db.new")
    temporary.unlink(missing_ok=True)
    SqlAlchemyStore(f"sqlite:///{temporary}", artifacts.as_uri()).engine.dispose()
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, store)
