"""From a version back: what is printed, what is restored, and what cannot be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.config.params import write_yaml
from pipelines.registry import lineage, restore, versions
from pipelines.registry.trace import trace
from wssis.errors import InputError

EVALUATE = """
import json
from pathlib import Path
import wssis
value = json.loads(Path("data/model.json").read_text())["value"]
Path("metrics").mkdir(exist_ok=True)
Path("metrics/student.json").write_text(json.dumps({"AP": value * wssis.FACTOR}))
"""
PREPARE = """
import json
from pathlib import Path
Path("data/prepared").mkdir(parents=True, exist_ok=True)
for name in ("train", "val"):
    Path(f"data/prepared/{name}.json").write_text(json.dumps({"info": {"image_dir": "mine"}}))
seed = int(Path("params.yaml").read_text().split(":")[1])
Path("data/model.json").write_text(json.dumps({"value": seed}))
"""
STAGES = {
    "prepare": {
        "cmd": "python -m pipelines.stages.prepare",
        "params": ["seed"],
        "outs": ["data/model.json", "data/prepared/train.json", "data/prepared/val.json"],
    },
    "evaluate": {
        "cmd": "python -m pipelines.stages.evaluate",
        "deps": ["data/model.json", "pipelines/stages/evaluate.py", "wssis/__init__.py"],
        "metrics": [{"metrics/student.json": {"cache": False}}],
    },
    "register": {"cmd": "true", "deps": ["metrics/student.json"]},
}


def sh(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def networks(files: Path) -> None:
    """What a version is known by to be one of wssis."""
    (files / "artifacts/model").mkdir(parents=True)
    (files / "artifacts/model/model.json").write_text("{}")


def registered_with_origin(folder: Path, commit: str) -> None:
    """Give version 3 its files, as the stage register does."""
    files = folder / "files/3"
    for package in ("wssis", "pipelines"):
        shutil.copytree(folder / package, files / "code" / package)
    networks(files)
    lineage.collect("register", files / "artifacts/origin")
    versions.tag("wssis-student", 3, {"git.commit": commit, "git.dirty": "True"})


@pytest.fixture
def project(registered: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small project of two stages, run once with changes that are not committed, and registered."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{Path('/usr/bin')}:{Path('/bin')}")
    for path, text in {
        "wssis/__init__.py": "FACTOR = 1\n",
        "pipelines/__init__.py": "",
        "pipelines/stages/__init__.py": "",
        "pipelines/stages/prepare.py": PREPARE,
        "pipelines/stages/evaluate.py": EVALUATE,
        "params.yaml": "seed: 1\n",
        ".gitignore": "/files/\n/mine/\n/data/\nmlflow.db\nmlruns/\n",
    }.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    (registered / "mine").mkdir()
    (registered / "mine/1.png").touch()
    write_yaml("dvc.yaml", {"stages": STAGES})
    sh("git", "init", "-q", ".")
    sh("git", "config", "user.email", "x@localhost")
    sh("git", "config", "user.name", "x")
    sh(sys.executable, "-m", "dvc", "init", "-q")
    sh("git", "add", "-A")
    sh("git", "commit", "-qm", "First")
    # Changed and not committed: a value, code that is committed, and code that is not known to git.
    Path("params.yaml").write_text("seed: 21\n")
    Path("wssis/__init__.py").write_text("from wssis.new import FACTOR\n")
    Path("wssis/new.py").write_text("FACTOR = 2\n")
    sh(sys.executable, "-m", "dvc", "repro", "-q", "evaluate")
    assert json.loads(Path("metrics/student.json").read_text()) == {"AP": 42}
    registered_with_origin(registered, sh("git", "rev-parse", "HEAD").strip())
    # The project goes on.
    Path("wssis/new.py").write_text("FACTOR = 3\n")
    Path("params.yaml").write_text("seed: 5\n")
    shutil.rmtree("data")
    return registered


@pytest.mark.slow
def test_a_version_is_restored_as_it_was_and_measures_the_same(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace("models:/wssis-student@candidate", "again")
    out = capsys.readouterr().out
    assert "dvc status: as in dvc.lock" in out
    assert "metrics/student.json: the same" in out
    assert Path("again/params.yaml").read_text() == "seed: 21\n"
    assert Path("again/wssis/new.py").read_text() == "FACTOR = 2\n"
    assert Path("again/metrics/student.json").read_bytes() == Path("metrics/student.json").read_bytes()
    assert Path("again/mine/1.png").exists()
    assert not Path("data").exists()
    # Nothing is left to do there.
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "evaluate"],
        cwd="again",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "up to date" in status.stdout
    with pytest.raises(InputError, match=r"again.*new folder"):
        trace("models:/wssis-student@candidate", "again")
    # Other metrics are told, and the clone stays to be looked at.
    kept = project / "files/3/artifacts/origin/metrics/student.json"
    kept.write_text('{"AP": 41}')
    with pytest.raises(InputError, match=r'expected \{"AP": 41\}, found \{"AP": 42\}'):
        trace("models:/wssis-student@candidate", "other")
    assert Path("other/metrics/student.json").exists()


@pytest.mark.slow
def test_what_dvcs_cache_lost_is_named_and_a_remote_has_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(project / ".dvc/cache", project / "kept")
    with pytest.raises(InputError, match=r"data/model\.json"):
        trace("models:/wssis-student@candidate", "again")
    assert not Path("again").exists()
    config = project / ".dvc/config"
    config.write_text(
        f"{config.read_text()}\n[core]\n    remote = kept\n['remote \"kept\"']\n    url = {project}/kept\n"
    )
    sh("git", "commit", "-qam", "Remote")
    versions.tag("wssis-student", 3, {"git.commit": sh("git", "rev-parse", "HEAD").strip()})
    trace("models:/wssis-student@candidate", "again")
    assert "metrics/student.json: the same" in capsys.readouterr().out


def registered_from(project: Path, lock: dict, params: str) -> None:
    """Register a project without code, of which git knows nothing."""
    for package in ("wssis", "pipelines"):
        Path(package).mkdir()
    write_yaml("dvc.yaml", {"stages": STAGES})
    write_yaml("dvc.lock", {"stages": lock})
    Path("params.yaml").write_text(params)
    registered_with_origin(project, "1" * 40)


def test_a_commit_that_is_lost_is_named(registered: Path) -> None:
    registered_from(registered, {}, "seed: 1\n")
    with pytest.raises(InputError, match=r"1111.*found none"):
        trace("models:/wssis-student/3", "again")
    sh("git", "init", "-q", ".")
    with pytest.raises(InputError, match=r"1111.*found none"):
        trace("models:/wssis-student/3", "again")
    versions.tag("wssis-student", 3, {"git.commit": ""})
    with pytest.raises(InputError, match="not recorded"):
        trace("models:/wssis-student/3", "again")
    assert not Path("again").exists()


def test_a_version_without_origin_is_printed_but_not_restored(
    registered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    networks(registered / "files/1")
    trace("models:/wssis-student/1")
    out = capsys.readouterr().out
    assert "student_AP: 0.1" in out
    assert "no dvc.lock" in out
    with pytest.raises(InputError, match=r"models:/wssis-student/1.*dvc.lock"):
        trace("models:/wssis-student/1", "again")
    with pytest.raises(InputError, match="version 8"):
        trace("models:/wssis-student/8", "again")
    assert not Path("again").exists()


def test_everything_that_it_comes_from_is_printed(
    registered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = [{"path": "data/model.json", "md5": "0123abcd"}]
    deps = [{"path": "data/model.json"}]
    metrics = [{"path": "metrics/student.json", "md5": "4567"}]
    lock = {"prepare": {"cmd": "x", "outs": outs}, "evaluate": {"cmd": "x", "deps": deps, "outs": metrics}}
    registered_from(registered, lock, "seed: 1\nmodel:\n  cells: [4, 8]\n")
    versions.tag("wssis-student", 3, {"run/evaluate": "abc", "promote/event": "promoted"})
    trace("models:/wssis-student@candidate")
    out = capsys.readouterr().out
    for words in (
        "models:/wssis-student/3  candidate",
        f"git.commit: {'1' * 40}",
        "student_AP: 0.3",
        "runs\n  evaluate: abc",
        "promotion\n  event: promoted",
        "model.cells: [4, 8]",
        "data/model.json: 0123abcd",
    ):
        assert words in out


def test_a_failing_command_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        restore.run_command(["git", "no-such-command"], tmp_path)
    assert "git no-such-command" in str(caught.value)
    assert "\n" not in str(caught.value)
