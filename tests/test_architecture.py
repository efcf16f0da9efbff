"""The house: who may import whom, and dvc.yaml against paths.py and what each stage really uses."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import wssis
from pipelines import paths
from pipelines.config.params import read_yaml
from pipelines.config.schema import Params

ROOT = Path(__file__).parent.parent
STAGES = read_yaml(ROOT / "dvc.yaml")["stages"]
ORDER = [
    *("prepare", "split", "teacher", "rough", "tune_refiner", "refiner", "tune_pseudo", "pseudo", "audit"),
    *("student", "strong_only", "evaluate", "register", "report"),
]
# What reads params, finds files, notes and shows, but has no part in what an out contains.
PLUMBING = {
    *(f"pipelines/{name}.py" for name in ("__init__", "paths", "provenance", "stages/__init__")),
    *(f"pipelines/config/{name}.py" for name in ("__init__", "params", "schema", "platform_schema")),
    *(f"pipelines/console/{name}.py" for name in ("__init__", "progress")),
    *(f"pipelines/tracking/{name}.py" for name in ("__init__", "tracker", "runs", "store")),
    *(
        f"pipelines/runner/{name}.py"
        for name in (
            *("__init__", "run_stage", "torchrun", "shards", "scratch"),
            *("stage_lock", "signals", "result_journal"),
        )
    ),
    *(f"pipelines/search/{name}.py" for name in ("__init__", "storage", "charts")),
    *(f"pipelines/{name}/__init__.py" for name in ("inference", "registry", "report")),
    *(
        f"wssis/{name}__init__.py"
        for name in (
            *("", "data/", "evaluation/", "inference/", "models/", "ops/", "pseudo_labels/"),
            "training/",
        )
    ),
    *("wssis/errors.py", "wssis/files.py", "wssis/training/state.py"),
}


def source_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names that a file imports anywhere in it; `from a import b` counts as a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def module_file(name: str) -> Path | None:
    base = ROOT / name.replace(".", "/")
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def closure(start: Path) -> set[str]:
    """Files of wssis and pipelines that a module imports, directly or not, itself included."""
    found: set[Path] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        # Plumbing imports more than it has a part in: what it imports does not count.
        if path in found or str(path.relative_to(ROOT)) in PLUMBING:
            continue
        found.add(path)
        waiting += [file for name in imports(path) if (file := module_file(name))]
    return {str(path.relative_to(ROOT)) for path in found}


# Params that a stage reads for what it notes in MLflow; no file that it writes depends on them.
NOTED = {"teacher": {"evaluate"}}
# Folders whose files dvc.yaml lists one by one, since two stages write there.
SHARED = (str(paths.STUDENT), str(paths.STRONG_ONLY))


def as_folders(listed: set[str]) -> set[str]:
    """Paths of dvc.yaml, with the folder in the place of files in one of `SHARED`."""
    return {next((folder for folder in SHARED if path.startswith(f"{folder}/")), path) for path in listed}


def stage_file(name: str) -> Path:
    return ROOT / "pipelines/stages" / f"{STAGES[name]['cmd'].split()[2].rsplit('.', 1)[-1]}.py"


def outs(name: str) -> dict[str, dict[str, object]]:
    """Paths of a stage's outs, metrics and plots, with their options."""
    found: dict[str, dict[str, object]] = {}
    for kind in ("outs", "metrics", "plots"):
        for out in STAGES[name].get(kind, []):
            found |= out if isinstance(out, dict) else {out: {}}
    return found


def code_deps(name: str) -> set[str]:
    """Files, and folders that stand for all files in them."""
    return {path for path in STAGES[name]["deps"] if path.split("/")[0] in ("wssis", "pipelines")}


def data_deps(name: str) -> set[str]:
    return set(STAGES[name]["deps"]) - code_deps(name)


@pytest.mark.parametrize("path", source_files("wssis"), ids=str)
def test_the_method_knows_no_platform(path: Path) -> None:
    banned = {"pipelines", "yaml", "ruamel", "mlflow", "optuna", "dvc", "pydantic", "argparse", "rich"}
    assert not {name.split(".")[0] for name in imports(path)} & banned


@pytest.mark.parametrize("path", source_files("pipelines"), ids=str)
def test_each_library_has_its_module(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    owners = {
        "mlflow": {
            "tracker",
            "runs",
            "store",
            "register",
            "versions",
            "pyfunc_model",
            "predict_worker",
            "ui",
        },
        "optuna": {path.stem for path in (ROOT / "pipelines/search").glob("*.py")},
        "ruamel": {"params"},
        "yaml": {"params"},
    }
    for library, modules in owners.items():
        assert library not in tops or path.stem in modules, f"{path.name} imports {library}"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("import mlflow\nimport optuna\nimport yaml\n\nprint(mlflow, optuna, yaml)\n", 3),
        ("from pycocotools import mask as api\n\nprint(api.area([]))\n", 1),
        ("from pycocotools.mask import area\n\nprint(area([]))\n", 1),
        ("import pycocotools.mask\n\nprint(pycocotools.mask.area([]))\n", 1),
    ],
)
def test_ruff_refuses_what_has_its_place(text: str, count: int) -> None:
    stray = ROOT / "pipelines" / "stray.py"
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--output-format=concise", f"--stdin-filename={stray}", "-"],
        input=text,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.stdout.count("TID251") == count


def test_stages_come_in_their_order() -> None:
    assert list(STAGES) == ORDER


@pytest.mark.parametrize("name", ORDER)
def test_code_deps_are_what_the_stage_imports(name: str) -> None:
    listed = code_deps(name)
    used = closure(stage_file(name))
    used |= {folder for file in used if (folder := file.rsplit("/", 1)[0]) in listed}
    used -= {file for file in used if file.rsplit("/", 1)[0] in listed}
    missing = "\n".join(f"      - {path}" for path in sorted(used - listed))
    extra = "\n".join(f"      - {path}" for path in sorted(listed - used))
    assert not missing, (
        f"dvc.yaml, stage {name}: add under deps, else DVC skips it when they change\n{missing}"
    )
    assert not extra, f"dvc.yaml, stage {name}: take out of deps, the stage does not import them\n{extra}"


def test_paths_are_those_of_paths_py() -> None:
    known = {str(value) for value in vars(paths).values() if isinstance(value, Path)}
    for name in ORDER:
        unknown = (data_deps(name) | set(outs(name))) - known
        assert not unknown, f"dvc.yaml, stage {name}: not in pipelines/paths.py: {unknown}"


def others_than(training: str) -> set[str]:
    """Functions of train.py that have no part in a training."""
    functions = {"teacher": {"teacher", "validate"}, "student": {"student"}, "strong_only": {"strong_only"}}
    shared = {"train_student"} if training == "teacher" else set()
    return set().union(*functions.values()) - functions[training] | shared


def constants_used(name: str) -> set[str]:
    """Paths that a stage's module names as `paths.NAME`; of train.py, without the other trainings."""
    tree = ast.parse(stage_file(name).read_text())
    if stage_file(name).stem == "train":
        tree.body = [
            n for n in tree.body if not (isinstance(n, ast.FunctionDef) and n.name in others_than(name))
        ]
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "paths"
    }
    return {str(getattr(paths, attr)) for attr in used if isinstance(getattr(paths, attr), Path)}


@pytest.mark.parametrize("name", ORDER)
def test_a_stage_reads_and_writes_what_dvc_yaml_says(name: str) -> None:
    listed = as_folders(data_deps(name) | set(outs(name)))
    folders = {str(paths.PREPARED), str(paths.PREPARED_TRAIN_IMAGES), str(paths.PREPARED_VAL_IMAGES)}
    inside_report = {str(path) for path in (paths.REPORT_HTML, paths.REPORT_SUMMARY, paths.REPORT_EXAMPLE)}
    used = as_folders(constants_used(name))
    assert used - listed - folders - inside_report == set(), "named in the module, not in dvc.yaml"
    if name != "prepare":  # its files are written by `shapes.generate`, given the folder
        assert listed - used - folders == set(), "in dvc.yaml, not named in the module"


def sections_used(name: str) -> set[str]:
    """Sections of params that a stage's module reads."""
    known = set(Params.model_fields)
    tree = ast.parse(stage_file(name).read_text())
    if stage_file(name).stem == "train":
        tree.body = [
            n for n in tree.body if not (isinstance(n, ast.FunctionDef) and n.name in others_than(name))
        ]
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "rules_in_force":
            used |= {"pseudo", "tune_pseudo"}
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "refiner_in_force":
            used |= {"refiner", "tune_refiner"}
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("params", "stage.params"):
            used |= {"model", "teacher"} if node.attr == "teacher_model" else {node.attr}
    return used & known


@pytest.mark.parametrize("name", ORDER)
def test_params_of_a_stage_are_those_that_it_reads(name: str) -> None:
    listed = {param.split(".")[0] for param in STAGES[name].get("params", []) if isinstance(param, str)}
    assert listed == sections_used(name) - NOTED.get(name, set())


def test_only_some_stages_can_see_what_would_leak() -> None:
    allowed = {
        str(paths.WEAK_TRUTH): {"audit"},
        str(paths.GALLERY): {"report"},  # pictures of true masks
        str(paths.PREPARED_TRAIN): {"split"},
        str(paths.PREPARED_VAL): {"evaluate", "register", "report"},
        str(paths.PREPARED_VAL_IMAGES): {"evaluate", "register", "report"},
        str(paths.PREPARED_VAL_LABELS): {"split"},  # counts, for the ledger
        str(paths.DRAWN): {"pseudo"},
    }
    for path, stages in allowed.items():
        readers = {name for name in ORDER if path in data_deps(name)}
        assert readers <= stages
        users = {name for name in ORDER if path in constants_used(name) and path not in outs(name)}
        assert users <= stages, f"{users - stages} name {path}"
    for name, known in (("tune_refiner", {paths.STRONG, paths.HOLDOUT}), ("tune_pseudo", {paths.HOLDOUT})):
        data = {path for path in data_deps(name) if path.startswith("data/splits")}
        assert data == {str(path) for path in known}


def test_no_stage_depends_on_a_folder_that_holds_a_leak() -> None:
    for name in ORDER:
        assert not data_deps(name) & {"data", "data/prepared", "data/splits", "data/truth"}


def test_metrics_and_tuned_rules_are_kept_by_git() -> None:
    for name in ORDER:
        for path, options in outs(name).items():
            plain = path.startswith(("metrics/", "tuned/"))
            assert (options.get("cache") is False) == plain, path


def test_license_and_citation_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["license"] == project["license"] == "Apache-2.0"
    assert citation["version"] == wssis.__version__
    assert [author["name"] for author in citation["authors"]] == [a["name"] for a in project["authors"]]
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Copyright 2026 The wssis authors" in text


def test_usage_reports_are_off() -> None:
    config = (ROOT / ".dvc/config").read_text()
    assert "analytics = false" in config
    assert "autostage = false" in config
    script = "import pipelines, os; print(os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split() == ["true", "true"]


@pytest.mark.parametrize("path", source_files("wssis", "pipelines"), ids=str)
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
