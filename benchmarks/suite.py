"""All benchmarks, one after the other, each in its own process: one JSON file, one table of limits.

    python -m benchmarks.suite [--device cuda] [--only NAME…] [--rounds N] [--tiny] --out FILE

`make bench` runs it. `serve` and `exported` need a trained student and are skipped without one. Benchmarks
that fail are named at the end, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.runner.run_stage import exit_code
from pipelines.stages.report import as_markdown
from wssis.files import write_json

# Modules that compare two implementations and take --device, --rounds and --tiny.
COMPARISONS = ("prompting", "targets", "nms", "refiner", "train_step", "inference", "loading", "evaluation")
# The others with their arguments; `{folder}` is a temporary folder.
OTHERS = {
    "importing": ["--folder", "{folder}/importing"],
    "checking": ["{folder}/checking"],
    "memory": [],
    "serve": [],
    "exported": ["--model", str(paths.STUDENT), "--annotations", str(paths.PREPARED_VAL)],
}
NEED_STUDENT = ("serve", "exported")
SMALL = ["--images", "200", "--annotations", "1500"]
TINY = {"importing": SMALL, "checking": SMALL, "memory": ["--tiny"], "serve": ["--requests", "5"]}
NAMES = (*COMPARISONS, *OTHERS)
ROOT = Path(__file__).resolve().parents[1]


def bars(documents: dict[str, Any]) -> str:
    """Limits of all benchmarks as a Markdown table."""
    rows = [
        (
            document["benchmark"],
            bar["name"],
            f"{bar['measured']:.4g}",
            f"{'≤' if bar['most'] else '≥'} {bar['limit']:.4g}",
            "yes" if bar["met"] else "NO",
        )
        for document in documents.values()
        for bar in document.get("bars", [])
    ]
    return as_markdown([("benchmark", "bar", "measured", "limit", "met"), *rows])


def run(given: argparse.Namespace) -> None:
    documents: dict[str, Any] = {}
    failed = []
    common = ["--device", given.device, "--rounds", str(given.rounds)] + ["--tiny"] * given.tiny
    with tempfile.TemporaryDirectory(prefix="wssis-bench-") as folder:
        for name in given.only:
            if name in NEED_STUDENT and not (ROOT / paths.STUDENT).exists():
                print(f"{name}: skipped, {paths.STUDENT} does not exist; run `dvc repro` first")
                continue
            out = Path(folder) / f"{name}.json"
            options = [argument.format(folder=folder) for argument in OTHERS.get(name, common)]
            options += TINY.get(name, []) if given.tiny else []
            command = [sys.executable, "-m", f"benchmarks.{name}", *options, "--out", str(out)]
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                failed.append(name)
                continue
            documents[name] = json.loads(out.read_text())
            write_json(given.out, documents, indent=2)  # keeps finished results if a later one is interrupted
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
