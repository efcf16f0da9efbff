"""The quick benchmarks one after the other, each in a process of its own: one JSON file, one table of bars.

    python -m benchmarks.suite [--device cuda] [--only NAME…] [--rounds N] [--tiny] --out FILE

`make bench` runs it. A benchmark that fails is named at the end, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipelines.runner.run_stage import exit_code
from pipelines.stages.report import as_markdown
from wssis.files import write_json

NAMES = (  # of modules here
    *("prompting", "targets", "nms", "refiner", "train_step", "inference", "loading", "evaluation"),
)
ROOT = Path(__file__).resolve().parents[1]


def bars(documents: dict[str, Any]) -> str:
    """The bars of all benchmarks in Markdown."""
    rows = [
        (
            document["benchmark"],
            bar["name"],
            f"{bar['measured']:.4g}",
            f"{'≤' if bar['most'] else '≥'} {bar['limit']:.4g}",
            "yes" if bar["met"] else "NO",
        )
        for document in documents.values()
        for bar in document["bars"]
    ]
    return as_markdown([("benchmark", "bar", "measured", "limit", "met"), *rows])


def run(given: argparse.Namespace) -> None:
    documents: dict[str, Any] = {}
    failed = []
    options = ["--device", given.device, "--rounds", str(given.rounds)] + ["--tiny"] * given.tiny
    with tempfile.TemporaryDirectory(prefix="wssis-bench-") as folder:
        for name in given.only:
            out = Path(folder) / f"{name}.json"
            command = [sys.executable, "-m", f"benchmarks.{name}", *options, "--out", str(out)]
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                failed.append(name)
                continue
            documents[name] = json.loads(out.read_text())
            write_json(given.out, documents, indent=2)  # what is done is kept if the next is stopped
    print(bars(documents))
    if failed:
        raise RuntimeError(f"failed: {', '.join(failed)}")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tiny", action="store_true", help="small networks and inputs: does it run?")
    parser.add_argument("--out", default="bench.json", help="JSON file to write")
    given = parser.parse_args(arguments)
    given.out = str(Path(given.out).resolve())
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
