"""`--shard i/n`: words, what a shard does and leaves; the stage then writes what one process alone would."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines import paths
from pipelines.config.params import load_params, read_yaml, write_yaml
from pipelines.inference import label_dataset
from pipelines.provenance import content_digest
from pipelines.runner.result_journal import Journal
from pipelines.runner.run_stage import StageContext, run
from pipelines.runner.scratch import SHARDS_VARIABLE
from pipelines.runner.shards import Shard, asked, run_shards
from pipelines.stages.evaluate import evaluate
from pipelines.stages.prepare import prepare
from pipelines.stages.pseudo import pseudo
from pipelines.stages.rough import rough
from pipelines.stages.split import split
from pipelines.tracking import tracker
from wssis.checkpoint import save_model
from wssis.data.synthetic import CLASSES
from wssis.errors import InputError
from wssis.models.refiner import Refiner
from wssis.models.solov2 import SOLOv2

ROOT = Path(__file__).parents[3]
WORK = {
    "rough": (rough, ()),
    "pseudo": (pseudo, ("pseudo", "tune_pseudo")),
    "evaluate": (evaluate, ("evaluate",)),
}
# Images, or groups of images, in each journal in turn; evaluate has teacher, strong_only and its held-out
# images, student and its held-out images.
PIECES = {"rough": [6, 6], "pseudo": [8], "evaluate": [5, 5, 1, 5, 1]}
HOLDER = """
import sys
from pathlib import Path
from pipelines.runner.scratch import shard_scratch
from pipelines.runner.scratch import SHARDS_VARIABLE
from pipelines.runner.shards import Shard
with shard_scratch("pseudo", Path(sys.argv[1]), Shard(1, 2)):
    print("has it", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path) -> Iterator[int]:
    """One that is at work on the first shard of two: its pid."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "has it\n"
        yield holder.pid
        holder.stdin.close()


def test_the_shard_of_a_command_line() -> None:
    assert asked([]) is None
    assert asked(["--shard", "2/4"]) == asked(["--shard=2/4"]) == Shard(2, 4)


@pytest.mark.parametrize("words", [["--shard", "0/4"], ["--shard", "5/4"], ["--shard", "x"], ["all"]])
def test_wrong_words_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"expected nothing or --shard I/N with I from 1 to N, found"):
        asked(words)
    assert run("pseudo", pseudo, (), arguments=words) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_shards_do_each_their_own_and_a_journal_takes_them_all(tmp_path: Path) -> None:
    paths = [tmp_path / f"label.{number}-of-2.jsonl" for number in (1, 2)]
    for number, path in enumerate(paths):
        shard = Journal(path, share=(number, 2))
        for place, key in enumerate((10, 11, 12, 13, 14)):
            if shard.is_left(key, place):
                shard.add(key, [key, number])
    paths[1].write_bytes(paths[1].read_bytes()[:-4])  # killed while it wrote the last of its two
    whole = Journal(tmp_path / "label.jsonl", paths)
    assert whole.taken == 4
    assert dict(whole.done) == {10: [10, 0], 12: [12, 0], 14: [14, 0], 11: [11, 1]}
    assert [key for place, key in enumerate((10, 11, 12, 13, 14)) if whole.is_left(key, place)] == [13]


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


def outs(stage: str) -> dict[str, Path]:
    entry = read_yaml(ROOT / paths.DVC_YAML)["stages"][stage]
    listed = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
    return {str(out): Path(out) for out in (next(iter(o)) if isinstance(o, dict) else o for o in listed)}


def digests(stage: str) -> dict[str, str]:
    return {name: content_digest(path) for name, path in outs(stage).items()}


def remove_outs(stage: str) -> None:
    for path in outs(stage).values():
        path.unlink(missing_ok=True)


def call(stage: str, shard: str = "") -> int:
    body, sections = WORK[stage]
    return run(stage, body, sections, arguments=["--shard", shard] if shard else [])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, dict[str, str]]]]:
    """A project, and what one process alone writes there in each stage, with one thread as shards have it."""
    folder = tmp_path_factory.mktemp("sharded")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        context.setattr("pipelines.runner.run_stage.open_tracker", lambda *given: tracker.NullTracker())
        context.setattr(label_dataset, "IMAGES", 2)
        write_project()
        whole = {}
        for stage in WORK:
            assert call(stage) == 0
            whole[stage] = digests(stage)
            remove_outs(stage)
    shutil.rmtree(folder / paths.SCRATCH)
    yield folder, whole
    torch.set_num_threads(threads)


@pytest.fixture
def whole(
    made: tuple[Path, dict[str, dict[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, str]]:
    """A copy of the project is the current folder: another machine, whose files have other times."""
    folder, found = made
    shutil.copytree(folder, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr("pipelines.runner.run_stage.open_tracker", lambda *given: tracker.NullTracker())
    monkeypatch.setattr(label_dataset, "IMAGES", 2)
    return found


def left_files(stage: str) -> list[Path]:
    return sorted((paths.SCRATCH / "shards" / stage).glob("*/*.jsonl"))


def taken(output: str) -> list[int]:
    return [int(line.split()[-3]) for line in output.splitlines() if "takes over" in line]


@pytest.mark.parametrize("stage", WORK)
def test_all_shards_and_the_stage_write_what_one_process_writes(
    stage: str, whole: dict[str, dict[str, str]], capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    def refuse(*given: Any) -> None:
        raise AssertionError("a shard opens no run")

    with monkeypatch.context() as context:
        context.setattr("pipelines.runner.run_stage.open_tracker", refuse)
        assert [call(stage, f"{number}/3") for number in (1, 2, 3)] == [0, 0, 0]
    assert not [path for path in outs(stage).values() if path.exists()]
    lines: dict[str, list[int]] = {}
    for path in left_files(stage):
        lines.setdefault(path.name.split(".")[0], []).append(path.read_text().count("\n"))
    assert sorted(map(sum, lines.values())) == sorted(PIECES[stage])
    assert all(len(shares) == 3 and max(shares) - min(shares) <= 1 for shares in lines.values())
    for images in (paths.PREPARED_TRAIN_IMAGES, paths.PREPARED_VAL_IMAGES):
        for path in images.iterdir():
            os.utime(path, (1, 1))  # as another machine has them
    capsys.readouterr()
    with monkeypatch.context() as context:
        context.setattr(Journal, "add", refuse)  # nothing is left to do
        assert call(stage) == 0, capsys.readouterr().err
    assert taken(capsys.readouterr().out) == PIECES[stage]
    assert digests(stage) == whole[stage]
    assert not left_files(stage)


@pytest.mark.parametrize("stage", WORK)
def test_a_mixture_with_a_torn_line_and_a_shard_missing_is_made_up_for(
    stage: str, whole: dict[str, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert [call(stage, shard) for shard in ("1/3", "2/2")] == [0, 0]
    torn = left_files(stage)[0]
    torn.write_bytes(torn.read_bytes()[:-3])
    capsys.readouterr()
    assert call(stage) == 0
    found = taken(capsys.readouterr().out)
    wholes = [count for count in PIECES[stage] if count > 1]  # of which two shards have a part
    assert all(0 < count < max(wholes) or count == 1 for count in found)
    assert len(found) >= len(wholes)
    assert digests(stage) == whole[stage]


def test_a_killed_shard_goes_on_from_its_journal(
    whole: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("pseudo", "2/2") == 0
    (file,) = left_files("pseudo")
    complete = file.read_bytes()
    file.write_bytes(complete[:-3])
    added: list[int] = []
    add = Journal.add
    monkeypatch.setattr(Journal, "add", lambda self, key, value: (added.append(key), add(self, key, value)))
    assert call("pseudo", "2/2") == 0
    assert len(added) == 1
    assert file.read_bytes() == complete


def test_shards_meet_in_the_folder_that_the_environment_names(
    whole: dict[str, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of two copies of the project, which need share nothing else."""
    monkeypatch.setenv(SHARDS_VARIABLE, str(tmp_path / "nfs"))
    shutil.copytree(".", tmp_path / "other")
    monkeypatch.chdir(tmp_path / "other")
    assert call("rough", "1/2") == 0
    monkeypatch.chdir(tmp_path / "project")
    assert call("rough", "2/2") == 0
    assert not left_files("rough")
    capsys.readouterr()
    assert call("rough") == 0
    assert taken(capsys.readouterr().out) == PIECES["rough"]
    assert digests("rough") == whole["rough"]
    assert not list((tmp_path / "nfs").rglob("*.jsonl"))


def test_shards_of_other_params_are_not_taken_over(
    whole: dict[str, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    params = read_yaml(paths.PARAMS)
    params["pseudo"]["min_confidence"] = 0.5
    kept = paths.PARAMS.read_text()
    write_yaml(paths.PARAMS, params)
    assert call("pseudo", "1/2") == 0
    paths.PARAMS.write_text(kept)
    capsys.readouterr()
    assert call("pseudo") == 0
    assert not taken(capsys.readouterr().out)
    assert digests("pseudo") == whole["pseudo"]


def test_a_second_process_on_a_shard_is_told_who_works(
    whole: dict[str, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("pseudo", "1/2") == 0
    folder = left_files("pseudo")[0].parent
    with another_process(folder) as pid:
        capsys.readouterr()
        assert call("pseudo", "1/2") == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"found process {pid}" in error
        assert call("pseudo", "2/2") == 0
    assert call("pseudo", "1/2") == 0


def test_a_shard_outside_of_a_project_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without dvc.yaml nothing says what its results hang on: it must not do all the work and write outs."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / paths.PARAMS, ".")
    worked: list[str] = []
    assert run("pseudo", lambda stage: worked.append(stage.name), (), arguments=["--shard", "1/2"]) == 2
    assert not worked
    assert capsys.readouterr().err.count("\n") == 1


def test_a_shard_that_is_killed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = "import os, sys; os.kill(os.getpid(), 9 * (sys.argv[-1] == '2/2'))"
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", script])
    assert run_shards(2) == 1
    assert "shard 2/2 was ended by SIGKILL" in capfd.readouterr().err


def test_shards_have_the_gpus_that_the_user_leaves_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    # One write a line: both have the same pipe, and an unbuffered print makes two.
    script = "import os; os.write(1, (os.environ['CUDA_VISIBLE_DEVICES'] + chr(10)).encode())"
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", script])
    for visible, shown in ((None, {"0", "1"}), ("2,MIG-a", {"2", "MIG-a"})):
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert run_shards(2) == 0
        assert set(capfd.readouterr().out.split()) == shown


def test_a_shard_at_work_keeps_its_files(whole: dict[str, dict[str, str]]) -> None:
    """A stage that another machine has run meanwhile does not take them away from under it."""
    assert call("pseudo", "1/2") == 0
    (file,) = left_files("pseudo")
    with another_process(file.parent):
        assert call("pseudo") == 0
        assert file.exists()


def test_a_stage_that_is_asked_to_stop_ends_its_shards(tmp_path: Path) -> None:
    shutil.copy(ROOT / paths.PARAMS, tmp_path)
    # One write a line: both have the same pipe, and an unbuffered print makes two.
    sleeper = "import os, time; os.write(1, b'%d\\n' % os.getpid()); time.sleep(60)"
    script = (
        "import sys; from pipelines.runner.shards import run_shards; "
        "from pipelines.runner.run_stage import exit_code; "
        f"sys.orig_argv = [sys.executable, '-c', {sleeper!r}]; sys.exit(exit_code(lambda: run_shards(2)))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as parent:
        assert parent.stdout is not None
        children = [int(parent.stdout.readline()) for _ in range(2)]
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(20) == 143
    assert not any(Path(f"/proc/{child}").exists() for child in children)


@pytest.mark.slow
def test_as_many_processes_as_params_say_write_what_one_writes(whole: dict[str, dict[str, str]]) -> None:
    params = read_yaml(paths.PARAMS)
    params["launcher"] |= {"kind": "torchrun", "processes": 2}
    write_yaml(paths.PARAMS, params)
    for stage in ("rough", "pseudo"):
        done = subprocess.run(
            [sys.executable, "-m", f"pipelines.stages.{stage}"],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "shard 2-of-2 is done" in done.stdout
        assert taken(done.stdout) == PIECES[stage]
        assert digests(stage) == whole[stage]
        assert not left_files(stage)
