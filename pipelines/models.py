"""Saved networks as predictors and labelers: what stages, commands and served models load."""

from __future__ import annotations

from pathlib import Path

from wssis.checkpoint import load_model

from wssis.data.transforms import ResizeSettings
from wssis.errors import InputError
from wssis.labeler import Labeler, PseudoRules
from wssis.models.refiner import Refiner
from wssis.models.solov2 import SOLOv2


def load_solov2(folder: str | Path, device: str = "cpu") -> tuple[SOLOv2, ResizeSettings, tuple[str, ...]]:
    """A SOLOv2, the scale that it was trained at, and its classes.

    Raises:
        InputError: no model, a truncated one, or one of another kind.
    """
    model, meta = load_model(folder)
    if not isinstance(model, SOLOv2):
        raise InputError(
            "expected a SOLOv2, found another network", where=folder, remedy="Name models/student"
        )
    return model.to(device), ResizeSettings(**meta.extra["resize"]), tuple(meta.class_names)


def load_labeler(
    teacher: str | Path, refiner: str | Path | None, rules: PseudoRules, device: str = "cpu"
) -> Labeler:
    """A labeler of a saved teacher and, where given, refiner.

    Raises:
        InputError: as `load_solov2`, or the two were trained on other classes.
    """
    network, resize, classes = load_solov2(teacher, device)
    if refiner is None:
        return Labeler(network, None, resize, rules)
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
    return Labeler(network, model.to(device), resize, rules)
