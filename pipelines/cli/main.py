"""The `wssis` command. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from pipelines import paths
from pipelines.cli import data, models
from pipelines.cli.option_types import Commands, port


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a call in one line, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        """Print the line and leave."""
        print(f"wssis: {message}. See `{self.prog} --help`", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0 done, 2 wrong input or call, 1 anything else)."""
    options = build_parser().parse_args(arguments)
    from pipelines.runner.run_stage import exit_code

    return exit_code(lambda: options.run(options))


def build_parser() -> Parser:
    """All commands and their options."""
    parser = Parser(
        prog="wssis",
        description="Instance segmentation from a few masks and many points. "
        "`dvc repro` runs the pipeline; these commands prepare it and use what it made.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    data.add_commands(commands)
    models.add_commands(commands)
    add_commands(commands)
    return parser


def add_commands(commands: Commands) -> None:
    """Commands about runs of the pipeline: report, tune, compare, ui."""
    command = commands.add_parser("report", help="write the report, one HTML file, from what the stages left")
    command.add_argument("--out", metavar="HTML", default=str(paths.REPORT_HTML), help="default %(default)s")
    command.set_defaults(run=report)

    command = commands.add_parser("tune", help="run trials of a search; `dvc repro` takes them over")
    command.add_argument("study", metavar="STUDY", nargs="?", choices=("refiner", "pseudo"))
    command.add_argument("--workers", metavar="N", type=int, default=1, help="processes; default 1")
    command.add_argument("--dashboard", action="store_true", help="show all searches in a browser instead")
    command.add_argument("--port", type=port, default=8080, help="of the dashboard; default 8080")
    command.set_defaults(run=tune)

    command = commands.add_parser("compare", help="students on labels of different origin, as a table")
    command.add_argument("--dry", action="store_true", help="only say which stages would run")
    command.set_defaults(run=compare)

    command = commands.add_parser("ui", help="MLflow's pages on this machine: runs, pictures, models")
    command.add_argument("--port", type=port, default=5000, help="default 5000")
    command.add_argument("--read-only", action="store_true", help="refuse every change")
    command.set_defaults(run=ui)


def report(options: argparse.Namespace) -> None:
    """Write the report."""
    from pathlib import Path

    from pipelines.report.page import write_report
    from pipelines.stages.report import FILES

    write_report(FILES, Path(options.out))
    print(options.out)


def tune(options: argparse.Namespace) -> None:
    """Run trials, or show them."""
    from pipelines.config.params import load_sections
    from wssis.errors import InputError

    if options.dashboard:
        from pipelines.search.storage import serve_dashboard

        return serve_dashboard(load_sections("optuna").optuna.storage, options.port)
    if options.study is None or options.workers < 1:
        raise InputError(
            "expected refiner or pseudo, and at least 1 worker",
            where="wssis tune",
            remedy="For example `wssis tune pseudo --workers 2`, or `wssis tune --dashboard`",
        )
    from pipelines.search.workers import tune
    from pipelines.stages import tune_pseudo, tune_refiner

    stage = {"refiner": tune_refiner, "pseudo": tune_pseudo}[options.study]
    return tune(f"tune_{options.study}", stage.search, options.workers)


def compare(options: argparse.Namespace) -> None:
    """Run the comparison of `params.yaml`, section compare."""
    from pipelines.comparison.command import compare as run_comparison

    if code := run_comparison(options.dry):
        raise SystemExit(code)


def ui(options: argparse.Namespace) -> None:
    """Become MLflow's server on the project's store; only this machine can reach it."""
    from pipelines.tracking.ui import become_ui

    become_ui(options.port, options.read_only)


if __name__ == "__main__":
    sys.exit(main())
