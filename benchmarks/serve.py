"""Latency and throughput of a served model, with one client and with several at once.

    python -m benchmarks.serve [--model MODEL] [--clients 1 8] [--requests 200] [--out FILE]

in the project's root after `dvc repro`. Starts `wssis serve`, sends the validation images in turn, one per
request (for a labeler with a point on each object), and stops it. Each row of the table is the same number of
requests, after a warm-up. A request without a 200 counts as lost.
"""

from __future__ import annotations

import argparse
import base64
import json
import platform
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from pipelines import paths
from pipelines.config.params import load_params
from pipelines.promotion.version_predictions import input_row
from pipelines.runner.run_stage import StageContext, exit_code
from pipelines.stages.report import as_markdown
from wssis.errors import InputError
from wssis.files import write_json

READY_S = 120.0


@dataclass(frozen=True)
class Load:
    """Result of some clients at once; milliseconds are of requests that were not lost."""

    clients: int
    requests: int
    lost: int
    a_second: float
    p50_ms: float
    p95_ms: float
    longest_ms: float


def measure(url: str, bodies: Sequence[bytes], clients: int, requests: int) -> Load:
    """Send `requests` bodies in turn from `clients` threads; each client waits for the response."""

    def one(body: bytes) -> float | None:
        start = time.perf_counter()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                json.load(answer)["predictions"]
        except (OSError, ValueError, KeyError):
            return None
        return time.perf_counter() - start

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        seconds = list(threads.map(one, islice(cycle(bodies), requests)))
    total = time.perf_counter() - start
    answered = [1000 * value for value in seconds if value is not None]
    p50, p95, longest = np.percentile(answered, [50, 95, 100]).tolist() if answered else [float("nan")] * 3
    return Load(clients, requests, requests - len(answered), len(answered) / total, p50, p95, longest)


def request_bodies(with_points: bool) -> list[bytes]:
    """A request for each validation image."""
    val = StageContext("serve", load_params()).load(paths.PREPARED_VAL)
    bodies = []
    for record in val.images:
        row = input_row(record, val, with_points)
        row["image"] = base64.b64encode(Path(row["image"]).read_bytes()).decode()
        bodies.append(json.dumps({"dataframe_records": [row]}).encode())
    return bodies


@contextmanager
def served(model: str) -> Iterator[tuple[str, str]]:
    """URL and kind of a model that `wssis serve` serves on a free port until the block ends."""
    words = [sys.executable, "-m", "pipelines.cli.main", "serve", "--model", model, "--port", "0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()  # "serve: MODEL (KIND) at URL; ..."
        if " at http" not in line:
            raise InputError("expected a model to serve, found none (see above)", where=model)
        url, kind = line.split(" at ")[1].split(";")[0], line.split(" at ")[0].rsplit("(", 1)[1].rstrip(")")
        wait_until_ready(url.replace("/invocations", "/ping"))
        yield url, kind
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def wait_until_ready(url: str) -> None:
    """Return when a URL responds."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=10).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def table(loads: Sequence[Load]) -> str:
    """Loads in Markdown."""
    head = ("clients", "requests", "lost", "per second", "p50 ms", "p95 ms", "longest ms")
    formats = ("d", "d", "d", ".1f", ".0f", ".0f", ".0f")
    rows = [tuple(map(format, astuple(load), formats)) for load in loads]
    return as_markdown([head, *rows])


def run(model: str, clients: Sequence[int], requests: int, warm: int, out: str | None) -> None:
    """Measure, print a table, write or print JSON."""
    with served(model) as (url, kind):
        bodies = request_bodies(kind == "labeler")
        measure(url, bodies, 1, warm)
        loads = [measure(url, bodies, count, requests) for count in clients]
    print(table(loads))
    values = {"machine": platform.machine(), "model": model, "loads": [asdict(load) for load in loads]}
    if out:
        write_json(out, values, indent=2)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=str(paths.STUDENT), help="default models/student")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8], help="default 1 8")
    parser.add_argument("--requests", type=int, default=200, help="per row; default 200")
    parser.add_argument("--warm", type=int, default=10, help="requests of the warm-up")
    parser.add_argument("--out", help="JSON file to write")
    given = parser.parse_args(arguments)
    if min(*given.clients, given.requests, given.warm, 10**9) < 1:
        parser.error("clients, requests and warm must be at least 1")
    return exit_code(lambda: run(given.model, given.clients, given.requests, given.warm, given.out))


if __name__ == "__main__":
    sys.exit(main())
