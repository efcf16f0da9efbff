"""Runs in MLflow: one parent a `dvc repro`, a child a stage, in one store for all workspaces.

The store is `mlflow.db` in the project's folder, artifacts lie in `mlruns/` beside it, also for queued
experiments. Importing MLflow takes about 1.5 s, so that it happens inside functions.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pipelines import paths
from pipelines.params import Params, flatten, load_params
from pipelines.provenance import PROCESS_TAG, dvc_inputs, dvc_process, process_tags, same_process, still_runs
from pipelines.store import open_store, store_lock, store_uri
from pipelines.views import TAG, shared_view
from wssis.errors import InputError

if TYPE_CHECKING:
    from mlflow.tracking.client import MlflowClient
    from torch import Tensor

BATCH = 500  # metrics that are kept back before one write (1000 take 0.1 s, one takes 0.02 s)
EVERY_S = 10.0
KIND = "WSSIS_RUN"  # environment variable: what a parent run is named, where it is no plain `dvc repro`


class NullTracker:
    """Tracking that goes nowhere; also the interface of tracking."""

    run_id: str | None = None

    def params(self, values: Mapping[str, Any]) -> None:
        """Note parameters (flattened names, any values)."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Note metrics of a step; written in batches."""

    def headline(self, values: Mapping[str, float]) -> None:
        """Note metrics of the stage that also stand for the whole pipeline."""

    def tags(self, values: Mapping[str, Any]) -> None:
        """Note facts that are neither parameters nor numbers."""

    def file(self, path: str | Path, folder: str = "") -> None:
        """Keep a copy of a file or folder with the run."""

    def picture(self, key: str, picture: Tensor, step: int = 0) -> None:
        """Keep a picture (3, H, W) uint8 with the pipeline's run; the UI lines up a key by step and run."""

    def child(
        self,
        name: str,
        params: Mapping[str, Any],
        metrics: Sequence[tuple[str, float, int]],
        tags: Mapping[str, Any],
        times: tuple[float, float],
        status: str = "FINISHED",
    ) -> None:
        """Note a part of the work that is over as a run of its own below this one.

        `metrics` are names, values and steps; `times` its start and end in seconds since 1970.
        """

    def close(self, error: str = "") -> None:
        """End the run: finished, or failed with `error`."""


class MlflowTracker(NullTracker):
    """A stage's run. Once it is open, a store that fails costs a warning and not the training."""

    def __init__(self, client: MlflowClient, run_id: str, parent_id: str | None, experiment: str) -> None:
        self.run_id: str = run_id
        self._experiment = experiment
        self.parent_id = parent_id
        self._client = client
        self._waiting: list[Any] = []
        self._written = self._started = time.monotonic()
        self._warned = False
        self._pictures: dict[str, int] = {}
        self._monitor = _system_monitor(run_id)

    def params(self, values: Mapping[str, Any]) -> None:
        _log_params(self._client, self.run_id, values)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [Metric(name, float(value), now, step) for name, value in values.items()]
        if len(self._waiting) >= BATCH or time.monotonic() - self._written > EVERY_S:
            self._flush()

    def headline(self, values: Mapping[str, float]) -> None:
        self.metrics(values)
        if self.parent_id:
            cell = paths.cell()  # a parent has the figures of many cells
            for name, value in values.items():
                name = f"{cell}/{name}" if cell else name
                self._try(self._client.log_metric, self.parent_id, name, float(value))

    def tags(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._try(self._client.set_tag, self.run_id, name, str(value))

    def file(self, path: str | Path, folder: str = "") -> None:
        log = self._client.log_artifacts if Path(path).is_dir() else self._client.log_artifact
        self._try(log, self.run_id, str(path), folder or None)

    def picture(self, key: str, picture: Tensor, step: int = 0) -> None:
        pixels = picture.permute(1, 2, 0).contiguous().numpy()
        self._pictures[key] = max(step, self._pictures.get(key, 0))
        self._try(self._client.log_image, self.parent_id or self.run_id, pixels, key=key, step=step)

    def child(
        self,
        name: str,
        params: Mapping[str, Any],
        metrics: Sequence[tuple[str, float, int]],
        tags: Mapping[str, Any],
        times: tuple[float, float],
        status: str = "FINISHED",
    ) -> None:
        # Three writes, about 50 ms in all; by `metrics` and `params` of its own it would be dozens.
        from mlflow.entities import Metric, Param

        start, end = (int(1000 * seconds) for seconds in times)

        def note() -> None:
            noted = {name: str(value) for name, value in tags.items()} | {"mlflow.parentRunId": self.run_id}
            own = self._client.create_run(self._experiment, start, noted, name).info.run_id
            values = [Metric(key, float(value), end, step) for key, value, step in metrics]
            given = [Param(key, str(value)) for key, value in params.items()]
            self._client.log_batch(own, metrics=values[:1000], params=given)
            self._client.set_terminated(own, status, end)

        self._try(note)

    def close(self, error: str = "") -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
        self.metrics({"time/seconds": time.monotonic() - self._started, "memory/peak_mib": peak / 1.0})
        self._flush()
        if self._monitor:
            self._monitor.finish()
        if self._pictures:
            view = shared_view(self._pictures)
            self._try(self._client.set_experiment_tag, self._experiment, TAG, view)
        if error:
            self.tags({"wssis.error": error})
        status = "FAILED" if error else "FINISHED"
        for run_id in filter(None, (self.run_id, self.parent_id)):
            self._try(self._client.set_terminated, run_id, status)

    def _flush(self) -> None:
        waiting, self._waiting, self._written = self._waiting, [], time.monotonic()
        for start in range(0, len(waiting), 1000):
            self._try(self._client.log_batch, self.run_id, metrics=waiting[start : start + 1000])

    def _try(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            call(*args, **kwargs)
        except Exception as error:
            if not self._warned:
                print(f"wssis: warning: MLflow's store does not take this run: {error}", file=sys.stderr)
            self._warned = True


def open_tracker(stage: str, params: Params, sections: tuple[str, ...]) -> MlflowTracker:
    """Start a stage's run, below the run of the dvc process that it belongs to (or alone without one).

    Args:
        stage: name of the run and of the stage in dvc.yaml.
        params: of the whole pipeline.
        sections: those that the stage uses; they become the run's parameters.

    Raises:
        InputError: the store cannot be opened.
    """
    try:
        client = open_store()
        experiment = _experiment(client, params.tracking.experiment)
        dvc = dvc_process()
        parent_id = _parent_run(client, experiment, dvc, params) if dvc else None
        tags = process_tags(psutil.Process()) | {"wssis.stage": stage}
        cell = paths.cell()
        if cell:
            tags["wssis.cell"] = cell
        if parent_id:
            tags["mlflow.parentRunId"] = parent_id
            client.update_run(parent_id, status="RUNNING")
        run_id = client.create_run(experiment, tags=tags, run_name=f"{stage} {cell}".strip()).info.run_id
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"expected MLflow's store, found: {error}",
            where=paths.project_root() / paths.STORE,
            remedy="Move the file away and run again: a new store is made",
        ) from error
    tracker = MlflowTracker(client, run_id, parent_id, experiment)
    tracker.params({name: value for s in sections for name, value in flatten(getattr(params, s), s).items()})
    _log_inputs(client, run_id, dvc_inputs(stage))
    return tracker


def _experiment(client: MlflowClient, name: str) -> str:
    root = paths.project_root()
    with store_lock(root):
        found = client.get_experiment_by_name(name)
        if found:
            return found.experiment_id
        # Explicit, since the default is relative to the folder of whoever comes first.
        return client.create_experiment(
            name,
            artifact_location=(root / paths.MLRUNS / name).as_uri(),
            # Without a kind MLflow shows its pages for chats.
            tags={"mlflow.experimentKind": "custom_model_development", TAG: shared_view({})},
        )


def _parent_run(client: MlflowClient, experiment: str, dvc: psutil.Process, params: Params) -> str:
    tags = process_tags(dvc)
    with store_lock(paths.project_root()):
        same = client.search_runs([experiment], f"tags.`{PROCESS_TAG}` = '{tags[PROCESS_TAG]}'")
        for run in same:
            if same_process(run.data.tags, dvc) and "mlflow.parentRunId" not in run.data.tags:
                return run.info.run_id
        _end_dead_runs(client, experiment)
        kind = os.environ.get(KIND, "repro")
        name = os.environ.get("DVC_EXP_NAME") or f"{kind} {time.strftime('%Y-%m-%d %H:%M:%S')}"
        run_id = client.create_run(experiment, tags=tags, run_name=name).info.run_id
        _log_params(client, run_id, flatten(project_params(params)))
    return run_id


def project_params(params: Params) -> Params:
    """Params of the whole pipeline: in a cell of `wssis compare`, not those of the cell."""
    return load_params(paths.dvc_workspace() / paths.PARAMS) if paths.cell() else params


def _end_dead_runs(client: MlflowClient, experiment: str) -> None:
    """Mark runs KILLED whose process on this machine is gone: a killed run would stay RUNNING."""
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if not still_runs(run.data.tags):
            client.set_terminated(run.info.run_id, "KILLED")


def _log_inputs(client: MlflowClient, run_id: str, inputs: Mapping[str, str]) -> None:
    from mlflow.entities import Dataset, DatasetInput, RunTag

    data = [path for path in inputs if path.startswith("data/")]
    client.log_batch(run_id, tags=[RunTag(f"dvc/{path}", md5) for path, md5 in inputs.items()])
    sets = [Dataset(Path(path).stem, inputs[path][:36], "local", json.dumps({"uri": path})) for path in data]
    client.log_inputs(run_id, [DatasetInput(data_set, []) for data_set in sets])


def _log_params(client: MlflowClient, run_id: str, values: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    noted = [Param(name, str(value)[:6000]) for name, value in values.items()]
    for start in range(0, len(noted), 100):
        client.log_batch(run_id, params=noted[start : start + 100])


def _system_monitor(run_id: str) -> Any:
    """MLflow's own sampler of CPU, memory, disk, network and GPU; None where it cannot run."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    try:
        monitor = SystemMetricsMonitor(run_id, sampling_interval=5, tracking_uri=store_uri())
        monitor.start()
    except Exception:
        return None
    return monitor
