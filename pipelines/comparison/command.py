"""What `wssis compare` does: have DVC bring the table up to date, and show it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

from pipelines import paths
from pipelines.config.params import load_params
from pipelines.console.text import pluralize
from pipelines.tracking.runs import KIND
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
    rows, cells = len(settings.rows), len(settings.fractions) * len(settings.seeds)
    print(
        f"{pluralize(rows, 'row')}, {pluralize(len(settings.fractions), 'fraction')}, "
        f"{pluralize(len(settings.seeds), 'seed')}: "
        f"{pluralize(cells, 'teacher')} and {pluralize(cells, 'refiner')}, "
        f"{pluralize(rows * cells, 'student')}",
        flush=True,
    )
    if dry:
        print(waiting(status()), flush=True)
        return 0
    words = [sys.executable, "-m", "dvc", "repro", TARGET]
    done = subprocess.run(words, env=os.environ | {KIND: "compare"}, check=False)
    if done.returncode:
        print("wssis: the comparison stopped; what is done is kept. The reason is above", file=sys.stderr)
        return 1
    text = paths.COMPARE_DOC.read_text(encoding="utf-8")
    print("\n".join(line for line in text.splitlines() if line.startswith(("| ", "## "))))
    return 0


def status() -> list[str]:
    """Stages that DVC finds out of date, as it names them; its own `repro --dry` stumbles over absent files.

    Raises:
        InputError: DVC cannot tell.
    """
    words = [sys.executable, "-m", "dvc", "status", "--json", "--with-deps", TARGET]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        return list(json.loads(done.stdout))
    except ValueError as error:
        reason = done.stderr.strip().splitlines()
        raise InputError(
            f"expected a status from DVC, found {reason[-1] if reason else 'none'}",
            where=paths.COMPARE_YAML,
            remedy="Run `dvc status` to see why",
        ) from error


def waiting(stages: Sequence[str]) -> str:
    """How many stages of each name would run."""
    names = Counter(stage.split(":", 1)[-1].split("@")[0] for stage in stages)
    if not names:
        return "nothing is out of date"
    listed = ", ".join(f"{count} {name}" for name, count in names.items())
    return f"{pluralize(len(stages), 'stage')} would run, and those that use what they change: {listed}"
