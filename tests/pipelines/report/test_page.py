"""The report: its content, and that a browser shows it at every width without network access."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import paths
from pipelines.cli.main import main
from pipelines.config.params import load_params, parse, read_yaml
from pipelines.config.schema import Params
from pipelines.report.pictures import save_picture
from pipelines.runner.run_stage import StageContext
from pipelines.runner.training_log import write_csv
from pipelines.stages.audit import audit
from pipelines.stages.prepare import prepare
from pipelines.stages.split import split
from tests.pipelines.report import chromium
from wssis.data.coco import load_coco, save_coco
from wssis.data.records import Annotation, CocoData
from wssis.evaluation.coco_ap import AP_KEYS
from wssis.files import write_json

ROOT = Path(__file__).parents[3]
ARTIFACTS = ROOT / paths.SCRATCH / "artifacts"
NAME = '<b>star</b> & "co"'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with all inputs of the report; its pseudo-labels are the ground truth, some ignored."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        values = read_yaml(ROOT / "params.yaml")
        values["data"]["shapes"] |= {"train": 40, "val": 3, "size": 64}
        stage = StageContext("report", parse(values, Params, "params.yaml"))
        prepare(stage)
        split(stage)
        make_labels()
        audit(stage)
        for number, name in enumerate(("teacher", "strong_only", "student")):
            scores = dict.fromkeys(AP_KEYS, 0.2 + 0.1 * number) | {"AP_large": -1.0}
            write_json(Path(f"metrics/{name}.json"), scores)
        totals = json.loads(paths.LEDGER.read_text())["totals"]
        hours = {key: totals[key] for key in ("label_hours", "full_label_hours")}
        write_json(paths.METRICS_SUMMARY, {"strong_only_AP": 0.3, "student_AP": 0.4, "gain": 0.1} | hours)
        write_curves()
        save_picture(torch.full((3, 90, 700), 90, dtype=torch.uint8), paths.PICTURE_PREDICTIONS)
    return folder


def make_labels() -> None:
    """Labels of the weak images from their ground truth, with confidences; every fifth is ignored."""
    rng = np.random.default_rng(0)
    truth = load_coco(paths.WEAK_TRUTH)
    names = tuple(replace(c, name=NAME if c.name == "star" else c.name) for c in truth.categories)
    sure = {a.id: round(float(rng.random()), 4) for image in truth.images for a in image.annotations}

    def labels(every: int) -> CocoData:
        def noted(a: Annotation) -> Annotation:
            extra = {"ignore": True} if every and a.id % every == 0 else {}
            return replace(a, extra={"confidence": sure[a.id]} | extra)

        images = [replace(i, annotations=tuple(noted(a) for a in i.annotations)) for i in truth.images]
        return replace(truth, categories=names, images=tuple(images))

    save_coco(labels(every=5), paths.LABELS)
    save_coco(labels(every=0), paths.PROPOSED)
    save_coco(labels(every=0), paths.PROPOSED_ROUGH)


def write_curves() -> None:
    steps = range(1, 201)
    for path in (paths.PLOT_TEACHER, paths.PLOT_STRONG_ONLY, paths.PLOT_STUDENT, paths.PLOT_REFINER):
        write_csv(path, [{"step": n, "loss": 2 / n + 0.1} for n in steps])
    write_csv(paths.PLOT_TUNE_PSEUDO, [{"trial": n, "value": 0.2, "best": 0.2 + n / 100} for n in range(9)])
    rows = [
        {"class": name, "objects": 9, "teacher": 0.1, "strong_only": 0.2, "student": -1.0}
        for name in ("disc", NAME)
    ]
    write_csv(paths.PLOT_CLASSES, rows)


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(made, folder, ignore=shutil.ignore_patterns("index.html"))
    monkeypatch.chdir(folder)
    return folder


def written(*words: str) -> str:
    assert main(["report", *words]) == 0
    return Path(words[-1] if words else paths.REPORT_HTML).read_text()


def test_the_command_writes_the_stages_outputs(project: Path) -> None:
    page = written()
    gallery = json.loads(paths.GALLERY.read_text())
    assert gallery["total"] > len(gallery["labels"]) > 50
    assert f"<b>{len(gallery['labels'])} of {gallery['total']}</b> labels" in page
    assert page.count('<figure class="card"') == len(gallery["labels"])
    for text in ("+0.100", "0.400", "0.300", "Calibration", "AP\u00a0medium", "selection", "79.2"):
        assert text in page
    assert "-1.000" not in page  # unknown values are a dash
    assert written("--out", "other/page.html") == page  # the same bytes


@pytest.fixture(scope="module")
def html(made: Path) -> str:
    """The report of that project."""
    with pytest.MonkeyPatch.context() as context:
        context.chdir(made)
        return written()


def test_names_are_escaped(html: str) -> None:
    assert NAME not in html
    assert "&lt;b&gt;star&lt;/b&gt; &amp; &#34;co&#34;" in html


def test_it_is_small_and_self_contained(html: str) -> None:
    assert len(html) < 1_500_000
    assert "http://" not in html
    assert "https://" not in html
    assert "default-src 'none'" in html


def test_without_ground_truth_there_is_no_calibration(project: Path) -> None:
    truth = load_coco(paths.WEAK_TRUTH)
    bare = tuple(replace(image, annotations=()) for image in truth.images)
    save_coco(replace(truth, images=bare), paths.WEAK_TRUTH)
    audit(StageContext("audit", load_params(ROOT / "params.yaml")))
    page = written()
    assert "The true masks of the clicked images are unknown" in page
    assert "<span>refined</span>" in page
    assert "<span>truth</span>" not in page


def test_no_search_and_many_classes(project: Path, html: str) -> None:
    assert "Search for" in html
    assert "<details>" not in html
    paths.PLOT_TUNE_PSEUDO.write_text("step\n")  # n_trials: 0
    scores = {"objects": 9, "teacher": 0.1, "strong_only": 0.2, "student": 0.3}
    write_csv(paths.PLOT_CLASSES, [{"class": f"c{n}"} | scores for n in range(30)])
    page = written()
    assert "Search for" not in page
    assert "<details><summary>30 classes</summary>" in page


@pytest.mark.parametrize(
    "path", [paths.METRICS_PSEUDO, paths.PLOT_STUDENT, paths.GALLERY, paths.PLOT_CLASSES]
)
def test_a_missing_file_is_named_and_nothing_is_written(
    project: Path, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.unlink()
    assert main(["report"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"wssis: {path}: expected a file, found none. Run `dvc repro`")
    assert error.count("\n") == 1
    assert not paths.REPORT_HTML.exists()


def test_a_damaged_file_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths.METRICS_STUDENT.write_text("{")
    assert main(["report"]) == 2
    assert "metrics/student.json: expected JSON" in capsys.readouterr().err
    paths.METRICS_STUDENT.write_text("{}")
    assert main(["report"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def page(html: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    """A browser on the report."""
    if chromium.BINARY is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with chromium.chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


WIDER = """[...document.querySelectorAll('body *')]
    .filter((item) => !item.parentElement.closest('.table'))
    .filter((item) => item.getBoundingClientRect().right > innerWidth + 0.5)
    .map((item) => item.outerHTML.slice(0, 80))"""
CUT = "[...document.querySelectorAll('.table')].filter((t) => t.scrollWidth > t.clientWidth).length"
SMALLEST = """Math.min(...[...document.querySelectorAll('td, p, figcaption')]
    .map((item) => parseFloat(getComputedStyle(item).fontSize)))"""
FLATTEST = "Math.min(...[...document.images].map((item) => item.getBoundingClientRect().height))"
BROKEN = "[...document.images].filter((i) => !i.complete || !i.naturalWidth).map((i) => i.alt)"
SHOWN = "[...document.querySelectorAll('.card')].filter((card) => card.offsetParent)"


@pytest.mark.parametrize(
    "width", [1280, 375, pytest.param(768, marks=pytest.mark.slow), pytest.param(320, marks=pytest.mark.slow)]
)
def test_a_browser_shows_it_at_every_width(made: Path, page: chromium.Page, width: int) -> None:
    page.requests.clear()
    page.open(made / paths.REPORT_HTML, width)
    page.screenshot(ARTIFACTS / f"report-{width}.png")
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.run(WIDER) == []
    assert page.run(BROKEN) == []
    assert page.run("document.images.length") > 50
    if width >= 375:
        assert page.run(CUT) == 0
    assert page.run(SMALLEST) >= 12
    assert page.run(FLATTEST) > 20
    assert [address for address in page.requests if not address.startswith(("file:", "data:"))] == []
    assert sum(address.startswith("file:") for address in page.requests) == 1
    assert page.problems == []


def chosen(page: chromium.Page, **values: object) -> list[dict[str, str]]:
    """The cards that the gallery shows after setting filters."""
    for name, value in values.items():
        page.run(
            f"""(() => {{
                const item = document.getElementById({json.dumps(name)});
                item.value = {json.dumps(value)};
                item.dispatchEvent(new Event('input', {{bubbles: true}}));
            }})()"""
        )
    return page.run(f"{SHOWN}.map((card) => ({{...card.dataset}}))")


def test_filters_select_cards(made: Path, page: chromium.Page) -> None:
    labels = json.loads((made / paths.GALLERY).read_text())["labels"]
    page.open(made / paths.REPORT_HTML, 1280)
    assert page.run("document.getElementById('filters').offsetParent !== null")
    every = chosen(page)
    assert [float(card["confidence"]) for card in every] == [item["confidence"] for item in labels]
    cards = chosen(page, **{"class": NAME})
    assert len(cards) == sum(item["name"] == NAME for item in labels) > 0
    assert {card["class"] for card in cards} == {NAME}
    cards = chosen(page, decided="1")
    both = [item for item in labels if item["name"] == NAME and item["ignored"]]
    assert len(cards) == len(both)
    assert page.run("document.getElementById('count').textContent") == f"{len(both)} of {len(labels)} shown"
    cards = chosen(page, **{"class": "", "decided": "0", "low": 0.3, "high": 0.7})
    middle = [i for i in labels if not i["ignored"] and 0.3 <= i["confidence"] <= 0.7]
    assert [float(card["confidence"]) for card in cards] == [item["confidence"] for item in middle]
    cards = chosen(page, order="-1")
    assert [float(card["confidence"]) for card in cards] == [item["confidence"] for item in reversed(middle)]
    assert chosen(page, low=1, high=0) == []


def test_everything_shows_without_the_script(made: Path, page: chromium.Page) -> None:
    labels = json.loads((made / paths.GALLERY).read_text())["labels"]
    page.open(made / paths.REPORT_HTML, 1280, script=False)
    assert page.run(f"{SHOWN}.length") == len(labels)
    assert page.run("document.getElementById('filters').offsetParent === null")
    assert page.run(BROKEN) == []
