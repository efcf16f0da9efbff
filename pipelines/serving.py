"""The registered models as MLflow runs them (models from code): `wssis-student` and `wssis-labeler`.

MLflow executes this file on load. Which of the two a version is, its files say. Nothing is unpickled.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.pyfunc import PythonModel
from PIL import Image, ImageOps
from torch import Tensor

from pipelines import paths
from pipelines.models import load_labeler_folder, load_predictor
from wssis.errors import InputError
from wssis.metrics import to_coco_results

Results = list[dict[str, Any]]


class Student:
    """Images to instances: a row's `image` (bytes of a PNG or JPEG) to COCO results, best score first."""

    def __init__(self, folder: Path) -> None:
        self.predictor, self.categories = load_predictor(folder)

    def answer(self, rows: list[dict[str, Any]]) -> list[Results]:
        """A list of COCO results for each row; `image_id` is the row's number."""
        # One at a time: in a batch an image is padded to the others' size, which masks depend on a little.
        found = [self.predictor.predict([decode_image(row["image"])])[0] for row in rows]
        return [to_coco_results(instances, n, self.categories) for n, instances in enumerate(found)]


class PointLabeler:
    """Images and points to one mask a point.

    A row holds `image` (bytes of a PNG or JPEG file) and `points`, a list of `{"x", "y", "class"}`: pixels
    and a class name. Its answer has a COCO result a point, in their order, `score` being the confidence; an
    undecided point has `"ignore": true` and an empty mask.
    """

    def __init__(self, folder: Path) -> None:
        self.labeler, self.categories = load_labeler_folder(folder)
        self.labels = {category.name: n for n, category in enumerate(self.categories)}

    def answer(self, rows: list[dict[str, Any]]) -> list[Results]:
        """A list of COCO results for each row; `image_id` is the row's number."""
        return [self.answer_one(row, number) for number, row in enumerate(rows)]

    def answer_one(self, row: dict[str, Any], number: int) -> Results:
        """COCO results of a row."""
        image = decode_image(row["image"])
        points = [checked(point, self.labels, image, number) for point in row["points"]]
        xy = torch.tensor([point[:2] for point in points], dtype=torch.float32).reshape(-1, 2)
        decided = self.labeler.label(
            image, xy, torch.tensor([point[2] for point in points], dtype=torch.int64)
        )
        assert decided.masks is not None
        results = to_coco_results(decided, number, self.categories)
        for result, mask in zip(results, decided.masks, strict=True):
            if not mask.any():
                result["ignore"] = True
        return results


class Served(PythonModel):
    """What MLflow calls."""

    def load_context(self, context: Any) -> None:
        """Read the networks of a version."""
        folder = Path(context.artifacts["model"])
        self.model = PointLabeler(folder) if (folder / paths.RULES_FILE).exists() else Student(folder)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[Results]:
        """The answer to each row of a table."""
        rows: list[Any] = model_input.to_dict("records")
        return self.model.answer(rows)


def decode_image(data: bytes) -> Tensor:
    """uint8 (3, H, W) of the bytes of an image file, upright.

    Raises:
        InputError: not an image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"expected the bytes of a PNG or JPEG file, found {error}", where="image") from error
    return torch.from_numpy(np.array(upright)).permute(2, 0, 1).contiguous()


def checked(
    point: dict[str, Any], labels: dict[str, int], image: Tensor, row: int
) -> tuple[float, float, int]:
    """(x, y, label) of a point.

    Raises:
        InputError: it lies outside its image, or its class is unknown.
    """
    x, y, name = float(point["x"]), float(point["y"]), str(point["class"])
    height, width = image.shape[1:]
    if not (0 <= x < width and 0 <= y < height):
        raise InputError(
            f"expected a point inside {width} x {height}, found ({x:g}, {y:g})", record=f"row {row}"
        )
    if name not in labels:
        raise InputError(f"expected one of {', '.join(labels)}, found class {name}", record=f"row {row}")
    return x, y, labels[name]


mlflow.models.set_model(Served())
