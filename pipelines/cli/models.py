"""Commands about models: using, registering, promoting and serving them."""

from __future__ import annotations

import argparse

from pipelines.cli.option_types import Commands, port, positive, share
from pipelines.serving.request import Limits

MODEL_HELP = "a folder such as models/student, or a registered model such as models:/wssis-student@candidate"

MODELS = ("wssis-student", "wssis-labeler")


def add_commands(commands: Commands) -> None:
    """predict, evaluate, export, models, promote, rollback, trace, serve."""
    command = commands.add_parser("predict", help="instances of images, or masks of points in them")
    command.add_argument("images", metavar="IMAGE", nargs="+", help="image files or folders")
    command.add_argument(
        "--model", required=True, help=f"{MODEL_HELP}; with --points the folder models, or the labeler"
    )
    command.add_argument("--points", metavar="FILE", help="one mask for each of these points (.csv, .json)")
    command.add_argument("--out", metavar="JSON", required=True, help="COCO JSON to write")
    command.add_argument("--draw", metavar="DIR", help="also draw the instances, a PNG an image")
    add_score(command)
    command.set_defaults(run=predict)

    command = commands.add_parser("evaluate", help="mask AP of a model on images with COCO annotations")
    command.add_argument("--model", required=True, help=MODEL_HELP)
    command.add_argument("--images", metavar="DIR", required=True, help="folder of the images")
    command.add_argument("--annotations", metavar="JSON", required=True, help="COCO instance JSON")
    command.add_argument("--out", metavar="JSON", required=True, help="metrics to write")
    command.set_defaults(run=evaluate)

    command = commands.add_parser(
        "export", help="a student with its decoding as one file, ONNX or torch.export"
    )
    command.add_argument("--model", required=True, help=MODEL_HELP)
    kind = command.add_mutually_exclusive_group(required=True)
    for name, text in (("onnx", "an .onnx file"), ("torch-export", "a .pt2 file")):
        kind.add_argument(f"--{name}", dest="kind", action="store_const", const=name, help=f"write {text}")
    command.add_argument(
        "--size",
        metavar=("H", "W"),
        nargs=2,
        type=positive(int),
        help="height and width of the images in pixels; default: the commonest of --images",
    )
    command.add_argument("--out", metavar="FILE", help="default student.onnx, student.pt2")
    command.add_argument(
        "--images",
        metavar="IMAGE",
        nargs="+",
        help="what the file is tried on, before it is kept; default: the project's validation images",
    )
    command.set_defaults(run=export)

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

    add_serve(commands.add_parser("serve", help="answer images over HTTP with a student or a labeler"))


def add_score(command: argparse.ArgumentParser) -> None:
    """Add `--score`, the minimum score of a student's instances."""
    command.add_argument(
        "--score",
        metavar="X",
        type=share,
        help="minimum score of an instance, 0 to 1; default: the threshold that the pipeline chose",
    )


def add_serve(command: argparse.ArgumentParser) -> None:
    """The options of `wssis serve`."""
    command.add_argument("--model", required=True, help=f"{MODEL_HELP}; or the folder models, or the labeler")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on; default 127.0.0.1")
    command.add_argument("--port", type=port, default=5001, help="default 5001")
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
    add_score(command)
    command.set_defaults(run=serve)


def predict(options: argparse.Namespace) -> None:
    """Write instances of images as COCO JSON."""
    from pipelines.inference.predict import predict_images

    predict_images(options.images, options.model, options.points, options.out, options.draw, options.score)


def evaluate(options: argparse.Namespace) -> None:
    """Write the AP of a model."""
    from pipelines.inference.predict import evaluate_model

    evaluate_model(options.model, options.images, options.annotations, options.out)


def export(options: argparse.Namespace) -> None:
    """Write a student as ONNX or as a program of torch.export."""
    from pipelines.inference.export import export_model

    export_model(options.model, options.kind, options.size, options.out, options.images)


def models(options: argparse.Namespace) -> None:
    """Print registered versions."""
    from pipelines.promotion.list_versions import list_models

    list_models()


def promote(options: argparse.Namespace) -> None:
    """Move the alias production to a version that passes the gate."""
    from pipelines.config.params import load_sections
    from pipelines.promotion import promote as promotion

    settings = load_sections("promote").promote
    promotion.promote(options.model, options.version, settings, why=options.why, force=options.force)


def rollback(options: argparse.Namespace) -> None:
    """Move the alias production back."""
    from pipelines.promotion import promote as promotion

    promotion.rollback(options.model, why=options.why)


def trace(options: argparse.Namespace) -> None:
    """Print or restore where a version comes from."""
    from pipelines.registry.trace import trace as trace_version

    trace_version(options.model, options.checkout)


def serve(options: argparse.Namespace) -> None:
    """Serve a model until interrupted."""
    from pipelines.serving.server import serve as serve_model

    names = ("images", "megapixels", "mib", "points", "seconds")
    limits = Limits(**{name: getattr(options, f"max_{name}") for name in names})
    serve_model(options.model, options.host, options.port, limits, options.score)
