"""Loads saved networks as predictors and labelers, for stages, commands and served models.

A predictor is a folder with a SOLOv2 and, after the stage evaluate, `decode.json`. A registered labeler is a
folder with `teacher/`, `refiner/` and `rules.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pipelines import paths
from pipelines.decode_file import own_decode
from wssis.checkpoint import load_model
from wssis.data.records import Category
from wssis.data.transforms import mirrored_labels
from wssis.errors import InputError
from wssis.inference.predictor import Predictor
from wssis.models.refiner import Refiner
from wssis.models.solov2 import SOLOv2
from wssis.pseudo_labels.labeler import Labeler
from wssis.pseudo_labels.rules import PseudoRules
from wssis.settings import DecodeSettings, ResizeSettings


@dataclass(frozen=True)
class Saved:
    """A SOLOv2 with the scale and flips of its training, its classes with their ids, and its steps."""

    model: SOLOv2
    resize: ResizeSettings
    flips: str
    categories: tuple[Category, ...]
    step: int = 0
    flip_pairs: tuple[tuple[str, str], ...] = ()

    @property
    def views(self) -> str:
        """Flips over which labeling averages: those of the training; none in the paper's setting."""
        return "none" if self.model.settings.parity else self.flips

    def labeler(self, refiner: Refiner | None = None, rules: PseudoRules | None = None) -> Labeler:
        """This network as a teacher, with the views that it was trained on."""
        mirrored = mirrored_labels(self.flip_pairs, [category.name for category in self.categories])
        return Labeler(self.model, refiner, self.resize, rules, self.views, mirrored=mirrored)


def load_solov2(folder: str | Path, device: str = "cpu") -> Saved:
    """Load a SOLOv2.

    Raises:
        InputError: no model, a truncated one, or another network.
    """
    model, meta = load_model(folder)
    if not isinstance(model, SOLOv2):
        raise InputError(
            "expected a SOLOv2, found another network", where=folder, remedy="Give models/student"
        )
    try:
        ids = meta.extra["category_ids"]
        categories = tuple(Category(i, name) for i, name in zip(ids, meta.class_names, strict=True))
        resize, flips = ResizeSettings(**meta.extra["resize"]), str(meta.extra["flips"])
        pairs = tuple((str(left), str(right)) for left, right in meta.extra.get("flip_pairs", ()))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"expected category_ids, resize and flips under extra, found others ({error!r})",
            where=Path(folder) / "model.json",
            remedy="Train again with `dvc repro`",
        ) from error
    return Saved(model.to(device), resize, flips, categories, int(meta.extra.get("step", 0)), pairs)


def load_predictor(
    folder: str | Path,
    decode: DecodeSettings | None = None,
    batch_size: int = 8,
    device: str = "cpu",
    score: float | None = 0.0,
) -> tuple[Predictor, tuple[Category, ...]]:
    """Load a predictor and its classes.

    Args:
        decode: thresholds; None: the model's own, else the defaults.
        score: minimum score of an instance; None: the model's own threshold, else 0.
    """
    saved = load_solov2(folder, device)
    own, own_score = own_decode(folder)
    settings = decode or own or DecodeSettings()
    levels = len(saved.model.settings.ranges)
    if len(settings.area_strides) not in (0, levels):
        raise InputError(
            f"expected none or {levels} of area_strides, one for each level of the model, found "
            f"{len(settings.area_strides)}",
            where=paths.PARAMS if decode else Path(folder) / paths.DECODE_FILE,
            remedy="Set evaluate.decode.area_strides for this model",
        )
    score = (own_score or 0.0) if score is None else score
    return Predictor(saved.model, saved.resize, settings, batch_size, score), saved.categories


def load_labeler(
    teacher: str | Path, refiner: str | Path, rules: PseudoRules, device: str = "cpu"
) -> tuple[Labeler, tuple[Category, ...]]:
    """Load a labeler from teacher and refiner, and its classes.

    Raises:
        InputError: as `load_solov2`, or the two were trained on different classes.
    """
    saved = load_solov2(teacher, device)
    classes = tuple(category.name for category in saved.categories)
    model, meta = load_model(refiner)
    if not isinstance(model, Refiner):
        raise InputError("expected a refiner, found another network", where=refiner)
    if tuple(meta.class_names) != classes:
        raise InputError(
            f"expected the classes of {teacher} ({', '.join(classes[:5])}), "
            f"found {', '.join(meta.class_names[:5])}",
            where=refiner,
            remedy="Run `dvc repro` to train both on the same data",
        )
    return saved.labeler(model.to(device), rules), saved.categories


def load_labeler_folder(folder: str | Path, device: str = "cpu") -> tuple[Labeler, tuple[Category, ...]]:
    """Load a registered labeler."""
    folder = Path(folder)
    since = {"color_weight": 0.0}  # labelers registered before this rule existed do without it
    rules = PseudoRules(**since | json.loads((folder / paths.RULES_FILE).read_text()))
    return load_labeler(folder / "teacher", folder / "refiner", rules, device)
