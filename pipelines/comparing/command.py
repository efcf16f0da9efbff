"""What `wssis compare` does: have DVC bring the table up to date, and show it."""

from __future__ import annotations

import os
import subprocess
import sys

from pipelines import paths
from pipelines.params import load_params
from pipelines.tracking import KIND
from wssis.errors import InputError

TARGET = f"{paths.COMPARE_YAML.as_posix()}:table"


def compare(dry: bool = False) -> int:
    """Run what is out of date; returns the exit code.

    Raises:
        InputError: no project is here, or its params are wrong.
    """
    if not paths.COMPARE_YAML.exists():
        raise InputError(
            "does not exist", where=paths.COMPARE_YAML, remedy="Run `wssis compare` in the project's folder"
        )
    settings = load_params().compare
    print(
        f"{len(settings.rows)} rows, {len(settings.fractions)} fractions, {len(settings.seeds)} seeds: "
        f"{len(settings.fractions) * len(settings.seeds)} teachers and refiners, "
        f"{len(settings.rows) * len(settings.fractions) * len(settings.seeds)} students",
        flush=True,
    )
    words = [sys.executable, "-m", "dvc", "repro", *(["--dry"] if dry else []), TARGET]
    done = subprocess.run(words, env=os.environ | {KIND: "compare"}, check=False)
    if done.returncode:
        print("wssis: the comparison stopped; what is done is kept. The reason is above", file=sys.stderr)
        return 1
    if not dry:
        text = paths.COMPARE_DOC.read_text(encoding="utf-8")
        print("\n".join(line for line in text.splitlines() if line.startswith(("| ", "## "))))
    return 0
