"""Saved networks: the same answers after loading; damaged ones are named."""

import json
from pathlib import Path

import pytest
import torch

from wssis.checkpoint import META, WEIGHTS, load_model, save_model
from wssis.errors import InputError
from wssis.models.refiner import Refiner
from wssis.models.solov2 import SOLOv2
from wssis.settings import RefinerSettings, SOLOv2Settings

SETTINGS = SOLOv2Settings(pretrained=False, fpn_channels=16, head_channels=16, mask_channels=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(tmp_path / "m", SOLOv2(SETTINGS, 2), SETTINGS, "solov2", ("a", "b"), {"step": 3})
    return tmp_path / "m"


def test_a_loaded_network_answers_as_the_saved_one(folder: Path) -> None:
    torch.manual_seed(0)
    original = SOLOv2(SETTINGS, 2).eval()
    model, meta = load_model(folder)
    x = torch.randn(1, 3, 64, 64)
    assert isinstance(model, SOLOv2)
    assert not model.training
    assert torch.equal(model(x).category, original(x).category)
    assert (meta.kind, meta.class_names, meta.extra) == ("solov2", ("a", "b"), {"step": 3})
    assert model.settings == SETTINGS


def test_a_refiner_loads_too(tmp_path: Path) -> None:
    settings = RefinerSettings(pretrained=False, width=16, crop=32)
    save_model(tmp_path, Refiner(settings, 3), settings, "refiner", ("a", "b", "c"))
    model, meta = load_model(tmp_path)
    assert isinstance(model, Refiner)
    assert model.settings == settings
    assert meta.kind == "refiner"


def test_nothing_else_is_left_in_the_folder(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [META, WEIGHTS]


def test_no_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none"):
        load_model(tmp_path / "nothing")


@pytest.mark.parametrize("keep", [0, 7, 100, 5000])
def test_truncated_weights_are_named(folder: Path, keep: int) -> None:
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(InputError, match=f"{WEIGHTS}.*truncated"):
        load_model(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match="is missing"):
        load_model(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 9, "kind": "x"}'])
def test_a_broken_description_is_named(folder: Path, text: str) -> None:
    (folder / META).write_text(text)
    with pytest.raises(InputError, match=META):
        load_model(folder)


def edited(folder: Path, **changes: object) -> None:
    described = json.loads((folder / META).read_text())
    for key, value in changes.items():
        described[key] = value
    (folder / META).write_text(json.dumps(described))


def test_other_classes_and_other_architectures_are_refused(folder: Path) -> None:
    edited(folder, class_names=["a", "b", "c"])
    with pytest.raises(InputError, match="other classes"):
        load_model(folder)
    described = json.loads((folder / META).read_text())
    edited(folder, class_names=["a", "b"], settings=described["settings"] | {"fpn_channels": 24})
    with pytest.raises(InputError, match="another architecture"):
        load_model(folder)
    edited(folder, settings=described["settings"] | {"color": 1})
    with pytest.raises(InputError, match="does not know: color"):
        load_model(folder)
    edited(folder, settings=described["settings"] | {"ranges": []})
    with pytest.raises(InputError, match="describes no network"):
        load_model(folder)
