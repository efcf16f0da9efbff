"""Runs in MLflow: one parent a `dvc repro`, a child a stage, in one store for all workspaces.

The store is `mlflow.db` in the project's folder, artifacts are in `mlruns/` beside it, also for queued
experiments; or it is a server (`pipelines.tracking.store`). Importing MLflow takes about 1.5 s, so functions
import it.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pipelines import paths
from pipelines.config.params import Params, flatten
from pipelines.provenance import dvc_inputs, dvc_process, process_tags
from pipelines.tracking.runs import (
    ERROR_TAG,
    PARENT_TAG,
    existing,
    experiment_id,
    log_inputs,
    log_params,
    parent_run,
    take_over,
)
from pipelines.tracking.store import open_store, store_error, store_uri
from pipelines.tracking.ui_views import TAG, shared_view
from wssis.errors import InputError

if TYPE_CHECKING:
    from mlflow.tracking.client import MlflowClient
    from torch import Tensor

BATCH = 500  # metrics that are kept back before one write (1000 take 0.1 s, one takes 0.02 s)
EVERY_S = 10.0


@dataclass(frozen=True)
class ChildRun:
    """A finished part of a stage's work.

    Attributes:
        metrics: names, values and steps.
        times: start and end in seconds since 1970.
        status: MLflow's.
    """

    name: str
    params: Mapping[str, Any]
    metrics: Sequence[tuple[str, float, int]]
    tags: Mapping[str, Any]
    times: tuple[float, float]
    status: str = "FINISHED"


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

    def child(self, run: ChildRun) -> None:
        """Log a finished part of the work as a run below this one."""

    def flush(self) -> None:
        """Write what is kept back."""

    def last_step(self, name: str) -> int:
        """The last step of a metric that the run has, from before it was killed; 0 without one."""
        return 0

    def close(self, error: str = "", killed: bool = False) -> None:
        """End the run: finished, or failed with `error`, or killed."""


class MlflowTracker(NullTracker):
    """A stage's run. Once it is open, a store that fails costs a warning and not the training."""

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        parent_id: str | None,
        experiment: str,
        goes_on: bool = False,
    ) -> None:
        self.run_id: str = run_id
        self._experiment = experiment
        self.parent_id = parent_id
        self._client = client
        self._waiting: list[Any] = []
        self._written = self._started = time.monotonic()
        self._warned = False
        self._pictures: dict[str, int] = {}
        self._monitor = _system_monitor(run_id, goes_on)

    def params(self, values: Mapping[str, Any]) -> None:
        log_params(self._client, self.run_id, values)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [Metric(name, float(value), now, step) for name, value in values.items()]
        if len(self._waiting) >= BATCH or time.monotonic() - self._written > EVERY_S:
            self.flush()

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

    def child(self, run: ChildRun) -> None:
        # Three writes, about 50 ms in all; by `metrics` and `params` of its own it would be dozens.
        from mlflow.entities import Metric, Param

        start, end = (int(1000 * seconds) for seconds in run.times)
        tags = {name: str(value) for name, value in run.tags.items()} | {PARENT_TAG: self.run_id}
        values = [Metric(key, float(value), end, step) for key, value, step in run.metrics]
        params = [Param(key, str(value)) for key, value in run.params.items()]

        def log() -> None:
            own = self._client.create_run(self._experiment, start, tags, run.name).info.run_id
            self._client.log_batch(own, metrics=values[:1000], params=params)
            self._client.set_terminated(own, run.status, end)

        self._try(log)

    def last_step(self, name: str) -> int:
        try:
            return max((m.step for m in self._client.get_metric_history(self.run_id, name)), default=0)
        except Exception:
            return 0

    def close(self, error: str = "", killed: bool = False) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
        self.metrics({"time/seconds": time.monotonic() - self._started, "memory/peak_mib": peak / 1.0})
        self.flush()
        if self._monitor:
            self._monitor.finish()
        if self._pictures:
            view = shared_view(self._pictures)
            self._try(self._client.set_experiment_tag, self._experiment, TAG, view)
        if error:
            self.tags({ERROR_TAG: error})
        status = "KILLED" if killed else "FAILED" if error else "FINISHED"
        for run_id in filter(None, (self.run_id, self.parent_id)):
            self._try(self._client.set_terminated, run_id, status)

    def flush(self) -> None:
        waiting, self._waiting, self._written = self._waiting, [], time.monotonic()
        for start in range(0, len(waiting), 1000):
            self._try(self._client.log_batch, self.run_id, metrics=waiting[start : start + 1000])

    def _try(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            call(*args, **kwargs)
        except Exception as error:
            if "DataLoader worker" in str(error):  # torch reports an ended process anywhere
                raise
            if not self._warned:
                print(f"wssis: warning: MLflow's store does not take this run: {error}", file=sys.stderr)
            self._warned = True


def open_tracker(
    stage: str,
    params: Params,
    sections: tuple[str, ...],
    run_id: str | None = None,
    keep: Callable[[str], None] = lambda run_id: None,
) -> MlflowTracker:
    """Start a stage's run, below the run of the dvc process that it belongs to (or alone without one).

    Args:
        stage: name of the run and of the stage in dvc.yaml.
        params: of the whole pipeline.
        sections: those that the stage uses; they become the run's parameters.
        run_id: a killed run of this stage, params and inputs, which is resumed if it still exists.
        keep: is given the run's id as soon as there is one, so that a kill does not lose it.

    Raises:
        InputError: the store cannot be opened.
    """
    try:
        client = open_store()
        experiment = experiment_id(client, params.tracking.experiment)
        earlier = existing(client, run_id, experiment)
        dvc = dvc_process()
        parent_id = parent_run(client, experiment, dvc, params, earlier) if dvc else None
        tags = process_tags(psutil.Process()) | {"wssis.stage": stage}
        cell = paths.cell()
        if cell:
            tags["wssis.cell"] = cell
        if parent_id:
            tags[PARENT_TAG] = parent_id
            client.update_run(parent_id, status="RUNNING")
        if earlier:
            run_id = take_over(client, earlier, tags)
        else:
            run_id = client.create_run(experiment, tags=tags, run_name=f"{stage} {cell}".strip()).info.run_id
        keep(run_id)
    except InputError:
        raise
    except Exception as error:
        raise store_error(error) from error
    tracker = MlflowTracker(client, run_id, parent_id, experiment, earlier is not None)
    if earlier is None or not earlier.data.params:
        used = {name: value for s in sections for name, value in flatten(getattr(params, s), s).items()}
        tracker.params(used)
        log_inputs(client, run_id, dvc_inputs(stage))
    return tracker


def _system_monitor(run_id: str, goes_on: bool) -> Any:
    """MLflow's own sampler of CPU, memory, disk, network and GPU; None where it cannot run."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    try:
        monitor = SystemMetricsMonitor(
            run_id, sampling_interval=5, resume_logging=goes_on, tracking_uri=store_uri()
        )
        monitor.start()
    except Exception:
        return None
    return monitor
