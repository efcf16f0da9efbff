"""The commands of `wssis` that exchange labels with annotation tools."""

from __future__ import annotations

import argparse


def add_import(command: argparse.ArgumentParser) -> None:
    """The options of `wssis import`."""
    command.add_argument("format", metavar="FORMAT", help="coco, csv, ...; docs/import.md has all")
    command.add_argument("sources", metavar="SOURCE", nargs="+", help="annotation files or folders")
    command.add_argument("--images", metavar="DIR", help="their images; needed unless the sources hold them")
    command.add_argument("--out", metavar="DIR", required=True, help="folder to write, such as data/mine")
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


def import_labels(options: argparse.Namespace) -> None:
    """Write a data set of what a tool exported."""
    from pipelines.importing import import_labels as run_import
    from wssis.data.formats.labels import Options

    run_import(
        options.format,
        options.sources,
        options.images,
        options.out,
        classes=options.classes,
        options=Options(options.points, options.name),
        force=options.force,
        replacing=options.replace,
    )


def add_export(command: argparse.ArgumentParser) -> None:
    """The options of `wssis export-labels`."""
    command.add_argument("--format", required=True, choices=("coco", "cvat", "labelstudio", "labelme"))
    command.add_argument(
        "--out", metavar="PATH", required=True, help="file to write; for labelme a folder, a file an image"
    )
    command.add_argument("--worst", type=int, metavar="N", help="the N images of least quality; default all")
    command.add_argument("--images", metavar="DIR", help="copy their images to this folder, too")
    command.set_defaults(run=export_labels)


def export_labels(options: argparse.Namespace) -> None:
    """Write labels for people to correct."""
    from pipelines.exporting import export_labels as run_export

    run_export(options.format, options.out, options.worst, options.images)
