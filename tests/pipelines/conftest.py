"""A store to copy: making one takes a second or two."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh mlflow.db."""
    from pipelines.tracking.store import create_store

    folder = tmp_path_factory.mktemp("store")
    create_store(folder / "mlflow.db", folder / "mlruns")
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained `teacher/` (also a student) and `refiner/` of two classes."""
    import torch

    from wssis.checkpoint import save_model
    from wssis.models.refiner import Refiner, RefinerSettings
    from wssis.models.solov2 import SOLOv2, SOLOv2Settings

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    extra = {"resize": {"scale": 1.0, "short": 0, "long": 1333}, "flips": "all", "category_ids": [3, 7]}
    solov2 = SOLOv2Settings(pretrained=False, fpn_channels=16, head_channels=16, mask_channels=8)
    save_model(folder / "teacher", SOLOv2(solov2, 2), solov2, "solov2", ("cat", "dog"), extra)
    refiner = RefinerSettings(pretrained=False, width=8)
    save_model(folder / "refiner", Refiner(refiner, 2), refiner, "refiner", ("cat", "dog"))
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a.png (80 x 64) and b.png (64 x 64), and a points file beside it."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("data") / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, width in (("a", 80), ("b", 64)):
        Image.fromarray(rng.integers(0, 255, (64, width, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    points = "file,x,y,class\na.png,70.5,20,dog\na.png,10,10,cat\nb.png,30,30,dog\n"
    (folder.parent / "points.csv").write_text(points)
    return folder


@pytest.fixture(scope="session")
def store_with_versions(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An mlflow.db with versions 1, 2 and 3 of a student that have no files; version 3 is the candidate."""
    from pipelines.tracking.store import open_store

    folder = tmp_path_factory.mktemp("registered")
    shutil.copy(store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        client = open_store()
        client.create_registered_model("wssis-student")
        for number in (1, 2, 3):
            source = folder / "files" / str(number)
            source.mkdir(parents=True)
            tags = {"student_AP": str(number / 10), "val.digest": "d" * 64}
            client.create_model_version("wssis-student", source.as_uri(), tags=tags)
        client.set_registered_model_alias("wssis-student", "candidate", "3")
    return folder / "mlflow.db"


@pytest.fixture
def registered(tmp_path: Path, store_with_versions: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, which is the current folder, with a copy of `store_with_versions` and empty folders."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(store_with_versions.parent, tmp_path, dirs_exist_ok=True)
    places = (str(store_with_versions.parent), str(tmp_path))
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        for column in ("source", "storage_location"):
            database.execute(f"UPDATE model_versions SET {column} = replace({column}, ?, ?)", places)
    return tmp_path
