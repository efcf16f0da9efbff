"""The registered models as MLflow runs them (models from code): `wssis-student` and `wssis-labeler`.

MLflow executes this file on load; `model_config["kind"]` says which of the two it is. Nothing is unpickled.
"""

from __future__ import annotations

import io
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc import PythonModel
from PIL import Image, ImageOps
from torch import Tensor

from pipelines.models import load_labeler_folder, load_predictor
from wssis.errors import InputError
from wssis.metrics import to_coco_results


class Student(PythonModel):
    """Images to instances.

    Input: a table (or list of dicts) with a column `image`, the bytes of a PNG or JPEG file. Output: for
    each row a list of COCO results (`image_id` is the row's number), best score first.
    """

    def load_context(self, context: Any) -> None:
        """Read the network."""
        self.predictor, self.categories = load_predictor(context.artifacts["model"])

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        images = [decode_image(row["image"]) for row in rows(model_input)]
        found = self.predictor.predict(images)
        return [to_coco_results(instances, n, self.categories) for n, instances in enumerate(found)]


class PointLabeler(PythonModel):
    """Images and points to one mask a point.

    Input: columns `image` and `points`, the latter a list of `{"x", "y", "class"}`: pixels and a class
    name. Output: for each row a list with a COCO result a point, in their order, `score` being the
    confidence; an undecided point has `"ignore": true` and an empty mask.
    """

    def load_context(self, context: Any) -> None:
        """Read teacher and refiner."""
        self.labeler, self.categories = load_labeler_folder(context.artifacts["model"])

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        labels = {category.name: n for n, category in enumerate(self.categories)}
        answers = []
        for number, row in enumerate(rows(model_input)):
            image = decode_image(row["image"])
            points = [checked(point, labels, image, number) for point in row["points"]]
            xy = torch.tensor([point[:2] for point in points], dtype=torch.float32).reshape(-1, 2)
            classes = torch.tensor([point[2] for point in points], dtype=torch.int64)
            decided = self.labeler.label(image, xy, classes)
            assert decided.masks is not None
            results = to_coco_results(decided, number, self.categories)
            for result, mask in zip(results, decided.masks, strict=True):
                if not mask.any():
                    result["ignore"] = True
            answers.append(results)
        return answers


def rows(model_input: Any) -> list[dict[str, Any]]:
    """Rows of a pandas table, or a list of dicts as it is."""
    return model_input.to_dict("records") if hasattr(model_input, "to_dict") else list(model_input)


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


KINDS = {"student": Student, "labeler": PointLabeler}

mlflow.models.set_model(
    KINDS[mlflow.models.ModelConfig(development_config={"kind": "student"}).get("kind")]()
)
