"""The cleaned copy: raw records with every possible repair, and a line for each change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wssis.data.coco_reader import LISTS, Problem
from wssis.validation import repair_annotations, repair_images
from wssis.validation.edits import Change, Copy
from wssis.validation.image_files import Files
from wssis.validation.problems import KINDS
from wssis.validation.validate import Findings

_ROUNDS = 8  # the next round repairs what a change uncovers
_ORDER = {kind: place for place, kind in enumerate(KINDS)}


def repair(
    raw: dict[str, Any], findings: Findings, again: Callable[[dict[str, Any], Files], Findings]
) -> tuple[dict[str, Any], list[Change], Findings]:
    """A cleaned copy of a document.

    Args:
        raw: the document; stays as it is.
        findings: of `wssis.validation.validate.check` on it.
        again: the same check of another document; files that are known need not be read again.

    Returns:
        The copy, the changes, and what is found in the copy.
    """
    changes: list[Change] = []
    for _ in range(_ROUNDS):
        copy = Copy(findings, {name: list(findings.document.raw[name]) for name in LISTS})
        # What is said of annotations holds only while their images stay as they were.
        for repairs in (repair_images.REPAIRS, repair_annotations.REPAIRS):
            for problem in sorted(findings.problems, key=lambda item: _ORDER[item.kind]):
                if problem.kind in repairs:
                    repairs[problem.kind](copy, problem)
            if copy.changes:
                break
        if not copy.changes:
            break
        changes += copy.changes
        kept = {name: [item for item in copy.lists[name] if item is not None] for name in LISTS}
        raw = {**raw, **kept}
        findings = again(raw, findings.files)
    return raw, changes, findings


def remaining(problems: Sequence[Problem]) -> list[Problem]:
    """What a person has to decide: problems of a cleaned copy that are more than notes."""
    return [problem for problem in problems if KINDS[problem.kind].severity != "note"]
