"""Folders that belong to the pipeline: DVC empties them before a stage writes there, and on checkout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines import paths
from pipelines.config.params import read_lock
from wssis.errors import InputError


def check_own(**given: str | Path | None) -> None:
    """Refuse a person's file or folder in a place that the pipeline writes; None is passed over.

    Args:
        given: paths by the name of their option, `images="data/prepared/train"`.

    Raises:
        InputError: one is in or beside what a stage of dvc.yaml writes; the line names both.
    """
    for option, path in given.items():
        for folder in () if path is None else stage_folders():
            if Path(path or "").resolve().is_relative_to(folder.resolve()):
                raise InputError(
                    f"{folder} is managed by the pipeline and may be overwritten",
                    where=f"--{option.replace('_', '-')} {path}",
                    remedy="Choose another folder, such as one beside the project or data/mine",
                )


def stage_folders() -> Iterator[Path]:
    """The folders of what stages write, from the project; none outside of a project."""
    if not paths.DVC_YAML.exists():
        return
    found = {paths.COMPARE_CELLS, paths.COMPARE_MEASURED}
    for stage in read_lock(paths.DVC_YAML).get("stages", {}).values():
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get(kind, []):
                path = Path(next(iter(out)) if isinstance(out, dict) else out)
                found |= {path, path.parent}
    yield from sorted(found - {Path()}, key=lambda folder: len(folder.parts))
