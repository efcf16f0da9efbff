"""What a registered version comes from, printed: commit, digests, metrics, runs, params, DVC's hashes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.config.params import flatten, read_lock, read_yaml
from pipelines.provenance import dvc_outs
from pipelines.registry import versions
from pipelines.registry.lineage import DATA_DIGEST, RUN_TAG, VAL_DIGEST
from pipelines.registry.register import CONTENT_TAG, ORIGIN
from pipelines.registry.restore import restore
from pipelines.registry.versions import Version

FACTS = ("git.commit", "git.dirty", VAL_DIGEST, DATA_DIGEST, CONTENT_TAG)
GROUPS = {"runs": RUN_TAG, "promotion": "promote/", "": "dvc/"}  # the last are among the files, too

Say = Callable[[str], None]


def trace(uri: str, checkout: str | None = None, say: Say = print) -> None:
    """Print where a version comes from; with `checkout`, restore that in a folder and measure again.

    Raises:
        InputError: no such version; and what `restore` refuses.
    """
    version = versions.find_uri(uri)
    if checkout is None:
        describe(version, say)
    else:
        restore(version, Path(checkout), say)


def describe(version: Version, say: Say = print) -> None:
    """Print what is known of a version."""
    say(f"{version.uri}  {', '.join(version.aliases)}".rstrip())
    tags = dict(version.tags)
    known = {"registered": version.created.isoformat(timespec="seconds"), "run": version.run_id}
    say("".join(f"  {key}: {value}\n" for key, value in known.items()).rstrip())
    for key in FACTS:
        say(f"  {key}: {tags.pop(key, '') or 'not known'}")
    grouped = tuple(GROUPS.values())
    _section("metrics", {key: value for key, value in tags.items() if not key.startswith(grouped)}, say)
    for title, prefix in GROUPS.items():
        if title:
            found = {k.removeprefix(prefix): v for k, v in tags.items() if k.startswith(prefix)}
            _section(title, found, say)
    folder = version.files.parent / ORIGIN
    if not (folder / paths.DVC_LOCK).exists():
        say("\nno dvc.lock: it was registered outside of `dvc repro`, or by an earlier wssis")
        return
    _section("params", flatten(read_yaml(folder / paths.PARAMS)), say)
    hashes = dvc_outs(read_lock(folder / paths.DVC_LOCK)["stages"].values())
    _section("files, with their hashes in dvc.lock", hashes, say)


def _section(title: str, values: Mapping[str, Any], say: Say) -> None:
    if values:
        say(f"\n{title}")
    for key, value in values.items():
        say(f"  {key}: {value}")
