"""Architecture: who may import whom, and dvc.yaml against paths.py, params and what each stage uses."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

import wssis
from pipelines import paths
from pipelines.config.params import read_yaml
from pipelines.config.schema import Params

ROOT = Path(__file__).parent.parent
STAGES = read_yaml(ROOT / "dvc.yaml")["stages"]
ORDER = [
    *("code", "prepare", "split", "teacher", "rough", "tune_refiner", "refiner", "tune_pseudo", "pseudo"),
    *("audit", "student", "strong_only", "evaluate", "register", "report"),
]
# Packages and modules from low to high: each imports only from its own line and from lines above.
LAYERS = [
    {"wssis", "wssis.errors", "wssis.settings", "wssis.instances", "wssis.ops"},
    {"wssis.files"},
    {"wssis.models", "wssis.checkpoint", "wssis.distributed", "wssis.label_budget", "wssis.image_ranking"},
    {"wssis.data", "wssis.visualize"},
    {"wssis.training", "wssis.inference", "wssis.evaluation", "wssis.formats", "wssis.validation"},
    {"wssis.pseudo_labels"},
    {"pipelines", "pipelines.paths", "pipelines.config", "pipelines.console"},
    {"pipelines.code_digests"},
    {"pipelines.provenance", "pipelines.decode_file"},
    {"pipelines.tracking"},
    {"pipelines.runner", "pipelines.registry"},
    {"pipelines.report"},
    {"pipelines.inference"},
    {"pipelines.search", "pipelines.serving", "pipelines.promotion", "pipelines.datasets"},
    {"pipelines.stages"},
    {"pipelines.comparison"},
    {"pipelines.cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Public names that several modules define on purpose: readers, writers, command lines, searches.
INTERFACES = {"read", "write", "main", "search"}


def source_files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in source_files("wssis", "pipelines")}


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names that a file imports anywhere in it; `from a import b` counts as a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def imported_modules(path: Path) -> set[str]:
    """Modules of wssis and pipelines that a file imports."""
    return {
        name if name in MODULES else name.rpartition(".")[0]
        for name in imports(path)
        if name.split(".")[0] in ("wssis", "pipelines")
    }


def layer(module: str) -> str:
    return module if module in LEVEL else ".".join(module.split(".")[:2])


def test_imports_go_down_the_layers() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in sorted(imported_modules(path))
        if layer(module) != layer(other) and LEVEL[layer(module)] < LEVEL[layer(other)]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_one_another() -> None:
    names = list(MODULES)
    edges = [(names.index(a), names.index(b)) for a in names for b in imported_modules(MODULES[a]) if a != b]
    graph = csr_array(([1] * len(edges), tuple(zip(*edges, strict=True))), shape=(len(names),) * 2)
    _, groups = connected_components(graph, connection="strong")
    members = defaultdict(list)
    for name, group in zip(names, groups, strict=True):
        members[group].append(name)
    assert not [found for found in members.values() if len(found) > 1]


@pytest.mark.parametrize(
    ("library", "owners"),
    [
        ("mlflow", ("tracking/", "registry/", "promotion/predict_worker.py", "serving/")),
        ("optuna", ("search/",)),
        ("ruamel", ("config/params.py", "config/presets.py")),
        ("yaml", ("config/params.py", "config/presets.py")),
    ],
)
def test_each_library_has_its_place(library: str, owners: tuple[str, ...]) -> None:
    for path in source_files("wssis", "pipelines"):
        place = path.relative_to(ROOT).as_posix().removeprefix("pipelines/")
        if library in {name.split(".")[0] for name in imports(path)}:
            assert place.startswith(owners), f"{path} imports {library}"


def test_the_method_imports_no_platform() -> None:
    banned = {
        "pipelines",
        "yaml",
        "ruamel",
        "mlflow",
        "optuna",
        "dvc",
        "pydantic",
        "argparse",
        "cyclopts",
        "rich",
    }
    for path in source_files("wssis"):
        assert not {name.split(".")[0] for name in imports(path)} & banned, path


def test_modules_have_a_reasonable_size() -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert not {name: count for name, count in lines.items() if count > 400}
    short = [name for name, path in MODULES.items() if path.stem != "__init__" and lines[name] < 40]
    assert len(short) <= 5, short


def test_public_names_are_defined_once() -> None:
    found = defaultdict(set)
    for name, path in MODULES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].add(name)
    for names in found.values():  # a command's function has the name of what it calls
        names -= {name for name in names if name.startswith("pipelines.cli.")}
    stages = {path.stem for path in source_files("pipelines/stages")} | set(ORDER)
    twice = {n: sorted(m) for n, m in found.items() if len(m) > 1 and n not in INTERFACES | stages}
    assert len(twice) <= 10 - len(INTERFACES), twice


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("import mlflow\nimport optuna\nimport yaml\n\nprint(mlflow, optuna, yaml)\n", 3),
        ("from pycocotools.mask import area\n\nprint(area([]))\n", 1),
        ("import pycocotools.mask\n\nprint(pycocotools.mask.area([]))\n", 1),
    ],
)
def test_ruff_refuses_misplaced_imports(text: str, count: int) -> None:
    words = ["-m", "ruff", "check", "--output-format=concise", "--stdin-filename=pipelines/stray.py", "-"]
    done = subprocess.run(
        [sys.executable, *words], input=text, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.count("TID251") == count


# Params that a stage reads for what it logs; no file that it writes depends on them.
LOGGED = {"teacher": {"evaluate"}}
# Folders whose files dvc.yaml lists one by one, since two stages write there.
SHARED = (str(paths.STUDENT), str(paths.STRONG_ONLY))


def as_folders(listed: set[str]) -> set[str]:
    """Paths of dvc.yaml, with the folder instead of the files in one of `SHARED`."""
    return {next((folder for folder in SHARED if path.startswith(f"{folder}/")), path) for path in listed}


def stage_module(name: str) -> str:
    """The key of a stage in code.json."""
    return str(STAGES[name]["cmd"].split()[2].rsplit(".", 1)[-1])


def deps(name: str) -> set[str]:
    return set(STAGES[name].get("deps", []))


def outs(name: str) -> dict[str, dict[str, object]]:
    """Paths of a stage's outs, metrics and plots, with their options."""
    found: dict[str, dict[str, object]] = {}
    for kind in ("outs", "metrics", "plots"):
        for out in STAGES[name].get(kind, []):
            found |= out if isinstance(out, dict) else {out: {}}
    return found


def stage_tree(name: str) -> ast.Module:
    """Syntax tree of a stage's module; of train.py without the functions of the other trainings."""
    tree = ast.parse((ROOT / "pipelines/stages" / f"{stage_module(name)}.py").read_text())
    if stage_module(name) == "train":
        mine = {"teacher": {"teacher", "validate"}, "student": {"student"}, "strong_only": {"strong_only"}}
        others = set().union(*mine.values()) - mine[name] | (
            {"train_student"} if name == "teacher" else set()
        )
        tree.body = [n for n in tree.body if not (isinstance(n, ast.FunctionDef) and n.name in others)]
    return tree


def constants_used(name: str) -> set[str]:
    """Paths that a stage's module names as `paths.NAME`."""
    used = {
        getattr(paths, node.attr)
        for node in ast.walk(stage_tree(name))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "paths"
    }
    return {str(path) for path in used if isinstance(path, Path)}


def sections_used(name: str) -> set[str]:
    """Sections of params that a stage's module reads."""
    used = set()
    for node in ast.walk(stage_tree(name)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "rules_in_force":
            used |= {"pseudo", "tune_pseudo"}
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "refiner_in_force":
            used |= {"refiner", "tune_refiner"}
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("params", "stage.params"):
            used |= {"model", "teacher"} if node.attr == "teacher_model" else {node.attr}
    return used & set(Params.model_fields)


def test_stages_are_in_order_and_hang_on_their_code() -> None:
    assert list(STAGES) == ORDER
    for name in ORDER[1:]:
        assert {str(paths.CODE): [stage_module(name)]} in STAGES[name]["params"], name
        assert not {dep.split("/")[0] for dep in deps(name)} & {"wssis", "pipelines"}


@pytest.mark.parametrize("name", ORDER[1:])
def test_a_stage_reads_and_writes_what_dvc_yaml_says(name: str) -> None:
    listed = as_folders(deps(name) | set(outs(name)))
    known = {str(value) for value in vars(paths).values() if isinstance(value, Path)}
    assert deps(name) | set(outs(name)) <= known
    folders = {str(paths.PREPARED), str(paths.PREPARED_TRAIN_IMAGES), str(paths.PREPARED_VAL_IMAGES)}
    inside_report = {str(path) for path in (paths.REPORT_HTML, paths.REPORT_SUMMARY, paths.REPORT_EXAMPLE)}
    used = as_folders(constants_used(name))
    assert used - listed - folders - inside_report == set(), "named in the module, not in dvc.yaml"
    if name != "prepare":  # the generator of shapes writes its files, given the folder
        assert listed - used - folders == set(), "in dvc.yaml, not named in the module"
    sections = {param.split(".")[0] for param in STAGES[name]["params"] if isinstance(param, str)}
    assert sections == sections_used(name) - LOGGED.get(name, set())


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
        assert {name for name in ORDER if path in deps(name)} <= stages
        users = {name for name in ORDER[1:] if path in constants_used(name) and path not in outs(name)}
        assert users <= stages, f"{users - stages} name {path}"
    for name, known in (("tune_refiner", {paths.STRONG, paths.HOLDOUT}), ("tune_pseudo", {paths.HOLDOUT})):
        data = {path for path in deps(name) if path.startswith("data/splits")}
        assert data == {str(path) for path in known}
    for name in ORDER:
        assert not deps(name) & {"data", "data/prepared", "data/splits", "data/truth"}


def test_metrics_and_tuned_rules_are_kept_by_git() -> None:
    for name in ORDER:
        for path, options in outs(name).items():
            assert (options.get("cache") is False) == path.startswith(("metrics/", "tuned/")), path


def test_license_and_citation_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["license"] == project["license"] == "Apache-2.0"
    assert citation["version"] == wssis.__version__
    assert [author["name"] for author in citation["authors"]] == [a["name"] for a in project["authors"]]
    assert "Copyright 2026 The wssis authors" in (ROOT / "LICENSE").read_text()
    assert f"## [{wssis.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_usage_reports_are_off() -> None:
    config = (ROOT / ".dvc/config").read_text()
    assert "analytics = false" in config
    assert "autostage = false" in config
    script = "import pipelines, os; print(os.environ['MLFLOW_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK'])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split() == ["true", "true"]


def test_every_promise_has_its_test() -> None:
    found = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "tests/README.md").read_text())
    assert len(found) > 50
    for file, name in found:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"
