"""Servers that a test starts, and images to send to them."""

from __future__ import annotations

import base64
import io
import socket
import subprocess
import time
import urllib.request

import numpy as np
from PIL import Image

START_S = 90


def free_port() -> int:
    """A free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_healthy(process: subprocess.Popen[bytes], url: str) -> None:
    """Return when MLflow's server at `url` answers, has ended, or has timed out."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)


def image_file(
    seed: int = 0, size: tuple[int, int] = (40, 32), form: str = "PNG", mode: str = "RGB"
) -> bytes:
    """An image file of noise, `size` wide and high."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


def base64_text(data: bytes) -> str:
    """Bytes in base64."""
    return base64.b64encode(data).decode()
