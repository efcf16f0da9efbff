"""One screen of `wssis check`: at most about 45 lines of 100 columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.console.text import pluralize
from wssis.data.coco_reader import Problem
from wssis.validation.problems import KINDS, SEVERITIES, problems_by_kind
from wssis.validation.statistics import Levels
from wssis.validation.validate import Findings

WIDTH = 100
CLASSES = 6  # that are listed one by one
ROOMY = 7  # kinds of errors and warnings up to which two records of each are shown
HEADINGS = {
    "error": "Errors (the pipeline stops there)",
    "warning": "Warnings (labels are probably wrong)",
    "note": "Notes",
}


def screen(source: Path, findings: Findings, levels: Levels | None, asked: str) -> list[str]:
    """The lines."""
    coverage = findings.coverage
    lines = [str(source), f"images in {findings.folder}", "", *_counts(coverage.counts)]
    lines += _classes(coverage.classes)
    if coverage.sizes["pixels"]["count"]:
        lines += ["", *_sizes(coverage.sizes, levels)]
    lines += ["", *_problems(findings.problems)]
    if not findings.whole:
        lines += ["", "So many images: only their headers were read (--decode reads them whole)."]
    if asked:
        lines += ["", asked]
    return [line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in lines]


def _counts(counts: dict[str, int]) -> list[str]:
    def row(first: str, *others: str) -> str:
        rest = " · ".join(f"{name.replace('_', ' ')} {counts[name]:,}" for name in others)
        return _counted(first, counts[first], rest)

    return [
        row("images", "strong", "weak", "mixed", "empty"),
        row("objects", "masks", "points_only", "boxes") + f" · crowds or ignored {counts['ignored']:,}",
    ]


def _counted(noun: str, count: int, rest: str) -> str:
    noun = {"classes": "class"}.get(noun, noun.removesuffix("s")) if count == 1 else noun
    return f"  {noun:8} {count:9,}   {rest}"


def _classes(classes: list[dict[str, Any]]) -> list[str]:
    most = sorted(classes, key=lambda item: -item["objects"])
    shown = [
        f"{item['name'][:24]} {item['objects']:,} ({item['objects_in_strong']:,})" for item in most[:CLASSES]
    ]
    more = f" · {len(classes) - CLASSES} more" if len(classes) > CLASSES else ""
    first = _counted("classes", len(classes), "objects (of these in strong images):")
    return [first, *(f"  {'':20} {line}" for line in _wrapped(shown, more))]


def _wrapped(items: list[str], more: str) -> list[str]:
    lines = [""]
    for item in items:
        joined = f"{lines[-1]} · {item}" if lines[-1] else item
        if len(joined) > WIDTH - 24 and lines[-1]:
            lines.append(item)
        else:
            lines[-1] = joined
    lines[-1] += more
    return lines


def _sizes(sizes: dict[str, Any], levels: Levels | None) -> list[str]:
    seen = sizes.get("network", sizes["pixels"])
    scaled = ", as the network sees it" if levels else ""
    bins = {name: number for name, number in seen["bins"].items() if number}
    most = max(bins.values())
    lines = [f"Size of the masks{scaled} (square root of box area, pixels)"]
    for name, number in bins.items():
        bar = "█" * max(1, round(30 * number / most))
        lines.append(f"  {name:>8} {number:9,}  {bar}")
    if levels:
        held = " · ".join(
            f"{item['from']:g}-{item['to']:g}: {item['objects'] / seen['count']:.0%}"
            for item in sizes["levels"]
        )
        lines.append(f"  model.ranges hold  {held} · none: {pluralize(sizes['no_level'], 'object')}")
    return lines


def _problems(problems: list[Problem]) -> list[str]:
    kinds = problems_by_kind(problems)
    serious = sum(KINDS[kind].severity != "note" for kind in kinds)
    lines: list[str] = []
    for severity in SEVERITIES:
        mine = {kind: found for kind, found in kinds.items() if KINDS[kind].severity == severity}
        if mine:
            lines.append(HEADINGS[severity])
        for kind, found in mine.items():
            lines.append(f"  {len(found):7,}  {KINDS[kind].title}")
            if severity != "note" or kind in ("few-labels", "tiny-mask", "class-unused", "unlisted"):
                if serious <= ROOMY:
                    examples = found[:1] if severity == "note" else found[:2]
                    lines += [f"           {_example(problem)}" for problem in examples]
                else:
                    lines[-1] += f": {_example(found[0])}"
    return lines or ["No problem was found."]


def _example(problem: Problem) -> str:
    place = f" ({problem.image})" if problem.image and problem.image != problem.record else ""
    return f"{problem.record}{place}" + (f": {problem.detail}" if problem.detail else "")
