"""Two implementations side by side: interleaved calls, medians with spread, ratios, bars; JSON and a table.

On a CPU the time that counts is CPU time, all threads together: it hangs less on what else runs. On a GPU
it is the time between device events. A ratio is the median over the rounds of one call's time by that of the
first implementation in the same round, so that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from benchmarks.timing import Call, Spread, Times, machine, peak_memory, timed
from pipelines.runner.run_stage import exit_code
from pipelines.stages.report import as_markdown
from wssis.errors import InputError
from wssis.files import write_json


@dataclass(frozen=True)
class Row:
    """One implementation in one case.

    Attributes:
        wall, cpu: milliseconds a call; cpu of all threads of this process.
        device: milliseconds a call between CUDA events; None on a CPU.
        ratio: its time by that of the case's first implementation: device time, or CPU time on a CPU.
        peak_mib: memory that a call needed beyond what was held before; None where it cannot be told.
        rate: `work` units a second of wall time, where the case counts any (images).
    """

    case: str
    implementation: str
    rounds: int
    wall: Spread
    cpu: Spread
    device: Spread | None
    ratio: Spread
    peak_mib: float | None
    rate: float | None

    @property
    def time(self) -> Spread:
        """What counts: device time, or CPU time on a CPU."""
        return self.device or self.cpu


@dataclass(frozen=True)
class Bar:
    """A limit that issue 5 names, and what was measured."""

    name: str
    limit: float
    measured: float
    most: bool = True  # the limit is the most that it may be; False: the least

    @property
    def met(self) -> bool:
        """Whether the measurement keeps to it."""
        return self.measured <= self.limit if self.most else self.measured >= self.limit


@dataclass
class Bench:
    """One benchmark: how it was called, and what it found.

    Attributes:
        name: of the module.
        device: "cpu" or "cuda".
        rounds, warm: calls that count, and calls before that do not.
        tiny: small networks and inputs, to see that it runs.
        notes: what else is worth knowing, such as how far results agree.
    """

    name: str
    device: str = "cpu"
    rounds: int = 9
    warm: int = 1
    tiny: bool = False
    rows: list[Row] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def compare(
        self,
        case: str,
        calls: Mapping[str, Call],
        rounds: int | None = None,
        others: int | None = None,
        work: float | None = None,
    ) -> list[Row]:
        """Measure the calls in turn, round by round; the first is what the others are held against.

        Args:
            case: what is done.
            calls: implementations by name.
            rounds: fewer than usual, for what is slow. others: the same for all but the first.
            work: units (images) that a call gets through.
        """
        found: dict[str, list[Times]] = {name: [] for name in calls}
        rounds = min(self.rounds, rounds or self.rounds)
        last = self.warm - 1 + min(rounds, others or rounds)
        peaks = {}
        for name, call in calls.items():  # the first of the calls that warm up
            peaks[name] = peak_memory(call, self.device)
        for number in range(self.warm - 1 + rounds):
            for place, (name, call) in enumerate(calls.items()):
                if place and number >= last:
                    continue
                times = timed(call, self.device)
                if number >= self.warm - 1:
                    found[name].append(times)
        first = next(iter(found.values()))
        rows = [self._row(case, name, times, first, peaks[name], work) for name, times in found.items()]
        self.rows += rows
        return rows

    @staticmethod
    def _row(
        case: str,
        name: str,
        times: list[Times],
        first: list[Times],
        peak: float | None,
        work: float | None,
    ) -> Row:
        device = [t.device for t in times if t.device is not None]
        ratios = [t.counted / max(f.counted, 1e-6) for t, f in zip(times, first, strict=False)]
        wall = Spread.of([t.wall for t in times])
        return Row(
            case=case,
            implementation=name,
            rounds=len(times),
            wall=wall,
            cpu=Spread.of([t.cpu for t in times]),
            device=Spread.of(device) if device else None,
            ratio=Spread.of(ratios),
            peak_mib=peak,
            rate=None if work is None else 1000 * work / max(wall.median, 1e-6),
        )

    def bar(self, name: str, limit: float, measured: float, most: bool = True) -> None:
        """Note a limit; only the CPU's are bars, and not those of tiny inputs."""
        if self.device == "cpu" and not self.tiny:
            self.bars.append(Bar(name, limit, measured, most))

    def table(self) -> str:
        """Markdown."""
        head = ("case", "implementation", "ms", "wall ms", "ratio", "peak MiB", "a second")
        lines = [
            (
                row.case,
                row.implementation,
                str(row.time),
                str(row.wall),
                str(row.ratio),
                "–" if row.peak_mib is None else f"{row.peak_mib:.0f}",
                "–" if row.rate is None else f"{row.rate:.1f}",
            )
            for row in self.rows
        ]
        text = as_markdown([head, *lines])
        if self.bars:
            bars = [
                (b.name, f"{b.measured:.4g}", f"{'≤' if b.most else '≥'} {b.limit:.4g}", _yes(b.met))
                for b in self.bars
            ]
            text += "\n\n" + as_markdown([("bar", "measured", "limit", "met"), *bars])
        return text

    def document(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "benchmark": self.name,
            "machine": machine(self.device),
            "tiny": self.tiny,
            "rows": [asdict(row) for row in self.rows],
            "bars": [asdict(bar) | {"met": bar.met} for bar in self.bars],
            "notes": self.notes,
        }


def _yes(value: bool) -> str:
    return "yes" if value else "NO"


def parser_of(name: str, doc: str) -> argparse.ArgumentParser:
    """Options that every benchmark has."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=doc.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; torch's choice if not given")
    parser.add_argument("--rounds", type=int, default=9, help="calls that count")
    parser.add_argument("--warm", type=int, default=1, help="calls before, that do not count")
    parser.add_argument("--tiny", action="store_true", help="small networks and inputs: does it run?")
    parser.add_argument("--out", help="JSON file to write; printed if not given")
    return parser


def main_of(
    name: str,
    doc: str,
    body: Callable[[Bench, argparse.Namespace], None],
    arguments: list[str] | None,
    extend: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> int:
    """Command line of a benchmark: measure, print the table, write or print JSON; returns the exit code.

    Args:
        body: measures into the Bench that it is given.
        extend: adds options of its own.
    """
    parser = parser_of(name, doc)
    extend(parser)
    given = parser.parse_args(arguments)
    if given.threads < 0 or given.rounds < 1 or given.warm < 1:
        parser.error("threads must be 0 or more, rounds and warm at least 1")
    return exit_code(lambda: _run(name, body, given))


def _run(name: str, body: Callable[[Bench, argparse.Namespace], None], given: argparse.Namespace) -> None:
    if given.device == "cuda" and not torch.cuda.is_available():
        raise InputError("no GPU is at hand", where="--device cuda", remedy="Leave it away to use the CPU")
    torch.backends.cudnn.allow_tf32 = False  # convolutions as exact as the products they are held against
    before = torch.get_num_threads()
    if given.threads:
        torch.set_num_threads(given.threads)
    bench = Bench(name, given.device, given.rounds, given.warm, given.tiny)
    try:
        body(bench, given)
        document = bench.document()
    finally:
        torch.set_num_threads(before)
    print(f"{name}\n\n{bench.table()}\n", flush=True)
    if bench.notes:
        print("\n".join(f"{key}: {value}" for key, value in bench.notes.items()) + "\n")
    if given.out:
        write_json(given.out, document, indent=2)
    else:
        print(json.dumps(document, indent=2))
