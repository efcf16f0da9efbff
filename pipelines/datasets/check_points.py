"""Points on nothing that a trained teacher takes for an object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipelines.console.progress import Meter
from pipelines.inference.load_models import Saved, load_solov2
from wssis.data.coco_reader import Problem
from wssis.data.images import read_image
from wssis.errors import InputError
from wssis.pseudo_labels.labeler import rough_masks
from wssis.validation.annotations import problem_of
from wssis.validation.validate import Findings


def teacher_for(folder: str | Path, findings: Findings, device: str) -> Saved:
    """A saved teacher of the same classes.

    Raises:
        InputError: no teacher, or one of other classes.
    """
    saved = load_solov2(folder, device)
    classes = tuple(category.name for category in saved.categories)
    if classes != findings.document.names:
        raise InputError(
            f"expected the data's classes ({_few(findings.document.names)}), found {_few(classes)}",
            where=folder,
            remedy="Name another with --model, or leave it out",
        )
    return saved


def implausible(findings: Findings, teacher: Saved, least: float) -> list[Problem]:
    """Points without a mask whose score is less than `least` at every level of the teacher.

    The score is that of pyramid-level selection: how sure the teacher is that the cell at the point answers
    for an object of that class, and of its mask.
    """
    labels, document = findings.labels, findings.document
    rows = np.flatnonzero(~labels.masked & ~labels.ignored & ~np.isnan(labels.point[:, 0]))
    of_picture: dict[int, list[int]] = {}
    for row in rows.tolist():
        picture = document.pictures[int(labels.picture[row])]
        file = findings.files[picture.file_name]
        if not file.problem and file.size == (picture.height, picture.width):
            of_picture.setdefault(int(labels.picture[row]), []).append(row)
    problems = []
    with Meter("points", len(of_picture), "images") as meter:
        for number, inside in of_picture.items():
            scores = _scores(findings, teacher, number, inside)
            for row, score in zip(inside, scores, strict=True):
                if score < least:
                    x, y = labels.point[row]
                    detail = f"({x:g}, {y:g}): score {score:.3f}"
                    problems.append(problem_of(document, labels, row, "implausible", detail))
            meter.step()
    return problems


def _scores(findings: Findings, teacher: Saved, number: int, rows: list[int]) -> list[float]:
    picture, labels = findings.document.pictures[number], findings.labels
    device = teacher.model.backbone.mean.device
    image = read_image(findings.folder, picture.file_name).to(device)
    points = torch.tensor(labels.point[rows], dtype=torch.float32, device=device)
    classes = torch.tensor(labels.label[rows], dtype=torch.int64, device=device)
    own_point = not teacher.model.settings.parity
    scores = rough_masks(teacher.model, teacher.resize, image, points, classes, teacher.views, own_point)[2]
    found: list[float] = scores.tolist()
    return found


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
