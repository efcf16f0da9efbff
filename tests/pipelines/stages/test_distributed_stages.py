"""rough, pseudo and evaluate by several processes: the same files, also after kills and on two nodes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from pipelines import paths
from pipelines.config.params import load_params, read_yaml, write_yaml
from pipelines.provenance import content_digest
from pipelines.runner.run_stage import StageContext
from pipelines.stages.prepare import prepare
from pipelines.stages.split import split
from wssis.checkpoint import save_model
from wssis.data.synthetic import CLASSES
from wssis.models.refiner import Refiner
from wssis.models.solov2 import SOLOv2

ROOT = Path(__file__).parents[3]
STAGES = ("rough", "pseudo", "evaluate")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def write_project() -> None:
    """A project before `rough`, and networks that have learnt nothing, no two alike."""
    params = read_yaml(ROOT / paths.PARAMS)
    params["data"]["shapes"] |= {"train": 16, "val": 9, "size": 48}
    params["split"] |= {"strong": 0.5, "holdout": 0.25}
    params["pseudo"] |= {"min_confidence": 0.0}
    params["tune_pseudo"] |= {"use_tuned": False}
    params["evaluate"] |= {"pictures": 1}
    write_yaml(paths.PARAMS, params)
    shutil.copy(ROOT / paths.DVC_YAML, ".")
    Path("tuned").mkdir()  # pseudo depends on it, whatever is in force
    Path("tuned/pseudo.yaml").write_text("pseudo: {}\n")
    for stage in (prepare, split):
        stage(StageContext(stage.__name__, load_params()))
    parsed = load_params()
    small = replace(parsed.model, pretrained=False, fpn_channels=16, head_channels=16, mask_channels=8)
    extra = {
        "resize": {"scale": 1.0, "short": 0, "long": 1333},
        "flips": "none",
        "category_ids": [1, 2, 3, 4],
    }
    folders = (paths.TEACHER, paths.TEACHER_EARLY, paths.TEACHER_LATE, paths.STRONG_ONLY, paths.STUDENT)
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        save_model(folder, SOLOv2(small, 4), small, "solov2", CLASSES, extra)
    refiner = replace(parsed.refiner.model, pretrained=False, width=8, crop=32)
    save_model(paths.REFINER, Refiner(refiner, 4), refiner, "refiner", CLASSES)


def digests(stage: str) -> dict[str, str]:
    entry = read_yaml(ROOT / paths.DVC_YAML)["stages"][stage]
    listed = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
    names = [next(iter(out)) if isinstance(out, dict) else out for out in listed]
    return {name: content_digest(Path(name)) for name in names}


def call(stage: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words, "-m", f"pipelines.stages.{stage}"]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    """A project, and what one process writes there in each stage."""
    folder = tmp_path_factory.mktemp("single")
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        write_project()
        found = {}
        for stage in STAGES:
            done = call(stage)
            assert done.returncode == 0, done.stderr
            found[stage] = digests(stage)
        for stage in STAGES:
            for name in found[stage]:
                Path(name).unlink()
    return folder, found


@pytest.fixture
def single(
    made: tuple[Path, dict[str, dict[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, str]]:
    """A copy of the project, which is the current folder, with two processes for each stage."""
    folder, found = made
    shutil.copytree(folder, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    params = read_yaml(paths.PARAMS)
    params["launcher"] |= {"kind": "torchrun", "processes": 2}
    write_yaml(paths.PARAMS, params)
    return found


@pytest.mark.slow
def test_two_processes_write_what_one_writes(single: dict[str, dict[str, str]]) -> None:
    for stage in STAGES:
        done = call(stage)
        assert (done.returncode, done.stderr) == (0, "")
        assert digests(stage) == single[stage], stage


@pytest.mark.slow
def test_a_killed_worker_is_restarted_and_its_results_are_kept(single: dict[str, dict[str, str]]) -> None:
    command = [sys.executable, "-m", "pipelines.stages.pseudo"]
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    pattern = ".scratch/stages/pseudo/*/label.jsonl"
    while not any(path.stat().st_size for path in Path().glob(pattern)):
        assert parent.poll() is None, parent.communicate()
        time.sleep(0.02)
    workers = [child for child in psutil.Process(parent.pid).children() if "RANK" in child.environ()]
    workers[-1].send_signal(signal.SIGKILL)
    said, errors = parent.communicate()
    assert (parent.returncode, errors) == (0, "")
    assert "restart 1, continues from what is saved" in said
    assert digests("pseudo") == single["pseudo"]


@pytest.mark.slow
def test_two_nodes_under_torchrun_write_what_one_process_writes(single: dict[str, dict[str, str]]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--local-addr=127.0.0.1"),
        *("-m", "pipelines.stages.pseudo"),
    ]
    nodes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        for _ in range(2)
    ]
    ends = [node.communicate(timeout=120) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], ends
    assert digests("pseudo") == single["pseudo"]
