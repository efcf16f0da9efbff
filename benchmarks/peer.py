"""AP after equal training time beside torchvision's Mask R-CNN: same backbone, same few drawn images.

    python -m benchmarks.peer [--data shapes nuclei] [--budgets 50 85 200] [--converged 400] [--seeds 0]
                              [--folder .scratch/peer] [--out FILE]

Both train on the same `--strong` images with the same augmentation, optimiser and averaging, for so many
seconds of CPU time, and are measured on `val`. Ours is the default model by its preset, untouched. The peer
is tuned first: learning rate, at its scale and at twice that, anchors fitted to the objects, on training
images that are neither trained on nor reported (their masks are more than a user of it would have). A cell
(one training, one measurement) is a process and a JSON file in the folder: stopped, the command goes on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peer_cell import Cell, measured
from pipelines.runner.run_stage import exit_code
from pipelines.stages.report import as_markdown
from wssis.files import write_json

RATES = (2e-3, 4e-3, 8e-3)  # the peer's, that are tried
SCALES = (1, 2)
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Study:
    """What is asked for, and where cells lie."""

    folder: Path
    strong: int
    threads: int
    rates: tuple[float, ...] = RATES
    scales: tuple[int, ...] = SCALES

    def result(self, cell: Cell) -> dict[str, Any]:
        """A cell's figures; made, in a process of its own, if they are not there."""
        path = self.folder / f"{cell.name}.json"
        if not path.exists():
            print(f"peer: {cell.name}", file=sys.stderr, flush=True)
            words = ["--cell", json.dumps(asdict(cell)), "--out", str(path), "--folder", str(self.folder)]
            command = [sys.executable, "-m", "benchmarks.peer", *words, "--threads", str(self.threads)]
            subprocess.run(command, cwd=ROOT, check=True)
        return json.loads(path.read_text())

    def best_rate(self, data: str, scale: int, budget: float, seed: int) -> float:
        """The learning rate of the greatest AP on the images for tuning."""

        def score(rate: float) -> float:
            cell = Cell(data, "maskrcnn", budget, seed, self.strong, rate, scale, "tuning")
            return self.result(cell)["scores"]["AP"]

        return max(self.rates, key=score)

    def rows(self, data: str, budgets: Sequence[float], tuning: float, seed: int) -> list[dict[str, Any]]:
        """Figures of both models for each budget."""
        rates = {scale: self.best_rate(data, scale, tuning, seed) for scale in self.scales}
        found = []
        for budget in budgets:
            ours = Cell(data, "wssis", budget, seed, self.strong)
            peers = [
                Cell(data, "maskrcnn", budget, seed, self.strong, rate, scale)
                for scale, rate in rates.items()
            ]
            found += [asdict(cell) | self.result(cell) for cell in (ours, *peers)]
        return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    head = ("data", "CPU s", "seed", "model", "rate", "AP", "AP50", "steps", "CPU ms a step")
    lines = [
        (
            row["data"],
            f"{row['train_cpu_s']:.0f}",
            str(row["seed"]),
            "wssis" if row["model"] == "wssis" else f"Mask R-CNN ×{row['scale']}",
            "default" if row["rate"] is None else f"{row['rate']:g}",
            f"{row['scores']['AP']:.3f}",
            f"{row['scores']['AP50']:.3f}",
            str(row["iterations"]),
            f"{row['step_cpu_ms']:.0f}",
        )
        for row in rows
    ]
    return as_markdown([head, *lines])


def run(given: argparse.Namespace) -> None:
    folder = Path(given.folder).resolve()
    if given.cell:
        cell = Cell(**json.loads(given.cell))
        write_json(given.out, measured(cell, folder, given.threads), indent=2)
        return
    study = Study(folder, given.strong, given.threads, tuple(given.rates), tuple(given.scales))
    rows = []
    for data in given.data:
        for seed in given.seeds:
            rows += study.rows(data, [*given.budgets, *given.converged], given.tuning, seed)
    print(table(rows))
    if given.out:
        write_json(given.out, rows, indent=2)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer", description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", choices=("shapes", "nuclei"), default=["shapes", "nuclei"])
    parser.add_argument("--budgets", type=float, nargs="+", default=[50, 85, 200], help="CPU seconds")
    parser.add_argument("--converged", type=float, nargs="*", default=[400], help="further, long budgets")
    parser.add_argument("--tuning", type=float, default=85, help="CPU seconds of a training for tuning")
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES), help="of the peer, to try")
    parser.add_argument("--scales", type=int, nargs="+", default=list(SCALES), help="of the peer's input")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--strong", type=int, default=20, help="images to train on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", default=".scratch/peer", help="cells, kept and used again")
    parser.add_argument("--out", help="JSON file to write")
    parser.add_argument("--cell", help=argparse.SUPPRESS)  # one training, as JSON
    given = parser.parse_args(arguments)
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
