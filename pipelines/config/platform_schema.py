"""Sections of params.yaml that only the platform uses: searches, comparison, tracking, processes."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seconds = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A section: unknown keys and other types than declared are errors (but an int passes as a float)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Launcher(Section):
    """How many processes run a stage: docs/scale.md. Changing it reruns nothing.

    Results are the same up to rounding with `norms: frozen`; otherwise batch statistics differ.

    Attributes:
        kind: none | torchrun. Several processes train one network together (DDP over the machine's GPUs or
            cores) and share the images where a stage labels or predicts.
        processes: one for each GPU; ignored where kind is none.
    """

    kind: Literal["none", "torchrun"] = "none"
    processes: Count = 1

    @property
    def count(self) -> int:
        """Processes of a stage."""
        return self.processes if self.kind == "torchrun" else 1


class Optuna(Section):
    """Where searches are stored.

    Attributes:
        storage: null: a journal file in .scratch; or a path, postgresql://user@host/database, grpc://host:port.
    """

    storage: Annotated[str, Field(min_length=1)] | None = None


class Promote(Section):
    """What `wssis promote` requires of a version, measured on val.

    The score is a student's AP, or a labeler's utility: see `pipelines.promotion.gate`.

    Attributes:
        min_gain: minimum gain in score over the version in production.
        max_class_loss: maximum loss in score of any class.
        min_sure: minimum share of resamples of the images that show the gain.
        resamples: number of resamples (paired bootstrap).
    """

    min_gain: Annotated[float, Field(ge=-1, le=1)] = 0.0
    max_class_loss: Annotated[float, Field(ge=0, le=2)] = 0.05
    min_sure: Annotated[float, Field(ge=0, le=1)] = 0.5
    resamples: Annotated[int, Field(ge=100)] = 1000


Row = Literal[
    "strong_only", "predicted", "image_level", "fixed_level", "adaptive_level", "refined", "ours", "oracle"
]
# "ours" without one of its parts: the ablation
Part = Literal["no_refiner", "no_color", "cold_start", "equal_images", "equal_weight", "no_paste"]


class Compare(Section):
    """What `wssis compare` compares; seed and split.strong do not apply to it.

    Attributes:
        fractions: values of split.strong.
        seeds: values of seed; the table shows mean and standard deviation.
        rows: what a student is trained on and how, see pipelines/comparison/rows.py.
        iterations: upper limit for each training; null: none.
        class_seconds: to say whether an image shows a class (Bearman et al., ECCV 2016), for image_level.
    """

    fractions: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.05, 0.1, 0.2, 0.5)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    rows: Annotated[tuple[Row | Part, ...], Field(min_length=1)] = get_args(Row)
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
    """Where runs are logged.

    Attributes:
        experiment: of MLflow.
    """

    experiment: Annotated[str, Field(min_length=1, pattern=r"^[\w .-]+$")] = "wssis"
