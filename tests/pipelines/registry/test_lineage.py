"""What a version carries of where it comes from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import paths
from pipelines.config.params import load_params, read_lock, read_yaml, write_yaml
from pipelines.registry import lineage
from pipelines.tracking.store import open_store
from wssis.errors import InputError

ROOT = Path(__file__).parents[3]
DVC_YAML: dict[str, Any] = {
    "stages": {
        "split": {"cmd": "x", "deps": ["data/prepared/train.json"], "outs": ["data/splits/strong.json"]},
        "tune": {"cmd": "x", "deps": ["wssis/ops/nms.py"], "outs": [{"tuned/pseudo.yaml": {"cache": False}}]},
        "pseudo": {
            "cmd": "x",
            "deps": ["data/splits/strong.json"],
            "params": ["pseudo", {"tuned/pseudo.yaml": None}],
            "outs": ["data/pseudo/labels.json"],
        },
        "evaluate": {
            "cmd": "x",
            "deps": ["data/pseudo/labels.json"],
            "metrics": [{"metrics/summary.json": {"cache": False}}],
            "plots": ["plots/predictions.png"],
        },
        "register": {"cmd": "x", "deps": ["metrics/summary.json"], "outs": ["models/registered.json"]},
        "report": {"cmd": "x", "deps": ["metrics/summary.json"], "outs": ["report"]},
    }
}


def entry(deps: list[str], outs: dict[str, str], params: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "cmd": "x",
        "deps": [{"path": path, "hash": "md5", "md5": "0"} for path in deps],
        "outs": [{"path": path, "hash": "md5", "md5": md5} for path, md5 in outs.items()],
        **({"params": params} if params else {}),
    }


LOCK: dict[str, Any] = {
    "schema": "2.0",
    "stages": {
        "split": entry([], {"data/splits/strong.json": "a1"}, {"params.yaml": {"seed": 0}}),
        "tune": entry(["wssis/ops/nms.py"], {"tuned/pseudo.yaml": "b1"}),
        "pseudo": entry(
            ["data/splits/strong.json"],
            {"data/pseudo/labels.json": "c1"},
            {"params.yaml": {"pseudo": {"rate": 1e-05}}, "tuned/pseudo.yaml": {}},
        ),
        "evaluate": entry(
            ["data/pseudo/labels.json"], {"metrics/summary.json": "d1", "plots/predictions.png": "d2"}
        ),
        "register": entry(["metrics/summary.json"], {"models/registered.json": "old"}),
        "report": entry(["metrics/summary.json"], {"report": "old.dir"}),
    },
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_yaml("dvc.yaml", DVC_YAML)
    write_yaml("dvc.lock", LOCK)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    for path in ("tuned/pseudo.yaml", "metrics/summary.json", "plots/predictions.png"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(path)
    return tmp_path


def test_upstream_follows_files_and_values_and_stops_at_the_stage(workspace: Path) -> None:
    assert lineage.upstream("register", LOCK) == ["split", "tune", "pseudo", "evaluate"]
    assert lineage.upstream("pseudo", LOCK) == ["split", "tune"]
    assert lineage.upstream("split", LOCK) == []
    assert lineage.upstream("register", {"stages": {}}) == []


def test_collect_takes_what_dvcs_cache_does_not_have(workspace: Path) -> None:
    folder = workspace / "origin"
    lineage.collect("register", folder)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"dvc.yaml", "dvc.lock", "params.yaml", "tuned/pseudo.yaml", "metrics/summary.json"}
    kept = read_yaml(folder / "dvc.lock")
    assert set(kept["stages"]) == {"split", "tune", "pseudo", "evaluate"}
    assert kept["stages"]["pseudo"] == read_yaml("dvc.lock")["stages"]["pseudo"]
    assert kept["stages"]["pseudo"]["params"]["params.yaml"]["pseudo"]["rate"] == 1e-05
    assert (folder / "params.yaml").read_bytes() == Path("params.yaml").read_bytes()
    # Without DVC there is nothing to restore from.
    Path("dvc.lock").unlink()
    lineage.collect("register", workspace / "none")
    assert not (workspace / "none").exists()


def test_facts_name_commit_and_data(workspace: Path) -> None:
    before = lineage.facts()
    assert set(before) == {"git.commit", "git.dirty", "data.digest"}
    other = json.loads(json.dumps(LOCK))
    other["stages"]["pseudo"]["outs"][0]["md5"] = "c2"
    write_yaml("dvc.lock", other)
    assert lineage.facts()["data.digest"] == before["data.digest"]
    other["stages"]["split"]["outs"][0]["md5"] = "a2"
    write_yaml("dvc.lock", other)
    assert lineage.facts()["data.digest"] != before["data.digest"]


def test_the_validation_set_is_annotations_and_pixels_wherever_they_lie(workspace: Path) -> None:
    def write(folder: str, pixel: int, label: int) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        Path(folder).mkdir()
        Image.fromarray(np.full((4, 4, 3), pixel, np.uint8)).save(f"{folder}/1.png")
        document = {
            "info": {"image_dir": folder},
            "images": [{"id": 1, "file_name": "1.png"}],
            "annotations": [{"id": 1, "category_id": label}],
        }
        Path("val.json").write_text(json.dumps(document))
        return lineage.val_digest(Path("val.json"))

    first = write("here", 1, 1)
    assert write("there", 1, 1) == first
    assert len({first, write("here", 2, 1), write("here", 1, 2)}) == 3
    Path("here/1.png").unlink()
    with pytest.raises(InputError, match=r"here/1\.png"):
        lineage.val_digest(Path("val.json"))
    Path("val.json").write_text("{}")
    with pytest.raises(InputError, match=r"val\.json"):
        lineage.val_digest(Path("val.json"))


def test_runs_are_those_with_the_inputs_and_params_of_the_lock(workspace: Path, store: Path) -> None:
    shutil.copy(store, workspace / "mlflow.db")
    client = open_store()
    experiment = client.create_experiment("e", (workspace / "mlruns/e").as_uri())
    folder = workspace / "origin"
    lineage.collect("register", folder)
    params = load_params()

    def run(stage: str, status: str = "FINISHED", seed: str = "0", **inputs: str) -> str:
        tags = {"wssis.stage": stage} | {f"dvc/{path}": md5 for path, md5 in inputs.items()}
        run_id = client.create_run(experiment, tags=tags).info.run_id
        client.log_param(run_id, "seed", seed)
        client.set_terminated(run_id, status)
        return run_id

    wanted = run("split")
    run("split", seed="1")
    run("split", status="FAILED")
    evaluated = run("evaluate", **{"data/pseudo/labels.json": "c1"})
    run("evaluate", **{"data/pseudo/labels.json": "other"})
    found = lineage.runs(client, params, folder)
    assert found == {"run/split": wanted, "run/evaluate": evaluated}
    assert lineage.runs(client, params, workspace / "nowhere") == {}


def test_uncached_outs_are_those_that_belong_into_git() -> None:
    stages = read_lock(ROOT / "dvc.yaml")["stages"]
    every = lineage.uncached(list(stages), ROOT / "dvc.yaml")
    assert {path.parts[0] for path in every} == {"metrics", "tuned"}
    assert paths.METRICS_STUDENT in lineage.uncached(["evaluate"], ROOT / "dvc.yaml")
    assert paths.PICTURE_PREDICTIONS not in lineage.uncached(["evaluate"], ROOT / "dvc.yaml")
    assert lineage.uncached(["pseudo", "audit"], ROOT / "dvc.yaml") == [paths.METRICS_PSEUDO]
