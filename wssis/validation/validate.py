"""All checks of a data set, one after the other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wssis.data.coco_reader import CocoDocument, Problem, image_dir_of
from wssis.errors import InputError
from wssis.files import gc_disabled
from wssis.validation.annotations import Labels, examine_annotations
from wssis.validation.duplicates import duplicates
from wssis.validation.image_files import Files, examine_pictures, listing, start_reading, unlisted
from wssis.validation.problems import Limits
from wssis.validation.statistics import Coverage, Levels, survey


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        folder: of the images.
        files: what is known of each image file.
        whole: whether the files were decoded whole, and not their headers only.
    """

    document: CocoDocument
    labels: Labels
    coverage: Coverage
    problems: list[Problem]
    folder: str
    files: Files
    whole: bool


def image_folder(raw: dict[str, Any], path: Path, given: str | None) -> str:
    """Where the images are: `given`, or as the file says, or beside the file.

    Raises:
        InputError: nobody says.
    """
    said = given or image_dir_of(raw)
    if not said:
        raise InputError(
            "expected info.image_dir, found none",
            where=path,
            remedy="Name the image folder with --images DIR",
        )
    beside = path.parent / said
    return str(beside) if not given and not os.path.isdir(said) and beside.is_dir() else said


def check(
    raw: dict[str, Any],
    folder: str,
    limits: Limits | None = None,
    levels: Levels | None = None,
    files: Files | None = None,
) -> Findings:
    """Look at everything.

    Args:
        raw: see `wssis.data.coco_reader.read_json`; is not changed.
        folder: of the images.
        files: what is known of them already.
    """
    limits = limits or Limits()
    with gc_disabled():
        problems: list[Problem] = []
        document = CocoDocument(raw, problems.append)
        names = [picture.file_name for picture in document.pictures]
        known = files or {}
        unknown = [name for name in names if name not in known]
        whole = len(names) <= limits.decode
        gather = start_reading(folder, unknown, whole)
        labels = examine_annotations(document, limits)
        problems += duplicates(document, labels, limits)
        coverage = survey(document, labels, limits, levels)
        problems += coverage.problems
        known = known | gather()
        problems += examine_pictures(document, known, folder)
        problems += unlisted(document, listing(folder))
    return Findings(document, labels, coverage, problems, folder, known, whole)
