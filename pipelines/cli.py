"""The `wssis` command. Heavy modules are imported by the command that needs them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from pipelines import paths
from pipelines.check_options import add_check
from pipelines.cli_labels import add_export, add_import
from pipelines.limits import Limits

MODEL_HELP = "a folder such as models/student, or a registered model such as models:/wssis-student@candidate"

MODELS = ("wssis-student", "wssis-labeler")


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a call in one line, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        """Print the line and leave."""
        print(f"wssis: {message}. See `{self.prog} --help`", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (0 done, 2 wrong input or call, 1 anything else)."""
    options = build_parser().parse_args(arguments)
    from pipelines.stage import exit_code

    return exit_code(lambda: options.run(options))


def build_parser() -> Parser:
    """All commands and their options."""
    parser = Parser(
        prog="wssis",
        description="Instance segmentation from a few masks and many points. "
        "`dvc repro` runs the pipeline; these commands prepare it and use what it made.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = commands.add_parser("preset", help="put presets/NAME.yaml in force as params.yaml")
    command.add_argument("name", metavar="NAME", help="shapes, nuclei, coco-05p, ... (the files in presets/)")
    command.add_argument("--data", metavar="DIR", help="train on this folder, which `wssis import` wrote")
    command.add_argument(
        "--val", metavar="DIR", help="report on this one; default: on a fifth of the drawn images of --data"
    )
    command.set_defaults(run=preset)

    add_import(commands.add_parser("import", help="labels of an annotation tool as a data set to train on"))
    command = commands.add_parser("check", help="what is in annotated data, and what is wrong with it")
    add_check(command, positive)

    command = commands.add_parser("predict", help="instances of images, or masks of points in them")
    command.add_argument("images", metavar="IMAGE", nargs="+", help="image files or folders")
    command.add_argument(
        "--model", required=True, help=f"{MODEL_HELP}; with --points the folder models, or the labeler"
    )
    command.add_argument("--points", metavar="FILE", help="one mask for each of these points (.csv, .json)")
    command.add_argument("--out", metavar="JSON", required=True, help="COCO JSON to write")
    command.add_argument("--draw", metavar="DIR", help="also draw the instances, a PNG an image")
    command.set_defaults(run=predict)

    command = commands.add_parser("evaluate", help="mask AP of a model on images with COCO annotations")
    command.add_argument("--model", required=True, help=MODEL_HELP)
    command.add_argument("--images", metavar="DIR", required=True, help="folder of the images")
    command.add_argument("--annotations", metavar="JSON", required=True, help="COCO instance JSON")
    command.add_argument("--out", metavar="JSON", required=True, help="metrics to write")
    command.set_defaults(run=evaluate)

    command = commands.add_parser("models", help="registered versions: aliases, metrics, data, label hours")
    command.set_defaults(run=models)

    command = commands.add_parser("promote", help="put a registered version into production if it passes")
    command.add_argument(
        "version", metavar="VERSION", nargs="?", type=int, help="its number; default: the alias candidate"
    )
    command.add_argument("--to", choices=("production",), default="production", help="the alias to move")
    command.add_argument("--model", choices=MODELS, default=MODELS[0], help=f"default {MODELS[0]}")
    command.add_argument("--why", metavar="TEXT", default="", help="is recorded with the promotion")
    command.add_argument("--force", action="store_true", help="whatever the checks say; needs --why")
    command.set_defaults(run=promote)

    command = commands.add_parser("rollback", help="swap the versions in production and before it")
    command.add_argument("--model", choices=MODELS, default=MODELS[0], help=f"default {MODELS[0]}")
    command.add_argument("--why", metavar="TEXT", default="", help="is recorded")
    command.set_defaults(run=rollback)

    command = commands.add_parser("trace", help="what a registered version comes from, or all of it again")
    command.add_argument("model", metavar="MODEL", help="such as models:/wssis-student@production")
    command.add_argument(
        "--checkout", metavar="DIR", help="restore it in this new folder and measure again, on the CPU"
    )
    command.set_defaults(run=trace)

    command = commands.add_parser("report", help="write the report, one HTML file, from what the stages left")
    command.add_argument("--out", metavar="HTML", default=str(paths.REPORT_HTML), help="default %(default)s")
    command.set_defaults(run=report)

    add_export(commands.add_parser("export-labels", help="pseudo-labels to correct in an annotation tool"))

    add_serve(commands.add_parser("serve", help="answer images over HTTP with a student or a labeler"))

    command = commands.add_parser("tune", help="run trials of a search; `dvc repro` takes them over")
    command.add_argument("study", metavar="STUDY", nargs="?", choices=("refiner", "pseudo"))
    command.add_argument("--workers", metavar="N", type=int, default=1, help="processes; default 1")
    command.add_argument("--dashboard", action="store_true", help="show all searches in a browser instead")
    command.add_argument("--port", type=int, default=8080, help="of the dashboard; default 8080")
    command.set_defaults(run=tune)

    command = commands.add_parser("budget", help="how many masks to draw and points to click next")
    command.add_argument("--hours", type=hours, required=True, help="of a person's work that are left")
    command.add_argument("--json", metavar="FILE", help="also write the advice and its figures here")
    command.add_argument(
        "--data", metavar="DIR", help="what `wssis import` wrote; default data/splits, or else data/mine"
    )
    command.set_defaults(run=budget)

    command = commands.add_parser("compare", help="students on labels of different origin, as a table")
    command.add_argument("--dry", action="store_true", help="only say which stages would run")
    command.set_defaults(run=compare)

    command = commands.add_parser("ui", help="MLflow's pages on this machine: runs, pictures, models")
    command.add_argument("--port", type=int, default=5000, help="default 5000")
    command.add_argument("--read-only", action="store_true", help="refuse every change")
    command.set_defaults(run=ui)
    return parser


def add_serve(command: argparse.ArgumentParser) -> None:
    """The options of `wssis serve`."""
    command.add_argument("--model", required=True, help=f"{MODEL_HELP}; or the folder models, or the labeler")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on; default 127.0.0.1")
    command.add_argument("--port", type=int, default=5001, help="default 5001")
    for name, kind, text in (
        ("images", int, "images a request"),
        ("megapixels", float, "size of an image"),
        ("mib", float, "size of a request"),
        ("points", int, "points a request, for a labeler"),
        ("seconds", float, "time to answer a request, waiting included"),
    ):
        default = getattr(Limits, name)
        words = f"{text}; default {default:g}"
        command.add_argument(f"--max-{name}", type=positive(kind), metavar="N", default=default, help=words)
    command.set_defaults(run=serve)


def positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """A type of option: a finite number over 0."""

    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    return number


def hours(text: str) -> float:
    """A type of option: a finite number of 0 or more."""
    value = float(text)  # argparse names this function where it is wrong
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def preset(options: argparse.Namespace) -> None:
    """Show what changes in params.yaml and replace it."""
    from pipelines.presets import put_in_force

    put_in_force(options.name, options.data, options.val)


def predict(options: argparse.Namespace) -> None:
    """Write instances of images as COCO JSON."""
    from pipelines.commands import predict_images

    predict_images(options.images, options.model, options.points, options.out, options.draw)


def evaluate(options: argparse.Namespace) -> None:
    """Write the AP of a model."""
    from pipelines.commands import evaluate_model

    evaluate_model(options.model, options.images, options.annotations, options.out)


def models(options: argparse.Namespace) -> None:
    """Print registered versions."""
    from pipelines.listing import list_models

    list_models()


def promote(options: argparse.Namespace) -> None:
    """Move the alias production to a version that passes the gate."""
    from pipelines import promotion
    from pipelines.params import load_params

    settings = load_params().promote
    promotion.promote(options.model, options.version, settings, why=options.why, force=options.force)


def rollback(options: argparse.Namespace) -> None:
    """Move the alias production back."""
    from pipelines import promotion

    promotion.rollback(options.model, why=options.why)


def trace(options: argparse.Namespace) -> None:
    """Print or restore where a version comes from."""
    from pipelines.trace import trace as trace_version

    trace_version(options.model, options.checkout)


def report(options: argparse.Namespace) -> None:
    """Write the report."""
    from pathlib import Path

    from pipelines.report import write_report
    from pipelines.stages.report import FILES

    write_report(FILES, Path(options.out))
    print(options.out)


def serve(options: argparse.Namespace) -> None:
    """Serve a model until interrupted."""
    from pipelines.server import serve as serve_model

    names = ("images", "megapixels", "mib", "points", "seconds")
    limits = Limits(**{name: getattr(options, f"max_{name}") for name in names})
    serve_model(options.model, options.host, options.port, limits)


def tune(options: argparse.Namespace) -> None:
    """Run trials, or show them."""
    from pipelines.params import load_params
    from wssis.errors import InputError

    if options.dashboard:
        from pipelines.tuning_storage import serve_dashboard

        return serve_dashboard(load_params().optuna.storage, options.port)
    if options.study is None or options.workers < 1:
        raise InputError(
            "expected refiner or pseudo, and at least 1 worker",
            where="wssis tune",
            remedy="For example `wssis tune pseudo --workers 2`, or `wssis tune --dashboard`",
        )
    from pipelines.tuning_workers import tune

    return tune(options.study, options.workers)


def budget(options: argparse.Namespace) -> None:
    """Say what to label next."""
    from pipelines.budgeting import budget as say_budget

    say_budget(options.hours, options.json, options.data)


def compare(options: argparse.Namespace) -> None:
    """Run the comparison of `params.yaml`, section compare."""
    from pipelines.comparing.command import compare as run_comparison

    if code := run_comparison(options.dry):
        raise SystemExit(code)


def ui(options: argparse.Namespace) -> None:
    """Become MLflow's server on the project's store; only this machine can reach it."""
    from pipelines.ui import become_ui

    become_ui(options.port, options.read_only)


if __name__ == "__main__":
    sys.exit(main())
