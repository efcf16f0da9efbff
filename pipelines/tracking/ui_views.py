"""How MLflow's pages show an experiment: headline metrics as columns, pictures side by side.

MLflow keeps a shared view in a tag of the experiment and shows it to everyone who opens its link. Without it
the table of runs shows no metric, and each picture is followed by all parameters of its run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

KEY = "headline"
TAG = f"mlflow.sharedViewState.{KEY}"
COLUMNS = ("student_AP", "strong_only_AP", "gain", "label_hours", "pseudo/refined_iou")
ABREAST = 4  # pictures in a row: truth, teacher, strong only, student


def shared_view(pictures: Mapping[str, int]) -> str:
    """The view's state, JSON; `pictures` are keys of logged images, each with the step to show at first."""
    section = {"uuid": "pictures", "name": "pictures", "display": True, "columns": ABREAST, "cardHeight": 300}
    flags = {"deleted": False, "isGenerated": False}
    groups = list(dict.fromkeys(key.split("/")[0] for key in pictures))  # those of an image stand in a row
    charts = [
        {"uuid": key, "type": "IMAGE", "metricSectionId": "pictures", "imageKeys": [key], "step": step}
        | {"showRunParams": False, "runsCountToCompare": 10}
        | flags
        for key, step in sorted(pictures.items(), key=lambda item: groups.index(item[0].split("/")[0]))
    ]
    state: dict[str, object] = {"selectedColumns": [f"metrics.`{name}`" for name in COLUMNS]}
    if charts:
        sections = [section | {"isReordered": True} | flags]
        state |= {
            "compareRunCharts": charts,
            "compareRunSections": sections,
            "isAccordionReordered": True,
        }
    return json.dumps(state)


def links(server: str, experiment: str) -> dict[str, str]:
    """Addresses of the table of runs and of the pictures on a server."""
    table = f"{server}/#/experiments/{experiment}/runs?viewStateShareKey={KEY}"
    return {"runs": table, "pictures": f"{table}&compareRunsMode=CHART"}
