"""Commands about labels: what goes into the pipeline, and what to draw next."""

from __future__ import annotations

import argparse
import sys

from pipelines.cli.option_types import Commands, hours, positive


def add_commands(commands: Commands) -> None:
    """preset, import, check, export-labels, budget."""
    command = commands.add_parser("preset", help="put presets/NAME.yaml in force as params.yaml")
    command.add_argument("name", metavar="NAME", help="shapes, nuclei, coco-05p, ... (the files in presets/)")
    command.add_argument("--data", metavar="DIR", help="train on this folder, which `wssis import` wrote")
    command.add_argument(
        "--val", metavar="DIR", help="report on this one; default: on a fifth of the drawn images of --data"
    )
    command.set_defaults(run=preset)

    add_import(commands.add_parser("import", help="labels of an annotation tool as a data set to train on"))
    add_check(commands.add_parser("check", help="what is in annotated data, and what is wrong with it"))
    add_export(commands.add_parser("export-labels", help="pseudo-labels to correct in an annotation tool"))

    command = commands.add_parser("budget", help="how many masks to draw and points to click next")
    command.add_argument("--hours", type=hours, help="of a person's work that are left")
    command.add_argument(
        "--which", type=positive(int), metavar="N", help="the N clicked images that are worth drawing first"
    )
    command.add_argument("--json", metavar="FILE", help="also write the advice and its figures here")
    command.add_argument(
        "--data", metavar="DIR", help="what `wssis import` wrote; default data/splits, or else data/mine"
    )
    command.set_defaults(run=budget)


def add_import(command: argparse.ArgumentParser) -> None:
    """The options of `wssis import`."""
    command.add_argument("format", metavar="FORMAT", help="coco, csv, ...; docs/import.md has all")
    command.add_argument("sources", metavar="SOURCE", nargs="+", help="annotation files or folders")
    command.add_argument("--images", metavar="DIR", help="their images; needed unless the sources hold them")
    place = command.add_mutually_exclusive_group(required=True)
    place.add_argument("--out", metavar="DIR", help="folder to write, such as data/mine")
    place.add_argument(
        "--into", metavar="DIR", help="earlier import in which the labels of these images are replaced"
    )
    command.add_argument(
        "--classes", metavar="FILE", help="class names, one a line, in the order of their ids"
    )
    command.add_argument(
        "--points",
        choices=("many", "one"),
        default="many",
        help="several points in one shape: as many objects (default), or one",
    )
    command.add_argument("--name", metavar="CLASS", default="object", help="class of labels without one")
    command.add_argument(
        "--replace", action="store_true", help="a later source replaces what earlier ones say of an image"
    )
    command.add_argument("--force", action="store_true", help="replace an earlier import in --out")
    command.set_defaults(run=import_labels)


def add_check(command: argparse.ArgumentParser) -> None:
    """The options of `wssis check`."""
    command.add_argument("data", metavar="DATA", help="a folder with instances.json, or a COCO JSON file")
    command.add_argument("--images", metavar="DIR", help="their folder; default: as the file says")
    command.add_argument("--json", metavar="FILE", help="write everything that was found")
    command.add_argument("--fix", metavar="DIR", help="write a cleaned copy into this new folder")
    command.add_argument(
        "--model", metavar="MODEL", help="teacher to ask about points, or none; default models/teacher"
    )
    command.add_argument("--strict", action="store_true", help="exit with 2 if there are errors")
    command.add_argument("--decode", action="store_true", help="read all images whole; done up to 2000")
    for name, kind, default, text in (
        ("near", float, 3.0, "pixels between two points that are taken for one click"),
        ("tiny", int, 4, "pixels; smaller masks are tiny"),
        ("few", float, 0.1, "share of the average number of labels up to which an image has few"),
        ("least-score", float, 0.03, "of a point, below which the teacher sees no object there"),
    ):
        words = f"{text}; default {default:g}"
        command.add_argument(f"--{name}", type=positive(kind), metavar="N", default=default, help=words)
    command.set_defaults(run=check)


def add_export(command: argparse.ArgumentParser) -> None:
    """The options of `wssis export-labels`."""
    command.add_argument("--format", required=True, choices=("coco", "cvat", "labelstudio", "labelme"))
    command.add_argument(
        "--out", metavar="PATH", required=True, help="file to write; for labelme a folder, a file an image"
    )
    command.add_argument("--worst", type=int, metavar="N", help="the N images of least quality; default all")
    command.add_argument("--images", metavar="DIR", help="copy their images to this folder, too")
    command.set_defaults(run=export_labels)


def preset(options: argparse.Namespace) -> None:
    """Show what changes in params.yaml and replace it."""
    from pipelines.config.presets import write_preset

    write_preset(options.name, options.data, options.val)


def import_labels(options: argparse.Namespace) -> None:
    """Write a data set of what a tool exported."""
    from pipelines.datasets.import_labels import import_labels as run_import
    from wssis.formats.records import Options

    shapes = Options(options.points, options.name)
    if options.into:
        from pipelines.datasets.import_corrections import import_corrections

        return import_corrections(
            options.format, options.sources, options.images, options.into, shapes, options.replace
        )
    run_import(
        options.format,
        options.sources,
        options.images,
        options.out,
        classes=options.classes,
        options=shapes,
        force=options.force,
        replacing=options.replace,
    )


def check(options: argparse.Namespace) -> None:
    """Look at a data set."""
    from pipelines.datasets.check import Call, check_data
    from wssis.validation.problems import Limits

    limits = Limits(near=options.near, tiny=options.tiny, few=options.few)
    if options.decode:
        limits = Limits(limits.near, limits.tiny, limits.few, decode=sys.maxsize)
    named = {name: getattr(options, name) for name in ("data", "images", "json", "fix", "model", "strict")}
    check_data(Call(**named, least=options.least_score, limits=limits))


def budget(options: argparse.Namespace) -> None:
    """Say how much to label, and which images first."""
    from pipelines.datasets.budget import budget as say_budget

    say_budget(options.hours, options.json, options.data, options.which)


def export_labels(options: argparse.Namespace) -> None:
    """Write labels for people to correct."""
    from pipelines.datasets.export_labels import export_labels as run_export

    run_export(options.format, options.out, options.worst, options.images)
