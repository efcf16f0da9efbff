"""Digests of the stages' code: editing prose changes none, editing code those of the stages that use it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.code_digests import ROOT, closure, code_digests

Edit = Callable[[str, str, str], set[str]]


@pytest.fixture
def edit(tmp_path: Path) -> Edit:
    """Replaces text in a file of a copy of the code; returns the keys whose digests change."""
    for package in ("wssis", "pipelines"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    before = code_digests(tmp_path)

    def change(file: str, old: str, new: str) -> set[str]:
        path = tmp_path / file
        text = path.read_text()
        assert old in text
        path = (
            shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-edited"), dirs_exist_ok=True)
            / file
        )
        path.write_text(text.replace(old, new, 1))
        after = code_digests(tmp_path.with_name(f"{tmp_path.name}-edited"))
        return {key for key in before if before[key] != after[key]}

    return change


def test_comments_docstrings_and_platform_code_change_nothing(edit: Edit) -> None:
    assert not edit("wssis/training/losses.py", '"""', '"""Other prose. ')
    assert not edit("wssis/training/losses.py", "import torch\n", "import torch  # a comment\n\n")
    assert not edit("pipelines/runner/stage_lock.py", "import os\n", "import os\n\nUNUSED = 1\n")
    assert not edit("wssis/__init__.py", "__version__ = ", "__version__ = 'later' + ")


def test_a_loss_changes_the_stages_that_train_with_it(edit: Edit) -> None:
    changed = edit("wssis/training/losses.py", "import torch\n", "import torch\n\nUNUSED = 1\n")
    assert {"train", "comparison_students"} <= changed
    assert not changed & {"prepare", "split", "rough", "audit", "report", "comparison_given_labels"}


def test_a_module_that_a_function_imports_and_a_template_count(edit: Edit) -> None:
    assert "report" in edit("pipelines/report/templates/report.css", "{", "{ ")
    assert "pipelines.stages.split" in closure("pipelines.comparison.given_labels")
    assert "wssis.data.points.csv" in closure("pipelines.stages.split")
    assert "wssis.errors" not in closure("pipelines.stages.split")


def test_digests_are_written_without_heavy_imports(tmp_path: Path) -> None:
    words = [sys.executable, "-X", "importtime", "-m", "pipelines.code_digests"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "mlflow", "numpy", "optuna"}
    assert (tmp_path / "code.json").read_text().count(":") == len(code_digests())
