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


def house() -> Any:
    """tests/test_architecture.py, whose reading of imports is used here."""
    spec = importlib.util.spec_from_file_location("house", ROOT / "tests/test_architecture.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["house"] = module
    spec.loader.exec_module(module)
    return module


HOUSE = house()


def module(name: str) -> Path:
    words = STAGES[name]["cmd"].split()
    dotted = words[5] if words[2] == "pipelines.comparison.cell" else words[2]
    return ROOT / f"{dotted.replace('.', '/')}.py"


def listed(name: str) -> set[str]:
    """Deps and outs that are no code, as a stage in the cell names them."""
    outs = [next(iter(out)) if isinstance(out, dict) else out for out in STAGES[name]["outs"]]
    data = [path for path in STAGES[name]["deps"] if path.split("/")[0] not in ("wssis", "pipelines")]
    return {path.removeprefix(CELL) for path in (*data, *outs)}


def readers(path: Path) -> set[str]:
    return {n for n in STAGES if str(path) in {dep.removeprefix(CELL) for dep in STAGES[n]["deps"]}}


def naming(constant: str) -> set[str]:
    """Stages of compare's own whose module names a path."""
    return {
        path.stem
        for path in (ROOT / "pipelines/comparison").glob("*.py")
        if any(
            isinstance(node, ast.Attribute) and node.attr == constant
            for node in ast.walk(ast.parse(path.read_text()))
        )
    }


@pytest.mark.parametrize("name", list(STAGES))
def test_code_deps_are_what_the_stage_imports(name: str) -> None:
    deps = {path for path in STAGES[name]["deps"] if path.split("/")[0] in ("wssis", "pipelines")}
    used = HOUSE.closure(module(name)) | ({"pipelines/comparison/cell.py"} if name != "table" else set())
    used |= {folder for file in used if (folder := file.rsplit("/", 1)[0]) in deps}
    used -= {file for file in used if file.rsplit("/", 1)[0] in deps}
    lines = "\n".join(f"      - {path}" for path in sorted(used - deps))
    assert not used - deps, f"compare/dvc.yaml, stage {name}: add under deps\n{lines}"
    assert not deps - used, f"compare/dvc.yaml, stage {name}: take out of deps {deps - used}"


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
            path for item in HOUSE.STAGES[name].get("params", []) if isinstance(item, dict) for path in item
        }
        assert listed(name) == HOUSE.data_deps(name) | tuned | set(HOUSE.outs(name)), name


def test_params_are_known_and_those_of_the_pipelines_stages() -> None:
    known = set(flatten(load_params(ROOT / "params.yaml"))) | set(Params.model_fields)
    own = {"compare.iterations", "compare.class_seconds"}
    for name, stage in STAGES.items():
        params = set(stage.get("params", []))
        assert params <= known, name
        # The cell's own values of these are in the command.
        assert not params & {"seed", "split", "split.strong", "compare"}, name
    pairs = {name: name for name in ("teacher", "tune_refiner", "refiner", "tune_pseudo")}
    pairs["train"] = "student"
    for name, like in pairs.items():
        theirs = {item for item in HOUSE.STAGES[like]["params"] if isinstance(item, str)}
        assert set(STAGES[name]["params"]) - own == theirs - {"seed"}, name
    for name in ("teacher", "tune_refiner", "refiner", "train"):
        assert "compare.iterations" in STAGES[name]["params"]


def test_every_row_is_labelled_trained_and_measured() -> None:
    from pipelines.comparison.rows import ROWS

    made = {path for name in STAGES for path in listed(name) if path.startswith(f"{paths.ROW_LABELS}/")}
    assert made == {f"{paths.ROW_LABELS}/{row}.json" for row in (*ROWS, "${item.row}")}
    assert str(paths.COMPARE_MEASURED) in STAGES["table"]["deps"]


def test_only_the_oracle_reads_true_masks_of_weak_images() -> None:
    assert readers(paths.WEAK_TRUTH) == {"oracle"}
    assert naming("WEAK_TRUTH") == {"oracle"}
    assert readers(paths.PREPARED_TRAIN) == {"split"}
    assert naming("PREPARED_TRAIN") == set()  # the pipeline's own split reads it
    assert "ATTENTION" in module("oracle").read_text()
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
