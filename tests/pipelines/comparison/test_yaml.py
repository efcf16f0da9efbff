"""compare/dvc.yaml against the code: what each stage depends on, and who sees what would leak."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines import paths
from pipelines.config.params import flatten, load_params, read_yaml
from pipelines.config.schema import Params

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = read_yaml(ROOT / paths.COMPARE_YAML)
STAGES: dict[str, dict[str, Any]] = DOCUMENT["stages"]
CELL = "compare/work/${item.fraction}-${item.seed}/"
MEASURED = "compare/measured/${item.fraction}-${item.seed}/"


def architecture() -> Any:
    """tests/test_architecture.py, which knows the stages of the pipeline."""
    spec = importlib.util.spec_from_file_location("architecture", ROOT / "tests/test_architecture.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["architecture"] = module
    spec.loader.exec_module(module)
    return module


ARCHITECTURE = architecture()


def module(name: str) -> str:
    """The key in code.json of a stage's module."""
    words = STAGES[name]["cmd"].split()
    dotted = words[5] if words[2] == "pipelines.comparison.cell" else words[2]
    return dotted.removeprefix("pipelines.stages.").replace("pipelines.comparison.", "comparison_")


def plain(params: list[Any]) -> set[str]:
    """Params of params.yaml."""
    return {item for item in params if isinstance(item, str)}


def listed(name: str) -> set[str]:
    """Deps and outs as a stage in the cell names them."""
    outs = [next(iter(out)) if isinstance(out, dict) else out for out in STAGES[name]["outs"]]
    return {path.removeprefix(CELL) for path in (*STAGES[name]["deps"], *outs)}


def readers(path: Path) -> set[str]:
    return {n for n in STAGES if str(path) in {dep.removeprefix(CELL) for dep in STAGES[n]["deps"]}}


def naming(constant: str) -> set[str]:
    """Functions of compare's own modules that name a path."""
    return {
        function.name
        for path in (ROOT / "pipelines/comparison").glob("*.py")
        for function in ast.parse(path.read_text()).body
        if isinstance(function, ast.FunctionDef)
        and any(isinstance(node, ast.Attribute) and node.attr == constant for node in ast.walk(function))
    }


def test_stages_hang_on_the_code_that_they_run() -> None:
    for name, stage in STAGES.items():
        keys = [module(name)] if name == "table" else ["comparison_cell", module(name)]
        assert {str(paths.CODE): keys} in stage["params"], name
        assert not {dep.split("/")[0] for dep in stage["deps"]} & {"wssis", "pipelines"}


@pytest.mark.parametrize("name", [name for name in STAGES if name != "table"])
def test_a_stage_runs_in_the_cell_that_its_paths_are_in(name: str) -> None:
    stage = STAGES[name]
    assert stage["wdir"] == ".."
    assert stage["cmd"].startswith(
        "python -m pipelines.comparison.cell ${item.fraction} ${item.seed} pipelines."
    )
    assert {"fraction", "seed"} <= set(stage["matrix"])
    assert ("row" in stage["matrix"]) == stage["cmd"].endswith("${item.row}")
    assert all(out.startswith((CELL, MEASURED)) for out in stage["outs"])
    inside = {path for path in listed(name) if not path.startswith(MEASURED)}
    known = {str(value) for value in vars(paths).values() if isinstance(value, Path)}
    folders = {str(path) for path in (paths.ROW_LABELS, paths.ROW_MODELS, paths.ROW_PLOTS)}
    unknown = {path for path in inside - known if str(Path(path).parent) not in folders} - {"data/pseudo"}
    assert not unknown


def test_shared_stages_depend_on_the_data_that_they_depend_on_in_the_pipeline() -> None:
    for name in ("teacher", "rough", "tune_refiner", "refiner", "tune_pseudo"):
        # What was tuned is params of the pipeline's stage; a matrix can have it among deps only.
        tuned = {
            path
            for item in ARCHITECTURE.STAGES[name].get("params", [])
            if isinstance(item, dict)
            for path in item
        } - {str(paths.CODE)}
        assert listed(name) == ARCHITECTURE.deps(name) | tuned | set(ARCHITECTURE.outs(name)), name


def test_params_are_known_and_those_of_the_pipelines_stages() -> None:
    known = set(flatten(load_params(ROOT / "params.yaml"))) | set(Params.model_fields)
    own = {"compare.iterations", "compare.class_seconds"}
    for name, stage in STAGES.items():
        params = plain(stage["params"])
        assert params <= known, name
        # The cell's own values of these are in the command.
        assert not params & {"seed", "split", "split.strong", "compare"}, name
    pairs = {name: name for name in ("teacher", "tune_refiner", "refiner", "tune_pseudo")}
    pairs["train"] = "student"
    for name, like in pairs.items():
        theirs = plain(ARCHITECTURE.STAGES[like]["params"])
        assert plain(STAGES[name]["params"]) - own == theirs - {"seed"}, name
    for name in ("teacher", "tune_refiner", "refiner", "train"):
        assert "compare.iterations" in STAGES[name]["params"]


def test_every_row_is_labeled_trained_and_measured() -> None:
    from pipelines.comparison.rows import ROWS

    made = {path for name in STAGES for path in listed(name) if path.startswith(f"{paths.ROW_LABELS}/")}
    assert made == {f"{paths.ROW_LABELS}/{row}.json" for row in (*ROWS, "${item.row}")}
    assert str(paths.COMPARE_MEASURED) in STAGES["table"]["deps"]


def test_only_the_oracle_reads_true_masks_of_weak_images() -> None:
    assert readers(paths.WEAK_TRUTH) == {"oracle"}
    assert naming("WEAK_TRUTH") == {"oracle"}
    assert readers(paths.PREPARED_TRAIN) == {"split"}
    assert naming("PREPARED_TRAIN") == set()  # the pipeline's own split reads it
    assert "ATTENTION" in (ROOT / "pipelines/comparison/given_labels.py").read_text()
    for stage in STAGES.values():
        folders = {"data", "data/truth", "data/splits", "data/prepared"}
        assert not {dep.removeprefix(CELL) for dep in stage["deps"]} & folders


def test_only_reports_read_val() -> None:
    assert readers(paths.PREPARED_VAL) == readers(paths.PREPARED_VAL_IMAGES) == {"sweep", "evaluate"}
    assert naming("PREPARED_VAL") == {"sweep", "evaluate"}
    # What these two write is read by the table alone.
    measured = {name for name in STAGES if any("measured" in dep for dep in STAGES[name]["deps"])}
    assert measured == {"table"}


def test_thresholds_and_levels_are_chosen_on_held_out_images() -> None:
    for name in ("tune_refiner", "tune_pseudo", "predicted", "prompted"):
        assert str(paths.HOLDOUT) in listed(name)
    assert readers(paths.HOLDOUT) == {
        *("teacher", "tune_refiner", "tune_pseudo", "predicted", "prompted", "train"),
        "ours",  # which learns what the quality of a label means
    }


def test_plain_repro_runs_nothing_of_this() -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert "compare" not in text
    assert "pipelines/comparison" not in text
