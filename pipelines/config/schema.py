"""The sections of params.yaml, with defaults; those of the method are dataclasses of `wssis.settings`.

The first sentence of each attribute's description is its comment in params.yaml (`presets.render`). A section
that the attributes do not list is introduced by the first line of its class.
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
from wssis.pseudo_labels.rules import PseudoRules
from wssis.settings import (
    AugmentSettings,
    DecodeSettings,
    MixSettings,
    RefinerSettings,
    ResizeSettings,
    SOLOv2Settings,
    TrainSettings,
)


class Shapes(Section):
    """Size of the generated data set, used where source is shapes.

    Attributes:
        train, val: images.
        size: side in pixels.
        seed: separate from the global seed, so that all runs share one validation set.
    """

    train: Count = 200
    val: Count = 150
    size: Annotated[int, Field(ge=32, le=4096)] = 96
    seed: Seed = 0


class Folder(Section):
    """COCO instance JSON and its images.

    Attributes:
        annotations: COCO instance JSON; relative paths start at the project.
        images: their folder.
        sha256: of the annotations, written by `wssis import` and `wssis preset --data`; null: not checked. It
            tells DVC that labels changed; a file with another digest is an error.
    """

    annotations: Annotated[str, Field(min_length=1)]
    images: Annotated[str, Field(min_length=1)]
    sha256: str | None = None


class Data(Section):
    """Where images and labels come from.

    Attributes:
        source: shapes | coco.
        train: {annotations: JSON, images: folder} where source is coco.
        val: the same, for reporting only.
    """

    source: Literal["shapes", "coco"] = "shapes"
    train: Folder | None = None
    val: Folder | None = None
    shapes: Shapes = Shapes()

    @model_validator(mode="after")
    def _folders_are_given(self) -> Data:
        if self.source == "coco" and (self.train is None or self.val is None):
            missing = "train" if self.train is None else "val"
            raise ValueError(f"expected data.{missing} with annotations and images where source is coco")
        return self


class Split(Section):
    """Which images keep their masks, and where the points of the others come from.

    Attributes:
        strong: share of training images that keep their masks; 1: all that have every mask.
        holdout: share of those on which choices are made; the teacher never sees them.
        points: center | random: where in its mask an object's point lies.
        jitter: pixels by which a derived point is moved, at most.
        clicked: a points file (.csv, .json) to use instead of derived points.
    """

    strong: Annotated[float, Field(gt=0, le=1)] = 0.1
    holdout: Fraction = 0.2
    points: Literal["center", "random"] = "center"
    jitter: Annotated[float, Field(ge=0)] = 0.0
    clicked: str | None = None


class Prices(Section):
    """Seconds of work for a label; docs/budget.md has the sources.

    Attributes:
        mask: COCO's polygons (Lin et al., ECCV 2014).
        box: extreme clicking (Papadopoulos et al., ICCV 2017).
        point: a click on an object of a known class (Papadopoulos et al., CVPR 2017).
    """

    mask: Seconds = 79.2
    box: Seconds = 7.0
    point: Seconds = 1.9


class Teacher(Section):
    """The training on strong images.

    Attributes:
        snapshots: shares of the training at which earlier teachers are kept, for the refiner.
        cells: the teacher's own levels, where they differ from the student's (the paper).
        grids, ranges: likewise.
    """

    snapshots: tuple[Fraction, Annotated[float, Field(gt=0, le=1)]] = (0.4, 0.8)
    cells: tuple[int, ...] = ()
    grids: tuple[int, ...] = ()
    ranges: tuple[tuple[float, float], ...] = ()
    train: TrainSettings

    @model_validator(mode="after")
    def _in_order(self) -> Teacher:
        if self.snapshots[0] >= self.snapshots[1]:
            raise ValueError("expected snapshots in ascending order")
        return self


class Refiner(Section):
    """The network that refines masks of points (MaskRefineNet).

    Attributes:
        crops: taken from an image at a time; train.batch_size counts crops.
        dice_share: weight of Dice in the loss; the rest is cross-entropy.
        augment: strength of random color and scale (model.scale_range); 0: none.
    """

    crops: Count = 4
    dice_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    augment: Annotated[float, Field(ge=0, le=3)] = 1.0
    model: RefinerSettings
    train: TrainSettings


class TuneRefiner(Section):
    """The search for settings of the refiner, on the held-out images.

    Attributes:
        n_trials: trainings, including that of the defaults; 0: no search.
        iterations: steps of each.
        use_tuned: false: the section refiner is used, whatever was found.
    """

    n_trials: Annotated[int, Field(ge=0)] = 0
    iterations: Annotated[int, Field(ge=4)] = 64
    use_tuned: bool = True


class TunePseudo(Section):
    """The search for pseudo-label rules, on the held-out images.

    Attributes:
        n_trials: evaluations, including that of the defaults; 0: no search.
        match_area: set pseudo.mask_threshold so that masks are as large as the drawn ones.
        use_tuned: false: the section pseudo is used, whatever was found.
    """

    n_trials: Annotated[int, Field(ge=0)] = 20
    match_area: bool = False
    use_tuned: bool = True


class Student(Section):
    """The training on strong and pseudo-labeled images; strong_only is the same without the latter.

    Attributes:
        start: initial weights: teacher (where they fit) | backbone (model.pretrained alone).
        drawn_share: share of samples with drawn masks; null: every image equally often.
        drawn_end: share of the steps, the last ones, that see drawn masks only.
        quality_power: power of a pseudo-label's quality in the weight of its outline; 0: all count alike.
    """

    start: Literal["teacher", "backbone"] = "teacher"
    drawn_share: Fraction | None = 0.2
    drawn_end: Annotated[float, Field(ge=0, lt=1)] = 0.0
    quality_power: Annotated[float, Field(ge=0, le=10)] = 1.0
    train: TrainSettings

    @property
    def mix(self) -> MixSettings:
        """How the training mixes drawn and pseudo-labeled images."""
        return MixSettings(self.drawn_share, self.drawn_end, self.quality_power)

    @model_validator(mode="after")
    def _mix_fits(self) -> Student:
        _ = self.mix
        return self


class Evaluate(Section):
    """How predictions on val are made and measured.

    Attributes:
        batch_size: images in a batch.
        pictures: number of example pictures.
        backend: pycocotools | faster (needs faster-coco-eval).
    """

    batch_size: Count = 8
    pictures: Annotated[int, Field(ge=0)] = 6
    backend: Literal["pycocotools", "faster"] = "pycocotools"
    decode: DecodeSettings


class Params(Section):
    """params.yaml.

    Attributes:
        seed: of weights, order, augmentation, split and derived points.
    """

    seed: Seed = 0
    data: Data
    split: Split
    prices: Prices
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


# Sections are required in params.yaml, so their defaults are stated here: the preset shapes.
DEFAULTS = Params(
    data=Data(),
    split=Split(),
    prices=Prices(),
    model=SOLOv2Settings(),
    resize=ResizeSettings(),
    augment=AugmentSettings(paste=1.0),
    teacher=Teacher(train=TrainSettings(learning_rate=4e-3)),
    refiner=Refiner(
        model=RefinerSettings(),
        train=TrainSettings(iterations=200, batch_size=16, backbone_rate=1.0),
    ),
    tune_refiner=TuneRefiner(),
    tune_pseudo=TunePseudo(),
    pseudo=PseudoRules(),
    student=Student(train=TrainSettings(iterations=320, learning_rate=4e-3)),
    evaluate=Evaluate(decode=DecodeSettings()),
    promote=Promote(),
    launcher=Launcher(),
    optuna=Optuna(),
    compare=Compare(),
    tracking=Tracking(experiment="shapes"),
)


class TunedRefiner(Section):
    """tuned/refiner.yaml: the section `refiner` that the stage tune_refiner wrote."""

    refiner: Refiner


class TunedPseudo(Section):
    """tuned/pseudo.yaml: the rules that the stage tune_pseudo wrote."""

    pseudo: PseudoRules
