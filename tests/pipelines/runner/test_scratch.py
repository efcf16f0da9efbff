"""What a killed stage goes on from: scratch, lock, run in MLflow; and how it leaves when asked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

from pipelines import paths
from pipelines.config.params import load_params
from pipelines.runner import scratch as resuming
from pipelines.runner.resume_training import SHARE_VARIABLE
from pipelines.runner.run_stage import StageContext, run
from pipelines.runner.scratch import open_scratch
from pipelines.tracking import tracker
from pipelines.tracking.store import open_store
from wssis.errors import InputError
from wssis.settings import TrainSettings
from wssis.training.trainer import Progress, fit

ROOT = Path(__file__).parents[3]
PARAMS = load_params(ROOT / "params.yaml")
DVC = "stages:\n  teacher:\n    cmd: x\n    deps: [data/a.json]\n  student:\n    cmd: x\n"
HOLDER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pipelines.config.params import load_params
from pipelines.runner.scratch import open_scratch
with open_scratch("teacher", load_params(sys.argv[1] + "/params.yaml"), ("seed",)) as scratch:
    print(scratch.folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two stages, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracker, "dvc_process", lambda: None)
    (tmp_path / "dvc.yaml").write_text(DVC)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.json").write_text("{}")
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    return tmp_path


@contextmanager
def another_process() -> Iterator[tuple[int, str]]:
    """One that has the teacher's scratch: its pid and its folder."""
    words = [sys.executable, "-c", HOLDER, str(ROOT)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        try:
            yield holder.pid, holder.stdout.readline().strip()
        finally:
            holder.kill()


def left_behind(stage: str = "teacher", seed: int = 0) -> Path:
    """The folder of a stage that was killed."""
    with open_scratch(stage, PARAMS.model_copy(update={"seed": seed}), ("seed",)) as scratch:
        assert scratch.folder is not None
        scratch.keep_run("a run")
        return scratch.folder


def test_only_the_same_params_and_inputs_go_on(project: Path) -> None:
    first = left_behind()
    assert first.parent == project / ".scratch/stages/teacher"
    with open_scratch("teacher", PARAMS, ("seed",)) as scratch:
        assert scratch.run_id == "a run"
    changed = left_behind(seed=1)
    assert changed != first
    assert not first.exists()
    with open_scratch("teacher", PARAMS, ("seed",)) as scratch:
        assert scratch.run_id is None
    again = left_behind()
    (project / "data/a.json").write_text("[]")
    assert left_behind() != again
    assert not again.exists()
    # Another stage has nothing to do with it, and a section that is not used neither.
    with open_scratch("student", PARAMS, ()) as scratch:
        pass
    (folder,) = [path for path in again.parent.iterdir() if path.is_dir()]
    with open_scratch("teacher", PARAMS.model_copy(update={"evaluate": None}), ("seed",)) as scratch:
        assert scratch.folder == folder
        scratch.clear()
    assert not folder.exists()


def test_cells_have_places_of_their_own_and_rows_inputs_of_their_own(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = "compare/work/${item.fraction}-${item.seed}"
    (project / "compare/work/0.1-0/data").mkdir(parents=True)
    (project / "compare/dvc.yaml").write_text(
        f"stages:\n  train:\n    cmd: x\n    deps: ['{cell}/data/${{item.row}}.json']\n"
    )
    for row in ("ours", "oracle"):
        (project / f"compare/work/0.1-0/data/{row}.json").write_text(row)
    monkeypatch.chdir(project / "compare/work/0.1-0")
    ours, oracle = left_behind("train ours"), left_behind("train oracle")
    assert ours.parent == project / ".scratch/stages/0.1-0/train-ours"
    assert ours.exists()
    assert oracle.exists()
    Path("data/ours.json").write_text("changed")
    assert left_behind("train ours") != ours
    assert left_behind("train oracle") == oracle


def test_a_second_process_of_a_stage_is_told_who_works(project: Path) -> None:
    with another_process() as (pid, _):
        with pytest.raises(InputError) as caught:
            left_behind(seed=7)  # whatever the params: the outs are the same
        line = str(caught.value)
        assert f"found process {pid}, which began {time.strftime('%Y-')}" in line
        assert f"kill {pid}" in line
        assert "outlived" not in line
        owner = project / ".scratch/stages/teacher/lock.json"
        host = {"wssis.process": f"{os.uname().nodename}:{2**22 + 1}", "wssis.process_started": "1"}
        owner.write_text(json.dumps(json.loads(owner.read_text()) | {"dvc": host}))
        with pytest.raises(InputError, match="has outlived the dvc that started it"):
            left_behind()
        left_behind("student")
    left_behind()  # killed, it has nothing any more


def test_alike_queued_experiments_run_side_by_side(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (project / ".dvc/tmp/exps" / name).mkdir(parents=True)
        shutil.copy("dvc.yaml", project / ".dvc/tmp/exps" / name)
    monkeypatch.chdir(project / ".dvc/tmp/exps/one")
    with another_process() as (_, folder):
        assert Path(folder).parent == project / ".scratch/stages/queued/teacher"
        monkeypatch.chdir(project / ".dvc/tmp/exps/two")
        with open_scratch("teacher", PARAMS, ("seed",)) as scratch:
            assert scratch.folder is None
            scratch.keep_run("b run")
            assert scratch.run_id is None
        other = left_behind(seed=1)
    here = left_behind()  # goes on in another copy of the project
    assert str(here) == folder
    assert other.exists()
    days = time.time() - 8 * 86400
    for path in (other, *other.rglob("*")):
        os.utime(path, (days, days))
    left_behind()
    assert not other.exists()


def test_a_stage_that_is_done_keeps_its_state_until_dvc_has_recorded_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC may be killed, or find its disk full, before it has the outs: then it runs the stage again."""
    monkeypatch.setattr(resuming, "dvc_process", psutil.Process)

    def end_well() -> Path:
        with open_scratch("teacher", PARAMS, ("seed",)) as scratch:
            assert scratch.folder is not None
            scratch.keep_run("a run")
            scratch.done()
            return scratch.folder

    folder = end_well()
    with open_scratch("student", PARAMS, ()):
        assert folder.exists()
    with open_scratch("teacher", PARAMS, ("seed",)) as scratch:
        assert scratch.run_id == "a run"  # it goes on, and is killed now
    (project / "dvc.lock").write_text("stages: {}")
    with open_scratch("student", PARAMS, ()):
        assert folder.exists()
    assert end_well() == folder
    (project / "dvc.lock").write_text("stages: {teacher: {}}")
    os.utime(project / "dvc.lock", (1, 1))
    with open_scratch("student", PARAMS, ()):
        assert not folder.exists()
    monkeypatch.setattr(resuming, "dvc_process", lambda: None)
    assert not end_well().exists()  # nobody records what a person runs by hand


@pytest.mark.parametrize("given", ["abc", "-1", "nan"])
def test_the_share_of_saving_is_a_number(
    given: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.runner.run_stage.open_tracker", lambda *given: tracker.NullTracker())
    monkeypatch.setenv(SHARE_VARIABLE, given)
    assert teacher() == 2
    assert f"{SHARE_VARIABLE}: expected a number from 0" in capsys.readouterr().err


def training(stage: StageContext, at: int, do: Callable[[], None]) -> None:
    """Six steps of a tiny training; `do` is called at step `at`."""
    torch.manual_seed(0)
    settings = TrainSettings(iterations=6, warmup=0)
    with stage.training(6) as (log, resume):

        def on_step(progress: Progress) -> None:
            log.on_step(progress)
            if progress.step == at:
                do()

        batches = torch.randn(6, 4, 2)[resume.step if resume else 0 :]
        fit(
            nn.Linear(2, 1),
            batches,
            lambda m, b: {"a": m(b).square().mean()},
            settings,
            on_step,
            resume=resume,
        )
    log.write(Path("curve.csv"))


def teacher(at: int = 0, do: Callable[[], None] = lambda: None) -> int:
    return run("teacher", lambda stage: training(stage, at, do), ("seed",))


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_asked_to_stop_it_saves_and_goes_on_with_its_run_and_curve(
    project: Path,
    store: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
    word: str,
) -> None:
    shutil.copy(store, "mlflow.db")
    assert teacher() == 0
    whole = Path("curve.csv").read_text()
    capsys.readouterr()
    monkeypatch.setattr(signal, "SIG_IGN", object())  # pytest, too, may have been started in the background
    before = signal.getsignal(number)
    assert teacher(3, lambda: os.kill(os.getpid(), number)) == code
    assert signal.getsignal(number) is before
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"wssis: {word}: step 3 is saved; `dvc repro` continues from there"]
    client = open_store()
    experiments = [found.experiment_id for found in client.search_experiments()]
    stopped, _ = client.search_runs(experiments)
    assert stopped.info.status == "KILLED"
    assert teacher() == 0
    assert "teacher: continues after step 3" in capsys.readouterr().out
    again, _ = client.search_runs(experiments)
    assert (again.info.run_id, again.info.status) == (stopped.info.run_id, "FINISHED")
    history = client.get_metric_history(again.info.run_id, "train/loss")
    assert [metric.step for metric in history] == [1, 2, 3, 4, 5, 6]
    assert again.data.metrics["time/saving_share"] > 0
    assert Path("curve.csv").read_text() == whole
    assert not [path for path in Path(".scratch/stages/teacher").iterdir() if path.is_dir()]


def test_steps_done_again_after_a_kill_are_noted_once(
    project: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their metrics had reached MLflow, the state had not been saved."""
    shutil.copy(store, "mlflow.db")
    monkeypatch.setenv(SHARE_VARIABLE, "0")
    monkeypatch.setattr(tracker, "BATCH", 1)

    def fail() -> None:
        raise RuntimeError("stands for kill -9")

    assert teacher(4, fail) == 1
    assert teacher() == 0
    client = open_store()
    (again,) = client.search_runs([found.experiment_id for found in client.search_experiments()])
    history = client.get_metric_history(again.info.run_id, "train/loss")
    assert [metric.step for metric in history] == [1, 2, 3, 4, 5, 6]
    assert Path("curve.csv").read_text().count("\n") == 7


def test_a_second_signal_does_not_wait_for_the_step(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.runner.run_stage.open_tracker", lambda *given: tracker.NullTracker())
    monkeypatch.setenv(SHARE_VARIABLE, "0")
    after: list[str] = []

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        after.append("here")

    assert teacher(3, twice) == 143
    assert not after
    assert not list(Path(".scratch").rglob("state.json"))


def test_a_full_gpu_says_what_to_lower(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.runner.run_stage.open_tracker", lambda *given: tracker.NullTracker())

    def fail() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has …")

    assert teacher(2, fail) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "stage teacher: the GPU's memory is full (CUDA out of memory)" in error
    assert "Lower teacher.train.batch_size or augment.crop" in error


def test_scratch_is_no_part_of_git_and_dvc() -> None:
    for name in (".gitignore", ".dvcignore"):
        assert f"{paths.SCRATCH}/" in (ROOT / name).read_text().splitlines()
