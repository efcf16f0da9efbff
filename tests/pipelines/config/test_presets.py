"""Presets, and the params.yaml that is written from them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pipelines.config.params import flatten, load_params, member_type, parse, parse_yaml, read_yaml
from pipelines.config.presets import load_preset, preset_values, render_params
from pipelines.config.schema import DEFAULTS, Folder, Params
from wssis.errors import InputError

ROOT = Path(__file__).parents[3]
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))
RECIPES = {1: 10_000, 2: 25_000, 5: 30_000, 10: 45_000, 20: 120_000, 30: 160_000, 40: 210_000, 50: 270_000}


def sections(kind: Any = Params) -> Iterator[Any]:
    """All classes of params.yaml."""
    yield kind
    for name in kind.model_fields if issubclass(kind, BaseModel) else [f.name for f in fields(kind)]:
        inner = member_type(kind, name)
        if isinstance(inner, type) and (is_dataclass(inner) or issubclass(inner, BaseModel)):
            yield from sections(inner)


def test_params_yaml_is_the_preset_shapes_to_the_byte() -> None:
    path = Path("presets/shapes.yaml")
    assert (
        render_params(preset_values(ROOT / path), ROOT / path).replace(f"{ROOT}/", "")
        == (ROOT / "params.yaml").read_text()
    )
    assert load_params(ROOT / "params.yaml") == load_preset(ROOT / path)


def test_presets_are_those_that_the_docs_name() -> None:
    coco = {f"coco-{share:02}p" for share in RECIPES}
    assert {path.stem for path in PRESETS} == {"shapes", "nuclei", "carparts", "mine", "bdd100k"} | coco


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_written_preset_names_every_key_and_says_what_the_preset_says(path: Path) -> None:
    text = render_params(preset_values(path), path)
    values = parse_yaml(text, path)
    assert parse(values, Params, path) == load_preset(path)
    assert set(flatten(values)) == set(flatten(load_preset(path)))
    assert text.startswith(f"# {path.stem}: ")
    assert max(map(len, text.replace(f"{ROOT}/", "").splitlines())) <= 110


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_repeats_no_value_of_its_base(path: Path) -> None:
    overlay = read_yaml(path) or {}
    base = flatten(
        preset_values(path.with_stem(overlay.pop("base"))) if "base" in overlay else DEFAULTS.model_dump()
    )
    # The network and the schedule of the paper are stated whole, and null says that labels are not checked.
    repeated = {key for key, value in flatten(overlay).items() if key in base and base[key] == value}
    assert repeated <= {"split.strong", "pseudo.refined_weight"}


@pytest.mark.parametrize(
    "kind", sorted({*sections(), Folder}, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__
)
def test_every_key_is_described(kind: Any) -> None:
    names = re.findall(r"^        (\w[\w, ]*): ", kind.__doc__ or "", flags=re.MULTILINE)
    described = {name for group in names for name in group.split(", ")}
    for name in kind.model_fields if issubclass(kind, BaseModel) else [f.name for f in fields(kind)]:
        inner = member_type(kind, name)
        is_section = is_dataclass(inner) or (isinstance(inner, type) and issubclass(inner, BaseModel))
        assert name in described or is_section, name


def test_comments_come_from_the_schema() -> None:
    lines = (ROOT / "params.yaml").read_text().splitlines()
    assert "  jitter: 0.0                # pixels by which a derived point is moved, at most" in lines
    assert "# Where searches are stored" in lines
    assert [line for line in lines if line.startswith("  train: ") and "teacher.train" in line] == [
        f"{'  train:':<28} # keys as in teacher.train"
    ] * 2


def test_coco_presets_have_the_papers_recipe() -> None:
    for share, iterations in RECIPES.items():
        params = load_preset(ROOT / f"presets/coco-{share:02}p.yaml")
        assert params.split.strong == share / 100
        assert params.teacher.train.iterations == iterations
        assert (params.model.backbone, params.model.parity) == ("resnet101", True)
        assert (params.resize.short, params.resize.long) == (800, 1333)
        assert params.augment.scale[0] * params.resize.short == 640
        assert params.teacher_model.grids == (80, 64, 32, 24, 12)
        assert params.model.grids == (40, 36, 24, 16, 12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("split:\n  stong: 0.1\n", r"mine\.yaml, split\.stong: .*Did you mean strong\?"),
        ("- 1\n", r"mine\.yaml: expected keys and values"),
        ("base: none\n", r"none\.yaml: does not exist"),
    ],
)
def test_an_invalid_preset_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        load_preset(tmp_path / "mine.yaml")


@pytest.mark.parametrize("text", ["null", "yes", "1e3", "a b", "../x/y.json", "é", "'\"", "#1", "a: b", "-"])
def test_any_name_survives_writing(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.yaml").write_text("# a\n")
    values = preset_values(tmp_path / "p.yaml") | {"tracking": {"experiment": text}}
    assert parse_yaml(render_params(values, tmp_path / "p.yaml"), "")["tracking"]["experiment"] == text
