"""`wssis models`: every registered version, its aliases, metrics and data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipelines.promotion import promote
from pipelines.registry import versions
from pipelines.registry.lineage import DATA_DIGEST, VAL_DIGEST
from pipelines.registry.register import LABELER, STUDENT
from pipelines.registry.versions import Version
from pipelines.tracking.store import store_place
from wssis.errors import InputError

METRICS = {
    STUDENT: {"student_AP": "AP", "gain": "gain", "label_hours": "label hours"},
    LABELER: {"refined_iou": "IoU", "refined_iou50": "IoU>.5", "label_hours": "label hours"},
}


def list_models(say: Callable[[str], None] = print) -> None:
    """Print a table per model.

    Raises:
        InputError: nothing is registered yet.
    """
    known = {name: versions.versions(name) for name in METRICS}
    if not any(known.values()):
        raise InputError(
            "expected registered models, found none",
            where=store_place(),
            remedy="`dvc repro` registers the models that it trains",
        )
    for name, found in known.items():
        if not found:
            continue
        say(f"\n{name}")
        head = ["version", "aliases", *METRICS[name].values(), "val", "data", "commit", "registered"]
        for line in version_table([head, *(row(version) for version in found)]):
            say(f"  {line}")
        if move := promote.pending(name):
            say(
                f"  version {move['version']}: `{move['event']}` at {move['time']} was interrupted; "
                "the next `wssis promote` or `wssis rollback` completes it"
            )


def row(version: Version) -> list[str]:
    """The cells of a version; "-" for what it was registered without."""
    tags = version.tags
    metrics = [f"{float(tags[key]):.3f}" if key in tags else "-" for key in METRICS[version.name]]
    digests = [tags.get(key, "")[:8] or "-" for key in (VAL_DIGEST, DATA_DIGEST)]
    changed = "+" if tags.get("git.dirty") == "True" else ""
    commit = tags.get("git.commit", "")[:8] + changed or "-"
    created = version.created.astimezone().strftime("%Y-%m-%d %H:%M")
    return [str(version.number), ", ".join(version.aliases) or "-", *metrics, *digests, commit, created]


def version_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip() for cells in rows]
