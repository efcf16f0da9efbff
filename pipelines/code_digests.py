"""The stage `code`: digests of the code behind each stage.

`code.json` has a digest for each module in `pipelines/stages` and `pipelines/comparison`; `dvc.yaml` names it
among the params of the stages, so DVC reruns a stage when code that it imports changes. A digest covers the
syntax trees of all modules that the stage's module imports, directly or not, without comments and docstrings:
editing prose reruns nothing. Only `ast` is used, so the stage takes about a second.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

from pipelines import paths
from wssis.files import write_json

ROOT = Path(__file__).parents[1]  # the folder of the packages `wssis` and `pipelines`
# Code that reads params, finds files, logs, resumes and shows, but does not affect what a stage writes.
IGNORED = (
    *("pipelines.config", "pipelines.console", "pipelines.tracking"),
    *("pipelines.code_digests", "pipelines.paths", "pipelines.provenance"),
    *("pipelines.runner", "pipelines.search.charts", "pipelines.search.storage"),
    *("wssis.errors", "wssis.files", "wssis.training.state"),
)
NOT_IGNORED = ("pipelines.runner.training_log",)  # writes plots/*.csv
PACKAGES = ("wssis", "pipelines")  # their __init__ has the version and environment variables


def code_digests(root: Path = ROOT) -> dict[str, str]:
    """SHA-256 of the code of every module of stages, by key (see `stage_digest`)."""
    names = {"": "pipelines/stages", "comparison_": "pipelines/comparison"}
    keys = [prefix + path.stem for prefix, folder in names.items() for path in (root / folder).glob("*.py")]
    return {key: stage_digest(key, root) for key in sorted(keys) if not key.endswith("__init__")}


def stage_digest(key: str, root: Path = ROOT) -> str:
    """SHA-256 of a module of stages and of everything in wssis and pipelines that it imports.

    Args:
        key: `NAME` of a module in `pipelines/stages`, `comparison_NAME` of one in `pipelines/comparison`.
    """
    stem = key.removeprefix("comparison_")
    package = "stages" if stem == key else "comparison"
    digest = hashlib.sha256()
    for name in sorted(closure(f"pipelines.{package}.{stem}", root)):
        digest.update(f"{name} {_file_digest(_file(name, root))}\n".encode())
    return digest.hexdigest()


def closure(module: str, root: Path = ROOT) -> set[str]:
    """Modules that a module imports, directly or not, also inside functions; itself included."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and not _ignored(name) and _file(name, root).is_file():
            found.add(name)
            waiting += _imports(_file(name, root))
    return found


def _ignored(module: str) -> bool:
    inside = any(f"{module}.".startswith(f"{name}.") for name in IGNORED)
    return module in PACKAGES or (inside and module not in NOT_IGNORED)


def _file(module: str, root: Path) -> Path:
    base = root / module.replace(".", "/")
    return base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"


@cache
def _imports(path: Path) -> frozenset[str]:
    """Names of wssis and pipelines that a file imports, with their packages; they need not be modules."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names if name.split(".")[0] in PACKAGES]
    return frozenset(".".join(part[:end]) for part in parts for end in range(1, len(part) + 1))


@cache
def _file_digest(path: Path) -> str:
    """SHA-256 of a module without comments and docstrings; a package's also covers its templates."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            node.body = [item for item in body if not _is_prose(item)] or [ast.Pass()]  # type: ignore[attr-defined]
    digest = hashlib.sha256(ast.unparse(tree).encode())
    if path.stem == "__init__":
        for other in sorted(path.parent.iterdir()):
            if other.is_file() and other.suffix not in (".py", ".pyc"):
                digest.update(other.read_bytes())
    return digest.hexdigest()


def _is_prose(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


if __name__ == "__main__":
    write_json(paths.CODE, code_digests(), indent=2)
    sys.exit(0)
