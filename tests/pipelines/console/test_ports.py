"""Ports that are taken, and addresses that are not this machine's: one line each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.console.ports import listen
from wssis.errors import InputError

ROOT = Path(__file__).parents[3]


def test_an_address_that_cannot_be_had_is_told_in_one_line() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        for host, number in (("127.0.0.1", port), ("127.0.0.1", 70_000), ("192.0.2.1", 0), ("no host", 0)):
            with pytest.raises(InputError, match=f"--host {host} --port {number}"):
                listen(host, number)


@pytest.mark.parametrize("command", [("ui",), ("ui", "--read-only")])
def test_servers_on_a_taken_port_end_with_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        words = [sys.executable, "-m", "pipelines.cli.main", *command, "--port", str(port)]
        done = subprocess.run(
            words, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert f"found another program on port {port}. Name another port with --port" in line
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
