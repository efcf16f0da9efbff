"""Sections of params.yaml that the method knows nothing of: searches, comparison, tracking, processes."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seconds = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A section: no unknown key, no other type than the stated one (an int will do for a float)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Launcher(Section):
    """How many processes work at a stage; no stage runs again because of it.

    Results are the same but for rounding with `norms: frozen`; else statistics are of other parts.

    Attributes:
        kind: none: one process; torchrun: several that train one network together (DDP over the machine's
            GPUs, or its cores), and share the images out where a stage labels or predicts.
        processes: how many; not looked at where kind is none.
    """

    kind: Literal["none", "torchrun"] = "none"
    processes: Count = 1

    @property
    def count(self) -> int:
        """Processes of a stage."""
        return self.processes if self.kind == "torchrun" else 1


class Optuna(Section):
    """Where searches are kept.

    Attributes:
        storage: null: a journal file in the project's `.scratch`; a path: a journal file (from the project);
            or `postgresql://user@host/database`, `grpc://host:port`.
    """

    storage: Annotated[str, Field(min_length=1)] | None = None


class Promote(Section):
    """The gate of `wssis promote`, on `val`; scores are a student's AP, a labeler's worth
    (`pipelines.promotion.gate`).

    Attributes:
        min_gain: score of the candidate less that of the model in production, at least.
        max_class_loss: of its score that a class may lose, at most.
        min_sure: share of resamples of the images that must have the gain, at least.
        resamples: how many are drawn (paired bootstrap).
    """

    min_gain: Annotated[float, Field(ge=-1, le=1)] = 0.0
    max_class_loss: Annotated[float, Field(ge=0, le=2)] = 0.05
    min_sure: Annotated[float, Field(ge=0, le=1)] = 0.5
    resamples: Annotated[int, Field(ge=100)] = 1000


Row = Literal[
    "strong_only", "predicted", "image_level", "fixed_level", "adaptive_level", "refined", "ours", "oracle"
]


class Compare(Section):
    """What `wssis compare` sets side by side; `seed` and `split.strong` have no part in it.

    Attributes:
        fractions: values of `split.strong`.
        seeds: values of `seed`; the table has their mean and standard deviation.
        rows: labels that a student is trained on, see `pipelines/comparison/rows.py`.
        iterations: of each training, in place of its own number where that is larger; null: its own.
        class_seconds: to say whether an image shows a class (Bearman et al., ECCV 2016), for `image_level`.
    """

    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.05, 0.1, 0.2, 0.5)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    rows: Annotated[tuple[Row, ...], Field(min_length=1)] = get_args(Row)
    iterations: Count | None = None
    class_seconds: Seconds = 1.0

    @model_validator(mode="after")
    def _each_once(self) -> Compare:
        for name in ("fractions", "seeds", "rows"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"expected each of compare.{name} once")
        return self


class Tracking(Section):
    """Where runs are written in MLflow."""

    experiment: Annotated[str, Field(min_length=1, pattern=r"^[\w .-]+$")] = "wssis"
