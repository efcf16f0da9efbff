"""Tables that `dvc plots` draws: one CSV a training, written once, of at most some thousand rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.console.progress import Meter
from pipelines.tracking.tracker import NullTracker
from wssis.files import write_text

if TYPE_CHECKING:
    from wssis.training.state import Resume
    from wssis.training.trainer import (
        Progress,  # brings torch, which a search without trials need not wait for
    )

MAX_ROWS = 1000


class TrainingLog:
    """Follows a training: progress for the person, losses for MLflow, a curve for DVC.

    Use it in a `with` block and give `on_step` to the training; `write` at the end.
    """

    def __init__(self, name: str, total: int, tracker: NullTracker, resume: Resume | None = None) -> None:
        # Kept with the training's state: after a kill the curve continues.
        notes = resume.notes if resume is not None else {}
        self.rows: list[dict[str, float]] = notes.setdefault("curve", [])
        self.tracker = tracker
        self.noted = tracker.last_step("train/loss")  # steps that are done again are in MLflow already
        self.every = max(1, total // MAX_ROWS)
        self.meter = Meter(name, total, "steps", begun=resume.step if resume is not None else 0)

    def __enter__(self) -> TrainingLog:
        self.meter.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.meter.__exit__(*error)  # type: ignore[arg-type]

    def on_step(self, progress: Progress) -> None:
        """Takes in one step."""
        values = {**progress.losses, "learning_rate": progress.learning_rate}
        self.meter.step(f"loss {progress.losses['loss']:.3f}", progress.step)
        if progress.step > self.noted:
            self.tracker.metrics({f"train/{name}": value for name, value in values.items()}, progress.step)
        if progress.step % self.every == 0 or progress.step == progress.total:
            self.rows.append({"step": progress.step, **values})
        if progress.step == progress.total:
            self.tracker.metrics({"time/steps_per_second": progress.step / max(progress.seconds, 1e-9)})

    def write(self, path: Path) -> None:
        """Write the curve."""
        write_csv(path, self.rows)


def write_csv(path: Path, rows: Sequence[Mapping[str, float | int | str]]) -> None:
    """Rows of like keys as CSV, atomically; numbers with six digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["step"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    write_text(path, text.getvalue())
