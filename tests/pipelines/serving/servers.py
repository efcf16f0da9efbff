"""Servers that a test starts: a port for one, and waiting until it answers."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.request

START_S = 90


def free_port() -> int:
    """A port of this machine at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_healthy(process: subprocess.Popen[bytes], url: str) -> None:
    """Return when MLflow's server at `url` answers, has ended, or has had its time."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
