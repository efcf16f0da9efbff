"""The sections of params.yaml; those of the method are settings dataclasses that wssis declares.

Those that only the platform knows are in `platform_sections`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.config.platform_schema import (
    Compare,
    Count,
    Fraction,
    Launcher,
    Optuna,
    Promote,
    Seconds,
    Section,
    Seed,
    Tracking,
)
from wssis.settings import (
    AugmentSettings,
    DecodeSettings,
    PseudoRules,
    RefinerSettings,
    ResizeSettings,
    SOLOv2Settings,
    TrainSettings,
)


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
        start: initial weights of both trainings: the teacher's where they fit, or the backbone's alone
            (`model.pretrained`).
        drawn_share: share of the samples that have drawn masks; null: every image equally often.
    """

    train: TrainSettings
    start: Literal["teacher", "backbone"] = "teacher"
    drawn_share: Fraction | None = 0.4


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


class Evaluate(Section):
    """How predictions on `val` are made and measured, `pictures` drawn; `faster` is faster-coco-eval."""

    decode: DecodeSettings
    batch_size: Count = 8
    pictures: Annotated[int, Field(ge=0)] = 6
    backend: Literal["pycocotools", "faster"] = "pycocotools"


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
    launcher: Launcher
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

    @model_validator(mode="after")
    def _decoding_fits(self) -> Params:
        given, levels = len(self.evaluate.decode.area_strides), len(self.model.ranges)
        if given not in (0, levels):
            raise ValueError(
                f"expected none or {levels} of evaluate.decode.area_strides, one for each level of model, "
                f"found {given}"
            )
        return self

    @model_validator(mode="after")
    def _batches_can_be_shared_out(self) -> Params:
        for name, train in self.trainings().items():
            crops = self.refiner.crops if name == "refiner" else 1
            images, parts = max(1, train.batch_size // crops), self.launcher.count * train.accumulate
            if images < parts:
                of = f" ({train.batch_size} crops, {crops} an image)" if crops > 1 else ""
                raise ValueError(
                    f"expected an image a batch of {name}.train for each of {parts} parts "
                    f"(launcher.processes x {name}.train.accumulate), found {images}{of}"
                )
        return self


class TunedRefiner(Section):
    """tuned/refiner.yaml: the section `refiner` as the stage tune_refiner found it."""

    refiner: Refiner


class TunedPseudo(Section):
    """tuned/pseudo.yaml: the rules that the stage tune_pseudo found."""

    pseudo: PseudoRules
