"""Several processes at one training: its outs, its exit codes and lines, and what a crash costs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.config.params import load_params
from pipelines.provenance import content_digest
from pipelines.runner import torchrun
from pipelines.runner.resume_training import SHARE_VARIABLE
from pipelines.runner.run_stage import StageContext
from pipelines.runner.torchrun import REPORTS, ended, refused, report
from pipelines.stages.prepare import prepare
from pipelines.stages.split import split

ROOT = Path(__file__).parents[3]
SMALLER = {
    r"iterations: \w+": "iterations: 20",
    r"warmup: 30": "warmup: 3",
    r"train: 200": "train: 20",
    r"val: 150": "val: 2",
    r"size: 96": "size: 64",
    r"crop: 96": "crop: 64",
    r"strong: 0.1": "strong: 0.4",
    r"kind: none ": "kind: torchrun ",
    r"processes: 1 ": "processes: 2 ",
}
TEACHER = [sys.executable, "-m", "pipelines.stages.train", "teacher"]


@pytest.fixture(scope="module")
def split_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose images are split, with two processes a training."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "dvc.yaml", folder)
    text = (ROOT / "params.yaml").read_text()
    for old, new in SMALLER.items():
        text, count = re.subn(old, new, text)
        assert count, old
    (folder / "params.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for body in (prepare, split):
            body(StageContext(body.__name__, load_params()))
    return folder


@pytest.fixture
def project(split_images: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(split_images, tmp_path / "project"))


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", SHARE_VARIABLE: "inf", "PYTHONPATH": str(ROOT)}


def start(project: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        TEACHER, cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def at_step(project: Path, parent: subprocess.Popen[str], step: int) -> dict[int, psutil.Process]:
    """Wait until a step's state is saved; the processes by number."""
    state = ".scratch/stages/teacher/*/training/state.json"
    while not any(json.loads(path.read_text())["step"] >= step for path in project.glob(state)):
        assert parent.poll() is None, parent.communicate()
        time.sleep(0.05)
    found = {}
    for process in psutil.Process(parent.pid).children():
        if "RANK" in process.environ():
            found[int(process.environ()["RANK"])] = process
    return found


def outs(project: Path) -> str:
    return content_digest(project / "models") + content_digest(project / "plots")


@pytest.mark.slow
def test_two_processes_a_crash_of_each_and_a_signal_come_to_the_same_outs(project: Path) -> None:
    parent = start(project)
    _, errors = parent.communicate()
    assert (parent.returncode, errors) == (0, "")
    assert not list((project / ".scratch/stages/teacher").glob("*/"))
    whole = outs(project)
    shutil.rmtree(project / "models")
    shutil.rmtree(project / "plots")
    parent = start(project)
    for number, step in enumerate((5, 9)):
        at_step(project, parent, step)[number].kill()
    processes = at_step(project, parent, 13)
    parent.terminate()
    said, errors = parent.communicate()
    assert parent.returncode == 143
    assert re.fullmatch(r"wssis: terminated: step \d+ is saved; `dvc repro` continues from there\n", errors)
    assert said.count("continues from what is saved") == 2
    assert said.count("teacher: continues after step") == 2
    assert not any(process.is_running() for process in processes.values())
    parent = start(project)
    said, errors = parent.communicate()
    assert (parent.returncode, errors) == (0, "")
    assert "continues after step" in said
    assert outs(project) == whole


@pytest.mark.slow
def test_wrong_input_is_one_line_whichever_process_found_it(project: Path) -> None:
    for image in (project / "data/prepared/train").iterdir():
        image.write_bytes(b"no picture")
    parent = start(project)
    _, errors = parent.communicate()
    assert parent.returncode == 2
    assert errors.count("\n") == 1
    assert errors.startswith("wssis: ")
    assert ".png" in errors


def test_how_it_ended_goes_to_the_parent_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(2, "a line") == 2
    assert capsys.readouterr().err == "a line\n"
    assert not refused()
    monkeypatch.setenv(REPORTS, str(tmp_path))
    monkeypatch.setenv("RANK", "3")
    assert report(143, "another") == 143
    assert capsys.readouterr().err == ""
    (found,) = torchrun.reports(str(tmp_path))
    assert (found["text"], found["attempt"]) == ("another", 0)
    assert not refused()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("RANK", "1")
    report(2, "invalid")
    assert [one["text"] for one in torchrun.reports(str(tmp_path))] == ["invalid"]  # of the last attempt
    assert refused()


@pytest.mark.parametrize(
    ("codes", "code", "text"),
    [
        ((1, 2), 2, "of process 1"),  # the first lost its connection to the one that knows
        ((1, 1), 1, "of process 1"),  # the earlier one is the cause
        ((1, 143), 1, "of process 0"),  # the second was stopped because the first had failed
        ((143, 143), 143, "of process 1"),  # somebody stopped one of them alone
        ((), 1, "wssis: a worker exited without an error message"),
    ],
)
def test_one_code_and_one_line_for_all(
    codes: tuple[int, ...], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [
        {"code": each, "text": f"of process {number}", "time": 9 - number}
        for number, each in enumerate(codes)
    ]
    assert ended(found, dict(enumerate(codes))) == code
    assert capsys.readouterr().err == f"{text}\n"


def test_a_signal_to_the_parent_ends_all(capsys: pytest.CaptureFixture[str]) -> None:
    saved = [{"code": code, "text": f"saved {code}", "time": 0.0} for code in (1, 143)]
    assert ended(saved, {}, signal.SIGTERM) == 143
    assert ended([], {}, signal.SIGINT) == 130  # before any of them could report
    assert capsys.readouterr().err == "saved 143\nwssis: interrupted\n"


def test_a_worker_that_is_killed_every_time_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torchrun, "run_agent", lambda *given: ({1: -signal.SIGKILL}, 0))
    assert torchrun.launch(2) == 1
    assert capsys.readouterr().err == "wssis: worker 1 was ended by SIGKILL\n"


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(torchrun.InputError, match="expected at most a process for each GPU, found 2 for 1"):
        torchrun.launch(2)
