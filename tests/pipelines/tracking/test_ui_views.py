"""pipelines.tracking.ui_views: what MLflow's pages are told to show."""

from __future__ import annotations

import json

from pipelines.tracking.ui_views import COLUMNS, links, shared_view


def test_headline_metrics_are_columns() -> None:
    assert json.loads(shared_view({})) == {"selectedColumns": [f"metrics.`{name}`" for name in COLUMNS]}


def test_pictures_of_an_image_stand_in_a_row_at_their_last_step() -> None:
    names = ("truth", "teacher", "strong_only", "student")
    logged = {f"val {number}/{name}": 300 for name in names for number in (7, 12)}
    view = json.loads(shared_view(logged))
    charts = view["compareRunCharts"]
    expected = [[f"val {number}/{name}"] for number in (7, 12) for name in names]
    assert [chart["imageKeys"] for chart in charts] == expected
    assert {chart["step"] for chart in charts} == {300}
    assert {chart["metricSectionId"] for chart in charts} == {s["uuid"] for s in view["compareRunSections"]}
    assert len({chart["uuid"] for chart in charts}) == 8


def test_links_name_the_experiment() -> None:
    found = links("http://127.0.0.1:5000", "3")
    assert list(found) == ["runs", "pictures"]
    assert all(
        link.startswith("http://127.0.0.1:5000/#/experiments/3/runs?viewStateShareKey=")
        for link in found.values()
    )
