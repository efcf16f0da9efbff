"""The registered models as MLflow runs them (models from code): `wssis-student` and `wssis-labeler`.

MLflow executes this file on load. Which of the two a version is, its files say. Nothing is unpickled.
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
from pipelines.serving.served_model import Model, PointLabeler, Results, Student
from wssis.errors import InputError


class Served(PythonModel):
    """What MLflow calls."""

    def load_context(self, context: Any) -> None:
        """Read the networks of a version."""
        folder = Path(context.artifacts["model"])
        labels = (folder / paths.RULES_FILE).exists()
        self.model: Model = (
            PointLabeler(*load_labeler_folder(folder))
            if labels
            else Student(*load_predictor(folder, score=None))
        )

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[Results]:
        """The answer to each row of a table.

        `params` may set `score`, the minimum score of a student's instances, in place of the model's own.

        Raises:
            MlflowException: a row or the score cannot be used; its message is one line. (Of any other
                exception MLflow's scoring server sends the traceback.)
        """
        rows: list[Any] = model_input.to_dict("records")
        model, score = self.model, (params or {}).get("score")
        if score is not None and not 0 <= score <= 1:
            raise MlflowException.invalid_parameter_value(f"expected a score of 0 to 1, found {score}")
        if isinstance(model, Student) and score is not None:
            model = Student(model.predictor.from_score(score), model.categories)
        try:
            return [model.answer(row, number) for number, row in enumerate(rows)]
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


mlflow.models.set_model(Served())
