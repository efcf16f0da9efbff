"""Networks on disk: a folder with `weights.safetensors` and `model.json`. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from wssis.errors import InputError
from wssis.files import write_json, write_tensors
from wssis.models.refiner import Refiner
from wssis.models.solov2 import SOLOv2
from wssis.settings import RefinerSettings, SOLOv2Settings

WEIGHTS, META = "weights.safetensors", "model.json"
FORMAT = 1
KINDS: dict[str, tuple[type[nn.Module], type]] = {
    "solov2": (SOLOv2, SOLOv2Settings),
    "refiner": (Refiner, RefinerSettings),
}


@dataclass(frozen=True)
class ModelMeta:
    """What `model.json` says beside the network's settings.

    Attributes:
        kind: "solov2" or "refiner".
        class_names: by label.
        extra: whatever the writer added (scale, category ids, ...).
    """

    kind: str
    class_names: tuple[str, ...]
    extra: dict[str, Any] = field(default_factory=dict)


def save_model(
    folder: str | Path,
    model: nn.Module,
    settings: Any,
    kind: str,
    class_names: Sequence[str],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a network: the weights first, then the description that makes the folder a model.

    Args:
        folder: made if missing; an older model in it is replaced.
        model: SOLOv2 or Refiner.
        settings: its settings dataclass, or the same as a dict.
        kind: "solov2" or "refiner".
        class_names: by label.
        extra: JSON values that are given back by `load_model`.
    """
    folder = Path(folder)
    values = asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else dict(settings)
    (folder / META).unlink(missing_ok=True)
    write_tensors(folder / WEIGHTS, model.state_dict())
    meta = {
        "format": FORMAT,
        "kind": kind,
        "class_names": list(class_names),
        "settings": values,
        "extra": dict(extra or {}),
    }
    write_json(folder / META, meta, indent=2)


def load_model(folder: str | Path) -> tuple[nn.Module, ModelMeta]:
    """A saved network in evaluation mode on the CPU, and its description.

    Raises:
        InputError: there is no model in the folder, or it is truncated or of another architecture.
    """
    folder = Path(folder)
    described = _read_meta(folder)
    kind = described["kind"]
    network, settings_class = KINDS[kind]
    known = {f.name for f in fields(settings_class)}
    values = {name: _tuples(value) for name, value in described["settings"].items()}
    if unknown := sorted(set(values) - known):
        raise InputError(
            f"has settings that this version does not know: {', '.join(unknown)}",
            where=folder / META,
            remedy="Use the version of wssis that wrote it, or train again",
        )
    values["pretrained"] = False  # the weights follow; ImageNet's are not needed
    try:
        model = network(settings_class(**values), len(described["class_names"]))
    except (TypeError, ValueError) as error:
        raise InputError(f"describes no network ({error})", where=folder / META) from error
    _load_weights(model, folder / WEIGHTS)
    names = tuple(str(name) for name in described["class_names"])
    return model.eval().requires_grad_(False), ModelMeta(kind, names, described["extra"])


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        described = json.loads((folder / META).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"expected a model folder with {META} and {WEIGHTS}, found none",
            where=folder,
            remedy="Give a folder such as models/student, or train one with `dvc repro`",
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"is not a model description ({error})",
            where=folder / META,
            remedy="Restore the folder with `dvc checkout`, or train again",
        ) from error
    missing = {"format", "kind", "class_names", "settings", "extra"} - set(
        described if isinstance(described, dict) else ()
    )
    if missing or described["format"] != FORMAT or described["kind"] not in KINDS:
        found = f"no {', '.join(sorted(missing))}" if missing else f"kind {described['kind']!r}"
        raise InputError(f"expected a description of format {FORMAT}, found {found}", where=folder / META)
    return described


def _load_weights(model: nn.Module, path: Path) -> None:
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise InputError(
            "is missing", where=path, remedy="Restore it with `dvc checkout`, or train again"
        ) from None
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"is truncated or not a safetensors file ({error})",
            where=path,
            remedy="Restore it with `dvc checkout`, or train again",
        ) from error
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise InputError(
            f"holds another architecture or other classes: {len(wrong)} weights differ; expected {name} of "
            f"shape {expected.get(name, 'none')}, found {found.get(name, 'none')}",
            where=path,
            remedy=f"{META} and {WEIGHTS} must come from one training",
        )
    model.load_state_dict(state)


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that settings hold."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
