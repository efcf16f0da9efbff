"""The options of `wssis check`; light, since `wssis --help` reads them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

Positive = Callable[[type[int] | type[float]], Callable[[str], float]]


def add_check(command: argparse.ArgumentParser, positive: Positive) -> None:
    """Give the command its options; `positive` makes types of numbers over 0."""
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


def check(options: argparse.Namespace) -> None:
    """Look at a data set."""
    from pipelines.checking import Call, check_data
    from wssis.data.checks.problems import Limits

    limits = Limits(near=options.near, tiny=options.tiny, few=options.few)
    if options.decode:
        limits = Limits(limits.near, limits.tiny, limits.few, decode=sys.maxsize)
    named = {name: getattr(options, name) for name in ("data", "images", "json", "fix", "model", "strict")}
    check_data(Call(**named, least=options.least_score, limits=limits))
