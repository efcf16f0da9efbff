"""A cell of `wssis compare`, a fraction of strong images and a seed: any stage, run in a folder of its own.

    python -m pipelines.comparison.cell 0.1 0 pipelines.stages.train teacher

runs `python -m pipelines.stages.train teacher` in compare/work/0.1-0. There the stage finds, under the
usual paths, what other stages wrote in this cell, the project's prepared data, and the project's params.yaml
with `split.strong: 0.1`, `seed: 0` and the iterations of `compare`.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.config.params import load_params, read_yaml, write_yaml
from pipelines.runner.run_stage import Body, exit_code, run

TRAININGS = ("teacher", "refiner", "student")


def folder_of(fraction: float, seed: int) -> Path:
    """A cell's folder, below DVC's workspace; named as compare/dvc.yaml names it."""
    return paths.COMPARE_CELLS / f"{fraction}-{seed}"


def cell_values(values: dict[str, Any], fraction: float, seed: int) -> dict[str, Any]:
    """params.yaml of a cell from that of the project, as plain values."""
    values = {**values, "seed": seed, "split": {**values["split"], "strong": fraction}}
    most = values["compare"]["iterations"]
    for name in TRAININGS if most else ():
        train = dict(values[name]["train"])
        if most < train["iterations"]:
            # A warm-up keeps its share, otherwise a short training would be nothing else.
            train["warmup"] = train["warmup"] * most // train["iterations"]
            train["iterations"] = most
        values[name] = {**values[name], "train": train}
    return values


def enter(fraction: float, seed: int) -> None:
    """Make a cell's folder what a stage expects, and the current one.

    Raises:
        InputError: params.yaml of the project is wrong.
    """
    load_params(paths.PARAMS)  # so that what is wrong is named in the file that a person wrote
    folder = folder_of(fraction, seed)
    prepared = folder / paths.PREPARED
    prepared.parent.mkdir(parents=True, exist_ok=True)
    if not prepared.is_symlink():
        prepared.symlink_to(os.path.relpath(paths.PREPARED, prepared.parent))
    comment = "Made of the project's params.yaml, again by every stage of this cell."
    write_yaml(folder / paths.PARAMS, cell_values(read_yaml(paths.PARAMS), fraction, seed), comment)
    os.chdir(folder)


def run_named(stages: Mapping[str, tuple[Body, tuple[str, ...]]]) -> int:
    """Run the stage that the command line names; returns the exit code.

    Args:
        stages: function and sections of params by name.
    """
    if len(sys.argv) != 2 or sys.argv[1] not in stages:
        print(f"usage: {Path(sys.argv[0]).stem} {'|'.join(stages)}", file=sys.stderr)
        return 2
    function, sections = stages[sys.argv[1]]
    return run(sys.argv[1], function, sections)


def main(arguments: Sequence[str]) -> int:
    """Run a stage's module in a cell; returns the exit code."""
    try:
        fraction, seed, module, *rest = arguments
        place = float(fraction), int(seed)
    except ValueError:
        print("usage: python -m pipelines.comparison.cell FRACTION SEED MODULE [ARGUMENT…]", file=sys.stderr)
        return 2
    code = exit_code(lambda: enter(*place))
    if code == 0:
        sys.argv = [module, *rest]
        runpy.run_module(module, run_name="__main__", alter_sys=True)  # ends in sys.exit
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
