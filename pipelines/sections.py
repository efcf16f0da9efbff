"""The sections of params.yaml; those of the method are settings dataclasses that wssis declares."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wssis.settings import (
    AugmentSettings,
    DecodeSettings,
    PseudoRules,
    RefinerSettings,
    ResizeSettings,
    SOLOv2Settings,
    TrainSettings,
)

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seconds = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """A section: no unknown key, no other type than the stated one (an int will do for a float)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Shapes(Section):
    """The generated data set; its seed is apart from `seed`, so that runs share one validation set."""

    train: Count = 200
    val: Count = 150
    size: Annotated[int, Field(ge=32, le=4096)] = 96
    seed: Seed = 0


class Folder(Section):
    """COCO instance JSON and the folder of its images; relative paths start at the project.

    Attributes:
        sha256: of the annotations; with it DVC sees that labels have changed, and others are refused. `wssis
            preset --data` and `wssis import` write it. null: whatever is in the file is used.
    """

    annotations: Annotated[str, Field(min_length=1)]
    images: Annotated[str, Field(min_length=1)]
    sha256: str | None = None


class Data(Section):
    """Where images and labels come from."""

    source: Literal["shapes", "coco"] = "shapes"
    shapes: Shapes = Shapes()
    train: Folder | None = None
    val: Folder | None = None

    @model_validator(mode="after")
    def _folders_are_given(self) -> Data:
        if self.source == "coco" and (self.train is None or self.val is None):
            missing = "train" if self.train is None else "val"
            raise ValueError(f"expected data.{missing} with annotations and images where source is coco")
        return self


class Split(Section):
    """Which images keep their masks, and where the points of the others come from.

    Attributes:
        strong: share of training images that keep their masks; 1: all that have masks of all their objects.
        holdout: share of the strong images on which every choice is made; the teacher never sees them.
        points: where in its mask an object's point is put.
        jitter: pixels; every made point is moved by up to so much.
        clicked: a person's points file, used instead of made points.
    """

    strong: Annotated[float, Field(gt=0, le=1)] = 0.1
    holdout: Fraction = 0.2
    points: Literal["center", "random"] = "center"
    jitter: Annotated[float, Field(ge=0)] = 0.0
    clicked: str | None = None


class Teacher(Section):
    """The training on strong images.

    Attributes:
        train: see `TrainSettings`.
        snapshots: shares of the training after which the two earlier teachers are kept.
        cells, grids, ranges: the teacher's own levels, where they are not the student's (the paper);
            empty: those of `model`.
    """

    train: TrainSettings
    snapshots: tuple[Fraction, Annotated[float, Field(gt=0, le=1)]] = (0.5, 0.833)
    cells: tuple[int, ...] = ()
    grids: tuple[int, ...] = ()
    ranges: tuple[tuple[float, float], ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Teacher:
        if self.snapshots[0] >= self.snapshots[1]:
            raise ValueError("expected snapshots in ascending order")
        return self


class Student(Section):
    """The training on strong and pseudo-labelled images; strong-only is the same without the latter.

    Attributes:
        strong_repeats: how often a strong image is shown for each time that a weak one is.
    """

    train: TrainSettings
    strong_repeats: Count = 1


class Refiner(Section):
    """MaskRefineNet.

    Attributes:
        model: see `RefinerSettings`.
        train: see `TrainSettings`; its batch_size counts crops.
        crops: taken from an image at a time.
        dice_share: of Dice in the loss, the rest is cross-entropy; 0.5 weighs them alike.
        augment: strength of the random changes of crops: colour, and scale within `model.scale_range`.
    """

    model: RefinerSettings
    train: TrainSettings
    crops: Count = 4
    dice_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    augment: Annotated[float, Field(ge=0, le=3)] = 1.0


class TuneRefiner(Section):
    """The search for settings of the refiner.

    Attributes:
        n_trials: trainings, that of the defaults included; 0: leave the settings as they are.
        iterations: steps of each.
        use_tuned: false: the section `refiner` holds, whatever was found.
    """

    n_trials: Annotated[int, Field(ge=0)] = 0
    iterations: Annotated[int, Field(ge=4)] = 64
    use_tuned: bool = True


class TunePseudo(Section):
    """The search for pseudo-label rules; with `use_tuned: false` the rules of `pseudo` hold."""

    n_trials: Annotated[int, Field(ge=0)] = 20
    use_tuned: bool = True


class Optuna(Section):
    """Where searches are kept.

    Attributes:
        storage: null: a journal file in the project's `.scratch`; a path: a journal file (from the project);
            or `postgresql://user@host/database`, `grpc://host:port`.
    """

    storage: Annotated[str, Field(min_length=1)] | None = None


class Evaluate(Section):
    """How predictions on `val` are made and measured, `pictures` drawn; `faster` is faster-coco-eval."""

    decode: DecodeSettings
    batch_size: Count = 8
    pictures: Annotated[int, Field(ge=0)] = 6
    backend: Literal["pycocotools", "faster"] = "pycocotools"


class Promote(Section):
    """The gate of `wssis promote`, on `val`; scores are a student's AP, a labeler's worth (`pipelines.gate`).

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
        rows: labels that a student is trained on, see `pipelines/comparing/rows.py`.
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


class Prices(Section):
    """Seconds of a person's work a label; docs/budget.md has the sources.

    Attributes:
        mask: COCO's polygons (Lin et al., ECCV 2014).
        box: extreme clicking (Papadopoulos et al., ICCV 2017).
        point: a click on an object of a known class (Papadopoulos et al., CVPR 2017).
    """

    mask: Seconds = 79.2
    box: Seconds = 7.0
    point: Seconds = 1.9


class Params(Section):
    """params.yaml."""

    seed: Seed = 0
    data: Data
    split: Split
    model: SOLOv2Settings
    resize: ResizeSettings
    augment: AugmentSettings
    teacher: Teacher
    refiner: Refiner
    tune_refiner: TuneRefiner
    tune_pseudo: TunePseudo
    pseudo: PseudoRules
    student: Student
    evaluate: Evaluate
    promote: Promote
    optuna: Optuna
    compare: Compare
    tracking: Tracking
    prices: Prices

    def trainings(self) -> dict[str, TrainSettings]:
        """The trainings of different length that a comparison may shorten."""
        return {name: getattr(self, name).train for name in ("teacher", "refiner", "student")}

    @property
    def teacher_model(self) -> SOLOv2Settings:
        """`model` with the teacher's own levels."""
        own = {name: getattr(self.teacher, name) for name in ("cells", "grids", "ranges")}
        if own["cells"] or own["grids"]:
            return replace(self.model, cells=own["cells"], grids=own["grids"], ranges=own["ranges"])
        return replace(self.model, ranges=own["ranges"]) if own["ranges"] else self.model

    @model_validator(mode="after")
    def _teacher_fits(self) -> Params:
        try:
            _ = self.teacher_model
        except ValueError as error:
            raise ValueError(f"in the levels of teacher: {error}") from error
        return self


class TunedRefiner(Section):
    """tuned/refiner.yaml: the section `refiner` as the stage tune_refiner found it."""

    refiner: Refiner


class TunedPseudo(Section):
    """tuned/pseudo.yaml: the rules that the stage tune_pseudo found."""

    pseudo: PseudoRules
