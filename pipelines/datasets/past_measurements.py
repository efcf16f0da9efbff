"""AP that past runs measured, and the masks and points that it took: MLflow's runs and `wssis compare`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines import paths
from pipelines.config.params import flatten, read_lock
from pipelines.config.schema import Params
from pipelines.tracking.store import open_store, store_exists
from wssis.label_budget import Measured

# Sections of params that must be as they are today: else another network or training made the AP.
SAME = ("model", "resize", "augment", "teacher", "student")


def own_measurements(params: Params) -> tuple[list[Measured], dict[str, int]]:
    """What past runs measured on today's validation set; and how many were left out, by reason."""
    if not paths.PREPARED_VAL.exists():
        return [], {}
    val = hashlib.md5(paths.PREPARED_VAL.read_bytes(), usedforsecurity=False).hexdigest()
    measured, left_out = runs_of(params, val)
    return measured + compared(params, val), left_out


def runs_of(params: Params, val: str) -> tuple[list[Measured], dict[str, int]]:
    """Measurements of `dvc repro` and experiments in MLflow, two a run; runs left out, by reason.

    Args:
        params: of today; a run with another network or training is left out.
        val: DVC's hash of the validation set; a run with another is left out.
    """
    if not store_exists():
        return [], {}
    client = open_store()
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    if experiment is None:
        return [], {}
    runs = list(every_run(client, experiment.experiment_id))
    vals = {
        run.data.tags.get("mlflow.parentRunId"): run.data.tags.get(f"dvc/{paths.PREPARED_VAL}")
        for run in runs
        if run.data.tags.get("wssis.stage") == "evaluate"
    }
    today = {name: str(value)[:6000] for name, value in flatten(params).items() if name.split(".")[0] in SAME}
    measured: list[Measured] = []
    left_out = {"other validation images": 0, "another network or other trainings": 0}
    for run in runs:
        metrics, given = run.data.metrics, run.data.params
        if (
            "mlflow.parentRunId" in run.data.tags
            or "student_AP" not in metrics
            or "label_hours" not in metrics
        ):
            continue
        if vals.get(run.info.run_id) != val:
            left_out["other validation images"] += 1
        elif any(given.get(name, value) != value for name, value in today.items()):
            left_out["another network or other trainings"] += 1
        else:
            measured += of_run(metrics, given)
    return measured, {reason: count for reason, count in left_out.items() if count}


def every_run(client: Any, experiment: str) -> Iterator[Any]:
    """All runs of an experiment, page by page."""
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def of_run(metrics: Mapping[str, float], given: Mapping[str, str]) -> list[Measured]:
    """What strong_only and student of a run measured; the counts of labels follow from the two hours."""
    mask, point = float(given.get("prices.mask", 79.2)), float(given.get("prices.point", 1.9))
    if mask <= point:
        return []
    objects = metrics["full_label_hours"] * 3600 / mask
    masks = (metrics["label_hours"] * 3600 - objects * point) / (mask - point)
    if masks <= 0:
        return []
    found = [Measured(masks, 0.0, metrics["strong_only_AP"])]
    return [*found, Measured(masks, max(objects - masks, 0.0), metrics["student_AP"])]


def compared(params: Params, val: str) -> list[Measured]:
    """What `wssis compare` measured, where it was on this validation set and with unshortened trainings."""
    lock = paths.COMPARE_YAML.with_name("dvc.lock")
    if not (paths.COMPARE_RESULTS.exists() and lock.exists()):
        return []
    found = json.loads(paths.COMPARE_RESULTS.read_text())
    stages = read_lock(lock).get("stages", {})
    vals = {
        dep.get("md5")
        for name, stage in stages.items()
        if name.startswith("evaluate@")
        for dep in stage.get("deps", [])
        if dep["path"].endswith(str(paths.PREPARED_VAL))
    }
    settings = found["settings"]
    steps = {name: train.iterations for name, train in params.trainings().items()}
    if settings["data"] != params.tracking.experiment or settings["iterations"] != steps or vals != {val}:
        return []
    rows = {(row["row"], row["fraction"]): row for row in found["rows"]}
    measured = []
    for (row, fraction), entry in rows.items():
        alone = rows.get(("strong_only", fraction))
        if alone is None or row not in ("strong_only", "ours"):
            continue
        masks = alone["label_hours"] * 3600 / params.prices.mask
        points = (entry["label_hours"] - alone["label_hours"]) * 3600 / max(params.prices.point, 1e-9)
        measured.append(Measured(masks, points, entry["AP"]))
    return [one for one in measured if one.masks > 0]
