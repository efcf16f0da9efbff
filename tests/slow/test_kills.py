"""Stages killed with SIGKILL at random moments, again and again, write what an unkilled run writes."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from pipelines import paths
from pipelines.config.params import read_yaml
from pipelines.provenance import content_digest
from pipelines.runner.resume_training import SHARE_VARIABLE

ROOT = Path(__file__).parents[2]
BEFORE = ("prepare", "split")
KILLS = {"teacher": 4, "rough": 3, "refiner": 3, "pseudo": 3, "student": 4, "strong_only": 2, "evaluate": 2}
MODULES = (  # of all stages, and what these import late
    *("pipelines.stages.evaluate", "pipelines.stages.refiner", "pipelines.stages.train"),
    *("mlflow", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.artifact.local_artifact_repo"),
    *("mlflow.system_metrics.system_metrics_monitor", "scipy.ndimage"),
)
SMALLER = {
    r"iterations: \w+": "iterations: 10",
    r"batch_size: 8": "batch_size: 4",
    r"train: 200": "train: 20",
    r"val: 150": "val: 66",  # two groups of images
    r"size: 96": "size: 64",
    r"crop: 96": "crop: 64",
    r"strong: 0.1": "strong: 0.4",
    r"use_tuned: true": "use_tuned: false",
    r"(?s)(\nstudent:.*?)workers: 0": r"\1workers: 1",  # its images are read by another process
}


def start(stage: str) -> int:
    """Fork a process that runs a stage, which has all modules already; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        from pipelines.runner.run_stage import run
        from pipelines.stages import evaluate, prepare, pseudo, refiner, rough, split, train

        output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        bodies = {
            "prepare": (prepare.prepare, ("data",)),
            "split": (split.split, ("seed", "split", "prices")),
            "rough": (rough.rough, ()),
            "refiner": (refiner.refiner, ("seed", "refiner", "tune_refiner")),
            "pseudo": (pseudo.pseudo, ("pseudo", "tune_pseudo")),
            "evaluate": (evaluate.evaluate, ("evaluate",)),
            **train.WORK,
        }
        os._exit(run(stage, *bodies[stage]))
    finally:
        os._exit(99)


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def outs(stage: str) -> dict[str, Path]:
    entry = read_yaml(ROOT / "dvc.yaml")["stages"][stage]
    listed = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
    return {str(out): Path(out) for out in (next(iter(o)) if isinstance(o, dict) else o for o in listed)}


def digests(stage: str) -> dict[str, str]:
    return {name: content_digest(path) for name, path in outs(stage).items()}


def begun(stage: str, pid: int) -> None:
    """Wait until a stage is at work."""
    while not list(Path(f".scratch/stages/{stage}").glob("*/run.json")):
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), Path("output.txt").read_text()
        time.sleep(0.01)


def killed(stage: str, pid: int, after: float) -> bool:
    """Kill a stage some seconds after it was at work; False if it was over by then."""
    begun(stage, pid)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    return exit_code(pid) == -signal.SIGKILL


@pytest.mark.slow
def test_stages_that_are_killed_at_random_end_as_if_they_never_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(__file__)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    text = (ROOT / "params.yaml").read_text()
    for old, new in SMALLER.items():
        text, count = re.subn(old, new, text)
        assert count, old
    (tmp_path / "params.yaml").write_text(text)
    # A process of its own: this one may have threads, which a fork does not take along.
    environment = os.environ | {"OMP_NUM_THREADS": "1", SHARE_VARIABLE: "inf", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{sum(KILLS.values())} kills" in done.stdout
    monkeypatch.chdir(tmp_path)
    from pipelines.tracking.store import open_store

    client = open_store()
    runs = client.search_runs([found.experiment_id for found in client.search_experiments()])
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")]
        assert steps in ([], list(range(1, 11))), run.info.run_name


def main() -> None:
    """Run all stages; then each again, killed again and again, and compare."""
    for name in MODULES:
        import_module(name)

    whole, took = {}, {}
    for stage in (*BEFORE, *KILLS):
        pid = start(stage)
        if stage in KILLS:
            begun(stage, pid)
        since = time.monotonic()
        assert exit_code(pid) == 0, Path("output.txt").read_text()
        took[stage], whole[stage] = time.monotonic() - since, digests(stage)
    chance, made = random.Random(0), 0
    for stage, times in KILLS.items():
        left = times
        while left:
            for path in outs(stage).values():  # as DVC does before a stage
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            pid = start(stage)
            if killed(stage, pid, chance.uniform(0, 1.5 * took[stage] / times)):
                left, made = left - 1, made + 1
        assert exit_code(start(stage)) == 0, Path("output.txt").read_text()
        assert digests(stage) == whole[stage], stage
        assert not list(Path(f"{paths.SCRATCH}/stages/{stage}").glob("*/"))
        print(f"{stage}: {times} kills in {took[stage]:.1f} s of work, and the same outs", flush=True)
    print(f"{made} kills, {Path('output.txt').read_text().count('goes on after')} trainings went on")


if __name__ == "__main__":
    main()
