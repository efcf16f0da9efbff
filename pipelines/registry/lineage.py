"""What a registered version comes from: the files that bring it back, and facts to find it by.

A version carries its own code and the files that `collect` copies. With git's commit and DVC's cache they
are enough to restore the workspace that it was made in, also if changes were not committed yet: a
`dvc repro` always ends before its results can be.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.config.params import Params, flatten, read_lock, read_yaml, write_yaml
from pipelines.provenance import dvc_given, dvc_outs, git_state
from wssis.errors import InputError

VAL_DIGEST = "val.digest"  # SHA-256 of the validation set: annotations and pixels
DATA_DIGEST = "data.digest"  # SHA-256 of the hashes of what prepare and split wrote
RUN_TAG = "run/"  # run/<stage>: the run in MLflow that made what the stage wrote
SOURCES = ("prepare", "split")  # stages whose outs are the data


def collect(stage: str, folder: Path) -> None:
    """Copy to `folder` what the stages above `stage` were given and wrote, where DVC's cache lacks it.

    These are dvc.yaml, params.yaml, files under `cache: false` (metrics, tuned values), and dvc.lock with
    those stages only: what comes after `stage` may be of an earlier run. Nothing without dvc.lock.
    """
    if not (paths.DVC_YAML.exists() and paths.DVC_LOCK.exists()):
        return
    lock = read_yaml(paths.DVC_LOCK)  # as DVC reads it: what is written again must not differ
    names = upstream(stage, lock)
    folder.mkdir(parents=True, exist_ok=True)
    write_yaml(folder / paths.DVC_LOCK, lock | {"stages": {n: lock["stages"][n] for n in names}})
    for path in [paths.DVC_YAML, paths.PARAMS, *uncached(names, paths.DVC_YAML)]:
        if path.exists():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / path)


def facts() -> dict[str, str]:
    """Tags of a version: git commit, and the digest of the data where DVC knows it."""
    commit, dirty = git_state()
    found = {"git.commit": commit, "git.dirty": str(dirty)}
    if paths.DVC_LOCK.exists():
        stages = read_lock(paths.DVC_LOCK).get("stages", {})
        hashes = [dvc_outs([stages[name]]) for name in SOURCES if name in stages]
        found[DATA_DIGEST] = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    return found


def upstream(stage: str, lock: dict[str, Any]) -> list[str]:
    """Stages in dvc.lock that `stage` depends on, directly or not, in the order of the lock; not itself."""
    makers = {path: name for name, entry in lock.get("stages", {}).items() for path in dvc_outs([entry])}
    waiting = dvc_given(stage)
    found: set[str] = set()
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is None or maker in found or maker == stage:
            continue
        found.add(maker)
        entry = lock["stages"][maker]
        waiting += [dep["path"] for dep in entry.get("deps", [])] + list(entry.get("params", {}))
    return [name for name in lock.get("stages", {}) if name in found]


def uncached(stages: Collection[str], dvc_yaml: Path) -> list[Path]:
    """Outs, metrics and plots of some stages that DVC does not keep in its cache."""
    return [path for name in stages for path, options in _declared(name, dvc_yaml) if not options]


def _declared(stage: str, dvc_yaml: Path) -> Iterator[tuple[Path, bool]]:
    """(path, whether cached) of each out of a stage."""
    entry = read_lock(dvc_yaml)["stages"].get(stage, {})
    for kind in ("outs", "metrics", "plots"):
        for out in entry.get(kind, []):
            named = out if isinstance(out, dict) else {out: {}}
            for path, options in named.items():
                yield Path(path), (options or {}).get("cache", True)


def val_digest(annotations: Path) -> str:
    """SHA-256 of a COCO JSON file and of the images that it names; where they lie makes no difference.

    Raises:
        InputError: an image is missing, or the file is no COCO JSON.
    """
    try:
        document = json.loads(annotations.read_bytes())
        names = [str(image["file_name"]) for image in document["images"]]
        info = document.pop("info")
        folder = paths.source(info["image_dir"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"expected COCO JSON as the stage prepare writes it, found {error!r}",
            where=annotations,
            remedy="`dvc checkout data/prepared`, or `dvc repro prepare`",
        ) from error
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name in names:
        try:
            digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
        except OSError as error:
            raise InputError(
                f"cannot be read ({error.strerror})",
                where=os.path.join(folder, name),
                remedy=f"Put the image there that {annotations} names",
            ) from error
    return digest.hexdigest()


def runs(client: Any, params: Params, folder: Path) -> dict[str, str]:
    """The runs in MLflow that made what the stages in the dvc.lock of `folder` wrote, where they are known.

    A stage that DVC skipped ran in an earlier `dvc repro`, so its run is found by what went in: the newest
    that finished with the inputs and params that the lock names.

    Returns:
        {`run/<stage>`: run id}.
    """
    lock = read_lock(folder / paths.DVC_LOCK) if (folder / paths.DVC_LOCK).exists() else {}
    hashes = dvc_outs(lock.get("stages", {}).values())
    noted = {name: str(value)[:6000] for name, value in flatten(params).items()}  # as tracking notes them
    experiments = [item.experiment_id for item in client.search_experiments()]
    found = {}
    for stage, entry in lock.get("stages", {}).items():
        given = [dep["path"] for dep in entry.get("deps", [])] + list(entry.get("params", {}))
        inputs = {f"dvc/{path}": hashes[path] for path in given if path in hashes}
        sections = entry.get("params", {}).get(str(paths.PARAMS), {})
        values = {k: v for k, v in noted.items() if any(f"{k}.".startswith(f"{s}.") for s in sections)}
        finished = client.search_runs(
            experiments,
            f"tags.`wssis.stage` = '{stage}' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
        for run in finished:
            if inputs.items() <= run.data.tags.items() and values.items() <= run.data.params.items():
                found[f"{RUN_TAG}{stage}"] = run.info.run_id
                break
    return found
