"""The project's MLflow store: where it is, and how it is made once, by whoever comes first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from filelock import FileLock

from pipelines import paths

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.tracking.client import MlflowClient


def open_store() -> MlflowClient:
    """The project's store, made on first use; safe with several processes, also if one is killed."""
    from mlflow.tracking.client import MlflowClient

    root = paths.project_root()
    store = root / paths.STORE
    if not store.exists():
        with store_lock(root):
            if not store.exists():
                create_store(store, root / paths.MLRUNS)
    return MlflowClient(store_uri(), store_uri())


def store_uri() -> str:
    """The project's store as MLflow names it."""
    return f"sqlite:///{paths.project_root() / paths.STORE}"


def store_lock(root: Path) -> FileLock:
    """Held by whoever makes the store or looks for, and makes, a parent run."""
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
