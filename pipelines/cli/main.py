"""Entry point of the `wssis` command. Each command imports what it needs when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

from cyclopts import CycloptsError

from pipelines import paths
from pipelines.cli import data, models
from pipelines.cli.app import Port, Whole, app

__all__ = ["app", "data", "main", "models"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0 done, 2 invalid input or call, 1 anything else)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        print("wssis: expected a COMMAND, found none. See `wssis --help`", file=sys.stderr)
        return 2
    try:
        command, given, _ = app.parse_args(words, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        message = " ".join(str(error).split())
        message = message if message.endswith(("?", ".")) else f"{message}."
        help_of = " ".join(["wssis", *words[: len(error.command_chain or ())]])
        print(f"wssis: {message} See `{help_of} --help`", file=sys.stderr)
        return 2
    from pipelines.runner.run_stage import exit_code

    return exit_code(lambda: command(*given.args, **given.kwargs))


@app.command
def report(*, out: str = str(paths.REPORT_HTML)) -> None:
    """Write the report, one HTML file, from what the stages left.

    Args:
        out: the file to write.
    """
    from pathlib import Path

    from pipelines.report.page import write_report
    from pipelines.stages.report import FILES

    write_report(FILES, Path(out))
    print(out)


@app.command
def tune(
    study: Literal["refiner", "pseudo"] | None = None,
    /,
    *,
    workers: Whole = 1,
    dashboard: bool = False,
    port: Port = 8080,
) -> None:
    """Run trials of a search, which `dvc repro` then uses.

    Args:
        study: what to search.
        workers: processes.
        dashboard: show all searches in a browser instead.
        port: of the dashboard.
    """
    from pipelines.config.params import load_sections
    from wssis.errors import InputError

    if dashboard:
        from pipelines.search.storage import serve_dashboard

        return serve_dashboard(load_sections("optuna").optuna.storage, port)
    if study is None or workers < 1:
        raise InputError(
            "expected refiner or pseudo, and at least 1 worker",
            where="wssis tune",
            remedy="For example `wssis tune pseudo --workers 2`, or `wssis tune --dashboard`",
        )
    from pipelines.search.workers import tune
    from pipelines.stages import tune_pseudo, tune_refiner

    stage = {"refiner": tune_refiner, "pseudo": tune_pseudo}[study]
    return tune(f"tune_{study}", stage.search, workers)


@app.command
def compare(*, dry: bool = False) -> int:
    """Train students on labels of different origin, and tabulate them.

    Args:
        dry: only list the stages that would run.
    """
    from pipelines.comparison.command import compare as run_comparison

    return run_comparison(dry)


@app.command
def ui(*, port: Port = 5000, read_only: bool = False) -> None:
    """Show MLflow's pages on this machine: runs, pictures, models.

    Args:
        read_only: refuse every change.
    """
    from pipelines.tracking.ui import become_ui

    become_ui(port, read_only)


if __name__ == "__main__":
    sys.exit(main())
