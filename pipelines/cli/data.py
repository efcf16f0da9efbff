"""Commands about labels: what goes into the pipeline, and what to draw next."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import LimitedChoice

from pipelines.cli.app import Count, NotNegative, Positive, Whole, app

TARGET = Group("Output", validator=LimitedChoice(1, 1))


@app.command
def preset(name: str, /, *, data: str | None = None, val: str | None = None) -> None:
    """Write params.yaml from presets/NAME.yaml.

    Args:
        name: shapes, nuclei, coco-05p, ... (the files in presets/).
        data: train on this folder, which `wssis import` wrote.
        val: report on this one; default: on a fifth of the drawn images of --data.
    """
    from pipelines.config.presets import write_preset

    write_preset(name, data, val)


@app.command(name="import")
def import_labels(
    format: str,
    sources: list[str],
    /,
    *,
    images: str | None = None,
    out: Annotated[str | None, Parameter(group=TARGET)] = None,
    into: Annotated[str | None, Parameter(group=TARGET)] = None,
    classes: str | None = None,
    points: Literal["many", "one"] = "many",
    name: str = "object",
    replace: bool = False,
    force: bool = False,
) -> None:
    """Convert the labels of an annotation tool to a data set to train on.

    Args:
        format: coco, csv, ...; docs/import.md lists all.
        sources: annotation files or folders.
        images: folder of their images; needed unless the sources hold them.
        out: folder to write, such as data/mine.
        into: earlier import in which the labels of these images are replaced.
        classes: file of class names, one a line, in the order of their ids.
        points: several points in one shape are as many objects, or one.
        name: class of labels without one.
        replace: a later source replaces what earlier ones say of an image.
        force: replace an earlier import in --out.
    """
    from wssis.formats.records import Options

    options = Options(points, name)
    if into:
        from pipelines.datasets.import_corrections import import_corrections

        return import_corrections(format, sources, images, into, options, replace)
    from pipelines.datasets.import_labels import import_labels as run_import

    run_import(
        format, sources, images, str(out), classes=classes, options=options, force=force, replacing=replace
    )


@app.command
def check(
    data: str,
    /,
    *,
    images: str | None = None,
    json: str | None = None,
    fix: str | None = None,
    model: str | None = None,
    strict: bool = False,
    decode: bool = False,
    near: Positive = 3.0,
    tiny: Count = 4,
    few: Positive = 0.1,
    least_score: Positive = 0.03,
) -> None:
    """Report what is in annotated data, and what is wrong with it.

    Args:
        data: a folder with instances.json, or a COCO JSON file.
        images: their folder; default: as the file says.
        json: file to write all findings to.
        fix: new folder for a cleaned copy.
        model: teacher that judges the points, or none; default models/teacher.
        strict: exit with 2 if there are errors.
        decode: read all images whole; done up to 2000.
        near: pixels between two points that count as one click.
        tiny: pixels; smaller masks are tiny.
        few: share of the average number of labels up to which an image has few.
        least_score: of a point, below which the teacher sees no object there.
    """
    from pipelines.datasets.check import check_data
    from wssis.validation.problems import Limits

    limits = Limits(near, tiny, few, **({"decode": sys.maxsize} if decode else {}))
    check_data(data, images, json, fix, model, strict, least_score, limits)


@app.command
def export_labels(
    *,
    format: Literal["coco", "cvat", "labelstudio", "labelme"],
    out: str,
    worst: Whole | None = None,
    images: str | None = None,
) -> None:
    """Write pseudo-labels to correct in an annotation tool.

    Args:
        out: file to write; for labelme a folder, with a file for each image.
        worst: number of images, those of least quality; default all.
        images: folder to copy their images to.
    """
    from pipelines.datasets.export_labels import export_labels as run_export

    run_export(format, out, worst, images)


@app.command
def budget(
    *,
    hours: NotNegative | None = None,
    which: Count | None = None,
    json: str | None = None,
    data: str | None = None,
) -> None:
    """Advise how many masks to draw and points to click next.

    Args:
        hours: of a person's work that are left.
        which: name this many images that are worth drawing first; after `dvc repro pseudo`.
        json: file to write the advice and its figures to.
        data: for --hours, what `wssis import` wrote; default data/splits, or else data/mine.
    """
    from pipelines.datasets.budget import budget as give_advice

    give_advice(hours, json, data, which)
