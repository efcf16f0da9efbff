"""Runs a registered model in a process of its own: `python -P predict_worker.py JSON`.

`version_predictions` starts this file by its path. It imports nothing of wssis or pipelines, so that both
come from the version, as they do wherever it is served.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas


def main(request: Path) -> None:
    """Predict the rows of a request; the file `results` gets a line of JSON per row.

    Prints a line when the model is loaded, and one after each row.

    Args:
        request: JSON with `store` (a URI), `model` (its folder), `rows` (an image's path and the other
            columns) and `results`, the path to write.

    Raises:
        RuntimeError: the code that runs is not the version's own.
    """
    given: dict[str, Any] = json.loads(request.read_text())
    mlflow.set_tracking_uri(given["store"])
    mlflow.set_registry_uri(given["store"])
    model = mlflow.pyfunc.load_model(given["model"])
    code = Path(sys.modules["wssis"].__file__ or "").resolve()
    if not code.is_relative_to(Path(given["model"]).resolve()):
        raise RuntimeError(f"expected the code in {given['model']}, found {code}")
    schema = model.metadata.get_params_schema()
    # AP needs all instances, also those below the version's own score threshold.
    has_score = schema is not None and any(param.name == "score" for param in schema.params)
    params = {"score": 0.0} if has_score else None
    print("loaded", flush=True)
    with open(given["results"], "w") as file:
        for row in given["rows"]:
            image = Path(row["image"]).read_bytes()
            [results] = model.predict(pandas.DataFrame([{**row, "image": image}]), params=params)
            file.write(json.dumps(results) + "\n")
            print(flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
