"""The registered models as MLflow loads them (models from code): `wssis-student` and `wssis-labeler`.

MLflow runs this file when it loads a version. The version's files say which of the two it is. Nothing is
unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel

from pipelines import paths
from pipelines.inference.load_models import load_labeler_folder, load_predictor
from pipelines.serving.request import check_rows
from pipelines.serving.served_model import Model, PointLabeler, Results, Student
from wssis.errors import InputError


class RegisteredModel(PythonModel):
    """A student or a labeler behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Load the networks of a version."""
        folder = Path(context.artifacts["model"])
        self.model: Model
        if (folder / paths.RULES_FILE).exists():
            self.model = PointLabeler(*load_labeler_folder(folder))
        else:
            self.model = Student(*load_predictor(folder, score=None))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[Results]:
        """COCO results of each row of a table with `image` (bytes of a file) and, for a labeler, `points`.

        `params` may set `score`, a student's minimum score, instead of the model's own.

        Raises:
            MlflowException: a row or the score is invalid; the message is one line. (For any other exception
                MLflow's scoring server sends the traceback.)
        """
        model, score = self.model, (params or {}).get("score")
        if score is not None and not 0 <= score <= 1:
            raise MlflowException.invalid_parameter_value(f"expected a score of 0 to 1, found {score}")
        if isinstance(model, Student) and score is not None:
            model = Student(model.predictor.from_score(score), model.categories)
        values: list[Any] = model_input.to_dict("records")
        if "points" in model_input:
            values = [value | {"points": list(value["points"])} for value in values]
        try:
            return [model.answer(row, number) for number, row in enumerate(check_rows(values, model.kind))]
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


mlflow.models.set_model(RegisteredModel())
