"""Runs in MLflow: the experiment, a dvc command's parent, and how a killed stage's run is resumed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pipelines import paths
from pipelines.config.params import Params, flatten, load_params
from pipelines.provenance import PROCESS_TAG, process_tags, same_process, still_runs
from pipelines.tracking.store import server, store_lock
from pipelines.tracking.ui_views import TAG, shared_view

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking.client import MlflowClient

KIND = "WSSIS_RUN"  # environment variable: what a parent run is named, where it is no plain `dvc repro`
PARENT_TAG = "mlflow.parentRunId"
ERROR_TAG = "wssis.error"  # how a run ended that failed or was stopped


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment's id; made on first use."""
    from mlflow.exceptions import MlflowException

    root = paths.project_root()
    with store_lock(root):
        found = client.get_experiment_by_name(name)
        if found:
            return found.experiment_id
        # The default is relative to the current folder of the first process. A server has its own.
        location = None if server() else (root / paths.MLRUNS / name).as_uri()
        # Without a kind MLflow shows its pages for chats.
        tags = {"mlflow.experimentKind": "custom_model_development", TAG: shared_view({})}
        try:
            return client.create_experiment(name, artifact_location=location, tags=tags)
        except MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
            return found.experiment_id  # another machine was first


def parent_run(
    client: MlflowClient, experiment: str, dvc: psutil.Process, params: Params, going_on: Run | None = None
) -> str:
    """Id of a dvc command's run, made on first use.

    A command whose first stage resumes a killed one's run also resumes its parent, if that has the
    same params: then both are one `dvc repro` with a break.
    """
    tags = process_tags(dvc)
    given = flatten(project_params(params))
    with store_lock(paths.project_root()):
        same = client.search_runs([experiment], f"tags.`{PROCESS_TAG}` = '{tags[PROCESS_TAG]}'")
        for run in same:
            if same_process(run.data.tags, dvc) and PARENT_TAG not in run.data.tags:
                return run.info.run_id
        end_dead_runs(client, experiment)
        kind = os.environ.get(KIND, "repro")
        name = os.environ.get("DVC_EXP_NAME") or f"{kind} {time.strftime('%Y-%m-%d %H:%M:%S')}"
        earlier = existing(client, going_on.data.tags.get(PARENT_TAG) if going_on else None, experiment)
        if (
            earlier
            and not still_runs(earlier.data.tags)
            and earlier.data.params == _shown(given)
            and os.environ.get("DVC_EXP_NAME", earlier.info.run_name) == earlier.info.run_name
        ):
            return take_over(client, earlier, tags)
        run_id = client.create_run(experiment, tags=tags, run_name=name).info.run_id
        log_params(client, run_id, given)
    return run_id


def existing(client: MlflowClient, run_id: str | None, experiment: str) -> Run | None:
    """A run of the experiment, None if it is not there any more."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id) if run_id else None
    except MlflowException:
        return None
    return (
        run if run and (run.info.experiment_id, run.info.lifecycle_stage) == (experiment, "active") else None
    )


def take_over(client: MlflowClient, run: Run, tags: Mapping[str, str]) -> str:
    """Make a run that of another process; returns its id."""
    from mlflow.entities import RunTag

    client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    if ERROR_TAG in run.data.tags:
        client.delete_tag(run.info.run_id, ERROR_TAG)
    client.update_run(run.info.run_id, status="RUNNING")
    return run.info.run_id


def project_params(params: Params) -> Params:
    """Params of the whole pipeline: in a cell of `wssis compare`, not those of the cell."""
    return load_params(paths.dvc_workspace() / paths.PARAMS) if paths.cell() else params


def end_dead_runs(client: MlflowClient, experiment: str) -> None:
    """Mark runs KILLED whose process on this machine is gone: a killed run would stay RUNNING."""
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if not still_runs(run.data.tags):
            client.set_terminated(run.info.run_id, "KILLED")


def log_inputs(client: MlflowClient, run_id: str, inputs: Mapping[str, str]) -> None:
    """Note DVC's hashes of what a stage reads."""
    from mlflow.entities import Dataset, DatasetInput, RunTag

    data = [path for path in inputs if path.startswith("data/")]
    client.log_batch(run_id, tags=[RunTag(f"dvc/{path}", md5) for path, md5 in inputs.items()])
    sets = [Dataset(Path(path).stem, inputs[path][:36], "local", json.dumps({"uri": path})) for path in data]
    client.log_inputs(run_id, [DatasetInput(data_set, []) for data_set in sets])


def log_params(client: MlflowClient, run_id: str, values: Mapping[str, Any]) -> None:
    """Note parameters, many at a time."""
    from mlflow.entities import Param

    noted = [Param(name, value) for name, value in _shown(values).items()]
    for start in range(0, len(noted), 100):
        client.log_batch(run_id, params=noted[start : start + 100])


def _shown(values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as MLflow keeps them."""
    return {name: str(value)[:6000] for name, value in values.items()}
