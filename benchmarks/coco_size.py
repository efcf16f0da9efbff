"""What stages prepare and split take, and leave on disk, on a data set of COCO's size.

    python -m benchmarks.coco_size [--folder DIR] [--out FILE]

makes files as benchmarks.importing does (118,287 and 5,000 images), a project of preset `coco-10p` on them,
and runs each stage in a process of its own. Memory as in benchmarks.importing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from benchmarks.importing import ROOT, make, measure
from benchmarks.timing import MIB, machine
from pipelines import paths
from pipelines.config.params import read_yaml, write_yaml
from pipelines.runner.run_stage import exit_code
from pipelines.stages.report import as_markdown
from wssis.files import write_json

SETS = {"train": (118_287, 860_001), "val": (5_000, 36_781)}  # images, annotations of COCO 2017
TINY = {"train": (60, 400), "val": (10, 60)}
STAGES = ("prepare", "split")


def project(folder: Path, sets: dict[str, tuple[int, int]]) -> None:
    """Data sets and params in a folder."""
    params = read_yaml(ROOT / "presets" / "coco-10p.yaml")
    for name, (images, objects) in sets.items():
        made = folder / f"{name}-{images}"
        if not (made / "instances.json").exists():
            make(made, images, objects)
        params["data"][name] = {
            "annotations": str(made / "instances.json"),
            "images": str(made / "pictures"),
            "sha256": None,
        }
    write_yaml(folder / paths.PARAMS, params)


def run(given: argparse.Namespace) -> None:
    """Make, measure, print tables, write JSON."""
    with (
        nullcontext(given.folder) if given.folder else tempfile.TemporaryDirectory(prefix="wssis-coco-")
    ) as root:
        folder = Path(root).resolve()
        folder.mkdir(exist_ok=True)
        project(folder, TINY if given.tiny else SETS)
        costs = [
            measure(stage, [sys.executable, "-m", f"pipelines.stages.{stage}"], folder) for stage in STAGES
        ]
        files = (*sorted((folder / "data").rglob("*.json")), folder / paths.STORE)
        sizes = {str(path.relative_to(folder)): path.stat().st_size for path in files}
    rows = [(cost.program, f"{cost.seconds:.1f}", f"{cost.rss:.2f}") for cost in costs]
    print(as_markdown([("stage", "seconds", "RSS GiB"), *rows]))
    print()
    print(as_markdown([("file", "MiB"), *((name, f"{size / MIB:.1f}") for name, size in sizes.items())]))
    if given.out:
        found = {"machine": machine("cpu"), "stages": [asdict(cost) for cost in costs], "bytes": sizes}
        write_json(given.out, found, indent=2)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    prog, about = "python -m benchmarks.coco_size", __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.add_argument("--folder", help="keep what is made here, and use it again; default: a temporary one")
    parser.add_argument("--tiny", action="store_true", help="a few images: does it run?")
    parser.add_argument("--out", help="JSON file to write")
    given = parser.parse_args(arguments)
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
