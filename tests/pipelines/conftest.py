"""A store to copy: making one takes a second or two."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh mlflow.db."""
    from pipelines import tracking

    folder = tmp_path_factory.mktemp("store")
    tracking._create_store(folder / "mlflow.db", folder / "mlruns")
    return folder / "mlflow.db"
