"""A signal while a stage still imports: a line and its exit code, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def handles(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def heeds_ctrl_c() -> None:
    """Whoever runs the tests in the background has them ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux' /proc")
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, "wssis: terminated\n"), (signal.SIGINT, 130, "wssis: interrupted\n")],
)
def test_a_stage_that_still_imports_leaves_with_a_line(
    number: signal.Signals, code: int, line: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "pipelines.stages.train", "teacher"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heeds_ctrl_c,
    ) as stage:
        while not handles(stage.pid, signal.SIGTERM):
            assert stage.poll() is None
            time.sleep(0.005)
        stage.send_signal(number)
        _, errors = stage.communicate()
    assert (stage.returncode, errors) == (code, line)
