"""Runs in MLflow: parent and child, the store's creation, and what happens when it fails."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pipelines import paths, provenance
from pipelines.config.params import load_params
from pipelines.tracking import runs as runs_of_mlflow
from pipelines.tracking import tracker as tracking
from pipelines.tracking import ui_views
from pipelines.tracking.store import open_store
from pipelines.tracking.tracker import ChildRun, NullTracker, open_tracker

ROOT = Path(__file__).parents[3]
PARAMS = load_params(ROOT / "params.yaml")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without a store, which is the current folder, without a dvc process above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "dvc_process", lambda: None)
    subprocess.run(["git", "init", "-q", "."], check=True)
    return tmp_path


@pytest.fixture
def project(empty: Path, store: Path) -> Path:
    """The same with a store."""
    shutil.copy(store, empty / "mlflow.db")
    return empty


def runs() -> list[Any]:
    client = open_store()
    return client.search_runs([e.experiment_id for e in client.search_experiments()])


def test_null_tracker_has_every_method_of_tracking() -> None:
    names = [name for name in vars(NullTracker) if not name.startswith("_") and name != "run_id"]
    assert set(names) == {name for name in vars(tracking.MlflowTracker) if not name.startswith("_")}
    null = NullTracker()
    null.params({"a": 1})
    null.metrics({"a": 1.0}, 3)
    null.headline({"a": 1.0})
    null.tags({"a": "b"})
    null.file("nowhere")
    null.picture("a", torch.zeros(3, 2, 2, dtype=torch.uint8))
    null.child(ChildRun("a", {}, [], {}, (0.0, 1.0)))
    null.close("error")
    assert null.run_id is None


def test_a_run_keeps_what_it_is_told(project: Path) -> None:
    (project / "picture.png").write_bytes(b"x")
    tracker = open_tracker("teacher", PARAMS, ("seed", "teacher"))
    for step in range(1200):
        tracker.metrics({"loss": 1.0 / (step + 1)}, step)
    tracker.file("picture.png", "pictures")
    tracker.tags({"key": 3})
    tracker.close()
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "teacher"
    assert run.data.params["teacher.train.iterations"] == str(PARAMS.teacher.train.iterations)
    assert run.data.params["seed"] == "0"
    assert "split.strong" not in run.data.params
    assert run.data.tags["key"] == "3"
    assert run.data.metrics["time/seconds"] > 0
    history = open_store().get_metric_history(run.info.run_id, "loss")
    assert [m.step for m in history] == list(range(1200))
    kept = list((project / "mlruns").rglob("picture.png"))
    assert len(kept) == 1
    assert kept[0].parent.name == "pictures"


def test_metrics_are_written_in_batches(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = open_tracker("teacher", PARAMS, ())
    calls: list[int] = []
    write = tracker._client.log_batch

    def counted(run_id: str, metrics: list[Any]) -> None:
        calls.append(len(metrics))
        write(run_id, metrics)

    monkeypatch.setattr(tracker._client, "log_batch", counted)
    for step in range(2000):
        tracker.metrics({"loss": 1.0}, step)
    tracker.close()
    assert len(calls) <= 6
    assert sum(calls) == 2000 + 2


def test_a_part_of_the_work_is_a_run_below_the_stage(project: Path) -> None:
    tracker = open_tracker("tune_refiner", PARAMS, ())
    metrics = [("worth", 0.7, 0), ("reported", 0.5, 16), ("reported", 0.6, 32)]
    tags = {"wssis.pruned": "worse"}
    tracker.child(ChildRun("trial 3", {"width": 32}, metrics, tags, (1000.0, 1002.5), "KILLED"))
    tracker.close()
    (child,) = (run for run in runs() if run.info.run_name == "trial 3")
    assert child.data.tags["mlflow.parentRunId"] == tracker.run_id
    assert child.data.tags["wssis.pruned"] == "worse"
    assert child.data.params == {"width": "32"}
    assert (child.info.start_time, child.info.end_time) == (1_000_000, 1_002_500)
    assert child.info.status == "KILLED"
    history = open_store().get_metric_history(child.info.run_id, "reported")
    assert [(m.step, m.value) for m in history] == [(16, 0.5), (32, 0.6)]


def test_a_failed_stage_is_a_failed_run(project: Path) -> None:
    open_tracker("split", PARAMS, ()).close(error="InputError: expected a, found b")
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["wssis.error"] == "InputError: expected a, found b"


def test_stages_of_one_dvc_command_share_a_parent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "dvc_process", lambda: psutil.Process())
    first = open_tracker("split", PARAMS, ("split",))
    assert first.parent_id
    client = open_store()
    assert client.get_run(first.parent_id).info.status == "RUNNING"
    first.close()
    second = open_tracker("evaluate", PARAMS, ())
    second.headline({"student_AP": 0.5})
    for step in (1, 2):
        second.picture("val 7/teacher", torch.zeros(3, 4, 5, dtype=torch.uint8), step)
    second.close()
    assert first.parent_id == second.parent_id
    parent = client.get_run(first.parent_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"student_AP": 0.5}
    assert parent.data.params["split.strong"] == str(PARAMS.split.strong)
    for child in (first, second):
        assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == first.parent_id
    assert len(runs()) == 3
    tags = client.get_experiment(parent.info.experiment_id).tags
    (chart,) = json.loads(tags[ui_views.TAG])["compareRunCharts"]
    assert (chart["imageKeys"], chart["step"]) == (["val 7/teacher"], 2)
    # MLflow's own names of pictures, by which its UI lines them up: key, step.
    kept = sorted(item.path for item in client.list_artifacts(first.parent_id, "images"))
    pictures = [name for name in kept if name.endswith(".png")]
    assert ["val 7~teacher+step+1" in pictures[0], "val 7~teacher+step+2" in pictures[1]] == [True, True]


def test_a_cell_is_told_apart_under_one_parent(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "dvc_process", lambda: psutil.Process())
    monkeypatch.setenv(runs_of_mlflow.KIND, "compare")
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    folder = project / "compare/work/0.05-3"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    values = PARAMS.model_copy(update={"seed": 3})
    tracker = open_tracker("split", values, ("seed",))
    tracker.headline({"label_hours": 2.0})
    tracker.close()
    client = open_store()
    assert not (folder / "mlflow.db").exists()
    child, parent = client.get_run(tracker.run_id), client.get_run(str(tracker.parent_id))
    assert (child.info.run_name, child.data.tags["wssis.cell"]) == ("split 0.05-3", "0.05-3")
    assert child.data.params == {"seed": "3"}
    assert parent.info.run_name.startswith("compare ")
    assert parent.data.metrics == {"0.05-3/label_hours": 2.0}
    assert parent.data.params["seed"] == str(PARAMS.seed)


def test_another_dvc_command_is_another_parent_and_dead_runs_end(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(tracking, "dvc_process", lambda: psutil.Process(sleeper.pid))
    killed = open_tracker("split", PARAMS, ())
    sleeper.kill()
    sleeper.wait()
    monkeypatch.setattr(tracking, "dvc_process", lambda: psutil.Process())
    other = open_tracker("split", PARAMS, ())
    assert other.parent_id != killed.parent_id
    client = open_store()
    assert client.get_run(killed.parent_id).info.status == "KILLED"
    assert client.get_run(other.parent_id).info.status == "RUNNING"
    assert client.get_run(killed.run_id).info.status == "RUNNING"  # this process, which is alive
    killed.close()
    other.close()


@pytest.mark.parametrize("changed", [False, True])
def test_a_killed_run_goes_on_and_so_does_its_parent_unless_params_differ(
    project: Path, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(tracking, "dvc_process", lambda: psutil.Process(sleeper.pid))
    killed = open_tracker("teacher", PARAMS, ("seed",))
    killed.metrics({"train/loss": 1.0}, 3)
    killed.close("Terminated: ", killed=True)
    client = open_store()
    assert {client.get_run(i).info.status for i in (killed.run_id, killed.parent_id)} == {"KILLED"}
    sleeper.kill()
    sleeper.wait()
    monkeypatch.setattr(tracking, "dvc_process", lambda: psutil.Process())
    evaluate = PARAMS.evaluate.model_copy(update={"pictures": 1})
    params = PARAMS.model_copy(update={"evaluate": evaluate}) if changed else PARAMS
    again = open_tracker("teacher", params, ("seed",), killed.run_id)
    assert again.run_id == killed.run_id
    assert again.last_step("train/loss") == 3
    assert again.last_step("train/none") == 0
    assert (again.parent_id == killed.parent_id) != changed
    run = client.get_run(again.run_id)
    assert run.info.status == "RUNNING"
    assert run.data.tags["mlflow.parentRunId"] == again.parent_id
    assert "wssis.error" not in run.data.tags
    assert client.get_run(str(killed.parent_id)).info.status == ("KILLED" if changed else "RUNNING")
    # The stage after it belongs to the same parent; a run that is gone is no one's to go on with.
    following = open_tracker("rough", params, (), "f" * 32)
    assert following.parent_id == again.parent_id
    again.close()
    following.close()
    assert len(runs()) == (4 if changed else 3)


def test_a_store_that_fails_later_costs_a_warning(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = open_tracker("split", PARAMS, ())

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("database is locked")

    for name in ("log_batch", "set_terminated", "set_tag"):
        monkeypatch.setattr(tracker._client, name, broken)
    tracker.tags({"a": 1})
    tracker.close()
    error = capsys.readouterr().err
    assert error.count("database is locked") == 1


def test_a_store_that_is_none_is_wrong_input(empty: Path) -> None:
    (empty / "mlflow.db").write_text("not a database, and long enough to be read as a header of one" * 20)
    with pytest.raises(Exception, match=r"mlflow\.db.*Restore it from a backup"):
        open_tracker("split", PARAMS, ())


def first_writer(barrier: Any, parent: int) -> None:
    tracking.dvc_process = lambda: psutil.Process(parent)
    barrier.wait()
    open_tracker("split", PARAMS, ()).close()


def test_several_processes_may_come_first(empty: Path) -> None:
    context = multiprocessing.get_context("fork")  # whatever is imported here need not be again
    barrier = context.Barrier(4)
    parent = psutil.Process().pid
    workers = [context.Process(target=first_writer, args=(barrier, parent)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert len(runs()) == 5  # four children of one parent
    assert not list(empty.glob("*.new"))


def test_a_half_made_store_is_not_mistaken_for_one(empty: Path) -> None:
    (empty / "mlflow.db.new").write_bytes(b"killed here")
    open_store().search_experiments()
    assert (empty / "mlflow.db").exists()
    assert not (empty / "mlflow.db.new").exists()


def test_a_queued_experiment_writes_to_the_projects_store(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = empty / ".dvc/tmp/exps/tmp123"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    open_tracker("split", PARAMS, ()).close()
    assert (empty / "mlflow.db").exists()
    assert not (workspace / "mlflow.db").exists()
    (run,) = runs()
    assert run.info.artifact_uri.startswith((empty / paths.MLRUNS).as_uri())


def test_dvc_inputs_are_hashes_of_other_stages_outs(project: Path) -> None:
    assert provenance.dvc_inputs("b") == {}
    (project / "dvc.yaml").write_text("stages:\n  b:\n    cmd: x\n    deps: [data/a.json, code.py]\n")
    (project / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  a:\n    cmd: x\n    outs:\n    - {path: data/a.json, md5: abc, size: 3}\n"
    )
    assert provenance.dvc_inputs("b") == {"data/a.json": "abc"}
    open_tracker("b", PARAMS, ()).close()
    (run,) = runs()
    assert run.data.tags["dvc/data/a.json"] == "abc"
    assert [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs] == [("a", "abc")]


def test_git_state_is_that_of_the_workspace(project: Path) -> None:
    words = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    (project / "f").write_text("1")
    subprocess.run(["git", "add", "f"], check=True)
    subprocess.run([*words, "commit", "-qm", "x"], check=True)
    commit, dirty = provenance.git_state()
    assert len(commit) == 40
    assert not dirty
    (project / "f").write_text("2")
    assert provenance.git_state() == (commit, True)


def test_dvc_is_found_above_a_stage(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pipelines.provenance import dvc_process\nprint(dvc_process().pid)\n"
    )
    (tmp_path / "dvc").write_text(
        "import subprocess, sys, os\nprint(os.getpid(), flush=True)\n"
        f"subprocess.run(['/bin/sh', '-c', sys.executable + ' {tmp_path}/child.py'], check=True)\n"
    )
    words = [sys.executable, str(tmp_path / "dvc"), "repro"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    own, found = done.stdout.split()
    assert own == found
