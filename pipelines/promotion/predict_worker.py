"""Asks a registered model as whoever serves it would, in a process of its own: `python -P answering.py JSON`.

`pipelines.promotion.version_predictions` runs this file by its path. It imports nothing of wssis or
pipelines, so that both come
out of the version, as they do wherever it is served.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas


def main(questions: Path) -> None:
    """Answer the rows of a file, a JSON line each in the file `answers`.

    Stdout gets a line when the model is loaded, and one after each answer.

    Args:
        questions: JSON with `store` (a URI), `model` (its folder), `rows` (an image's path and the other
            columns) and `answers`, the path to write.

    Raises:
        RuntimeError: the code that answers is not the version's own.
    """
    asked: dict[str, Any] = json.loads(questions.read_text())
    mlflow.set_tracking_uri(asked["store"])
    mlflow.set_registry_uri(asked["store"])
    model = mlflow.pyfunc.load_model(asked["model"])
    code = Path(sys.modules["wssis"].__file__ or "").resolve()
    if not code.is_relative_to(Path(asked["model"]).resolve()):
        raise RuntimeError(f"expected the code in {asked['model']}, found {code}")
    known = model.metadata.get_params_schema()
    # AP needs all instances, below the version's own score threshold too.
    with_score = known is not None and any(param.name == "score" for param in known.params)
    params = {"score": 0.0} if with_score else None
    print("loaded", flush=True)
    with open(asked["answers"], "w") as file:
        for row in asked["rows"]:
            image = Path(row["image"]).read_bytes()
            [found] = model.predict(pandas.DataFrame([{**row, "image": image}]), params=params)
            file.write(json.dumps(found) + "\n")
            print(flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
