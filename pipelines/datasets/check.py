"""`wssis check`: statistics and problems of a data set on one screen and as JSON; a cleaned copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.config.params import load_sections
from pipelines.config.protected_paths import check_own
from pipelines.datasets.check_summary import screen
from wssis.data.coco import load_coco, portable_folder
from wssis.data.coco_reader import Problem, read_json
from wssis.errors import InputError
from wssis.files import gc_disabled, write_json
from wssis.validation.edits import Change
from wssis.validation.problems import KINDS, Limits, problems_by_kind
from wssis.validation.repair import remaining, repair
from wssis.validation.statistics import Levels
from wssis.validation.validate import Findings, check, image_folder

CHANGES = "changes.json"


def check_data(
    data: str,
    images: str | None = None,
    json: str | None = None,
    fix: str | None = None,
    model: str | None = None,
    strict: bool = False,
    least_score: float = 0.03,
    limits: Limits | None = None,
) -> None:
    """Print what was found; write JSON and a cleaned copy if asked for. See `wssis check --help`.

    Raises:
        InputError: the data cannot be read, the copy would replace it, or `strict` and it has errors.
    """
    limits = limits or Limits()
    source = annotation_file(data)
    target = copy_folder(fix, source) if fix else None
    with gc_disabled():
        raw = read_json(source)
    folder = image_folder(raw, source, images)
    levels = levels_in_force()
    findings = check(raw, folder, limits, levels)
    findings, asked = with_teacher(findings, model, least_score)
    lines = screen(source, findings, levels, asked)
    changed: dict[str, Any] = {}
    if target is not None:
        copy, changes, after = repair(
            raw, findings, lambda copy, files: check(copy, folder, limits, levels, files)
        )
        write_copy(target, copy, folder, changes, after)
        changed = {"fixed": as_changes(changes), "left": as_problems(remaining(after.problems))}
        lines += said_of_copy(target, changes, remaining(after.problems))
    if json:
        write_json(json, {**as_json(source, findings), **changed}, indent=1)
    print("\n".join(lines))
    errors = sum(KINDS[problem.kind].severity == "error" for problem in findings.problems)
    if strict and errors:
        raise InputError(
            f"expected no errors, found {errors}",
            where=source,
            remedy="See the list above; --fix repairs most of them",
        )


def annotation_file(data: str) -> Path:
    """The JSON file in a data folder, or the file itself.

    Raises:
        InputError: there is none.
    """
    path = Path(data)
    file = path / paths.INSTANCES if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"expected a folder with {paths.INSTANCES}, or a COCO JSON file, found none",
            where=file if path.is_dir() else path,
            remedy="`wssis import` makes one of what labeling programs export",
        )
    return file


def copy_folder(fix: str, source: Path) -> Path:
    """The folder of the cleaned copy.

    Raises:
        InputError: it has files already.
    """
    check_own(fix=fix)
    folder = Path(fix)
    if folder.resolve() == source.resolve().parent or (folder / paths.INSTANCES).exists() or folder.is_file():
        raise InputError(
            "expected a new folder for the cleaned copy, found one with data",
            where=folder,
            remedy="Name another; nothing is altered in place",
        )
    return folder


def levels_in_force() -> Levels | None:
    """Level ranges and scale of the project whose folder this is."""
    if not paths.PARAMS.exists():
        return None
    params = load_sections("model", "resize")
    return Levels(params.model.ranges, params.resize.factor)


def with_teacher(findings: Findings, model: str | None, least_score: float) -> tuple[Findings, str]:
    """The findings with what a teacher says of the points, and a line about who was asked."""
    if model == "none" or (model is None and not paths.TEACHER.is_dir()):
        return findings, ""
    if not findings.coverage.counts["points_only"]:
        return findings, ""
    from pipelines.datasets.check_points import implausible, teacher_for
    from pipelines.inference.predict import device

    name = model or str(paths.TEACHER)
    try:
        teacher = teacher_for(name, findings, device())
    except InputError as error:
        if model:
            raise
        return findings, f"{name} was not asked about the points: {error.problem}"
    found = implausible(findings, teacher, least_score)
    return replace(findings, problems=[*findings.problems, *found]), f"{name} was asked about the points"


def write_copy(
    target: Path, raw: dict[str, Any], folder: str, changes: list[Change], after: Findings
) -> None:
    """Write the cleaned copy and the list of changes; the copy is read back as the pipeline will read it."""
    info = raw.get("info")
    known = info if isinstance(info, dict) else {}
    copy = {**raw, "info": {**known, "image_dir": portable_folder(folder)}}
    try:
        write_json(target / paths.INSTANCES, copy)
    except ValueError as error:
        raise InputError(f"cannot be written as JSON ({error})", where=target / paths.INSTANCES) from error
    write_json(
        target / CHANGES,
        {"changes": as_changes(changes), "left": as_problems(remaining(after.problems))},
        indent=1,
    )
    if not any(KINDS[problem.kind].severity == "error" for problem in after.problems):
        load_coco(target / paths.INSTANCES)


def said_of_copy(target: Path, changes: list[Change], left: list[Problem]) -> list[str]:
    """Lines about the cleaned copy."""
    lines = ["", f"{target / paths.INSTANCES} is the cleaned copy. Changes ({target / CHANGES} lists each):"]
    number = Counter((change.kind, change.summary) for change in changes)
    lines += [f"  {count:7,}  {KINDS[kind].title}: {done}" for (kind, done), count in number.items()]
    # A mask of zero area marked nothing; what other labels marked is background from now on.
    poorer = dict.fromkeys(
        change.image
        for change in changes
        if change.done == "removed"
        and change.image
        and change.record.startswith("annotation")
        and change.kind != "empty-mask"
    )
    if poorer:
        first = ", ".join(list(poorer)[:3]) + (", …" if len(poorer) > 3 else "")
        lines.append(f"  Look at images that lost a label (its place is background now): {first}")
    if not changes:
        lines.append("  none")
    for kind, problems in problems_by_kind(left).items():
        lines.append(f"  Left for you: {len(problems):,} {KINDS[kind].title}")
    return lines


def as_problems(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """Problems by kind, every record."""
    return [
        {
            "kind": kind,
            "severity": KINDS[kind].severity,
            "title": KINDS[kind].title,
            "fix": KINDS[kind].fix,
            "count": len(found),
            "records": [problem.as_json() for problem in found],
        }
        for kind, found in problems_by_kind(problems).items()
    ]


def as_changes(changes: Iterable[Change]) -> list[dict[str, str]]:
    """Every change."""
    return [change.as_json() for change in changes]


def as_json(source: Path, findings: Findings) -> dict[str, Any]:
    """Everything that was found."""
    coverage = findings.coverage
    return {
        "data": str(source),
        "images": findings.folder,
        "decoded": findings.whole,
        "counts": coverage.counts,
        "classes": coverage.classes,
        "sizes": coverage.sizes,
        "problems": as_problems(findings.problems),
    }
