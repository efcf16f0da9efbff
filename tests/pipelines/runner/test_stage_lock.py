"""Locks: who has one, on which machine, and what stands for none."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.runner.stage_lock import held, locked, taken
from wssis.errors import InputError

HOLDER = """
import sys
from pathlib import Path
from pipelines.runner.stage_lock import locked
lock = locked(Path(sys.argv[1]))
print("has it", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_of_one_process_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "has it\n"
        assert held(path)
        assert locked(path) is None
        line = str(taken("teacher", path))
        assert f"found process {holder.pid}, which began" in line
        assert f"end it with `kill {holder.pid}`" in line
        holder.kill()
    assert not held(path)
    file = locked(path)
    assert file is not None
    file.close()


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        ('{"pid": 7, "host": "far"}', "found process 7 on far, which began just now"),
        ("[1]", "found process unknown, which began just now"),
        ("{", "found process unknown, which began just now"),
    ],
)
def test_the_owner_is_named_with_its_machine(owner: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text(owner)
    line = str(taken("pseudo", tmp_path / "lock"))
    assert words in line
    assert ("end it on far with `kill 7`" in line) is ("far" in owner)


def test_a_disk_without_locks_is_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(InputError, match="cannot be locked"):
        locked(tmp_path / "lock")


def test_the_owner_is_written_down(tmp_path: Path) -> None:
    file = locked(tmp_path / "lock")
    assert file is not None
    assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    file.close()
