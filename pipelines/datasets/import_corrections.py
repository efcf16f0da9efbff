"""`wssis import --into`: labels that people corrected over those of an earlier import."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipelines import paths
from pipelines.config.imported_data import check_renewal, renew
from pipelines.config.protected_paths import check_own
from pipelines.console.text import pluralize
from pipelines.datasets.import_labels import (
    SOURCE,
    check_sources,
    counts,
    origin,
    read_sources,
    summary,
    write_import,
)
from wssis.data.coco import load_coco
from wssis.data.corrections import merge
from wssis.errors import InputError
from wssis.formats.records import Options


def import_corrections(
    kind: str, sources: Sequence[str], images: str | None, into: str, options: Options, replacing: bool
) -> None:
    """Replace the labels of the images that the sources name, and leave all others as they are.

    Args:
        kind, sources, options, replacing: see `import_labels`.
        images: folder of the images; None: that of the earlier import.
        into: folder of the earlier import.

    Raises:
        InputError: no earlier import, wrong sources, an image that it has not, or labels that the pipeline
            could not use; nothing is written.
    """
    folder = Path(into)
    check_own(into=into, images=images)
    if not (folder / paths.INSTANCES).exists():
        raise InputError(
            f"expected {paths.INSTANCES} to correct, found none",
            where=folder,
            remedy="Import with --out first",
        )
    check_sources(kind, sources)
    base = load_coco(folder / paths.INSTANCES)
    with tempfile.TemporaryDirectory() as unused:
        # What a source embeds is an image that is there already.
        found = read_sources(kind, sources, images or base.image_dir, Path(unused), None, options, replacing)
    merged = merge(base, replace(found.data, path=Path(sources[0])))
    check_renewal(folder, merged)
    note = json.loads((folder / SOURCE).read_text()) if (folder / SOURCE).exists() else {}
    made = {**origin(kind, sources, options, replacing, found.notices), "counts": counts(found.data)}
    note |= {"corrections": [*note.get("corrections", []), made], "counts": counts(merged)}
    write_import(folder, merged, note)
    print("\n".join(summary(folder / paths.INSTANCES, note["counts"], found.notices)))
    corrected = [image for image in merged.images if image.corrected]
    weak = [image.file_name for image in corrected if not image.strong]
    print(
        f"{pluralize(len(found.data.images), 'image')} corrected now; "
        f"{len(corrected) - len(weak)} corrected ones are fully drawn, and strong"
        + (f"; not yet: {', '.join(weak[:3])}{', …' if len(weak) > 3 else ''}" if weak else "")
    )
    renew(folder)
