"""The only reader of YAML: params.yaml as typed, validated, frozen values (see `sections`).

Whatever does not fit is an `InputError` of one line.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import BaseModel, ValidationError, create_model
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipelines import paths
from pipelines.config.schema import DEFAULTS, Params, Refiner, Section, TunedPseudo, TunedRefiner
from wssis.errors import InputError
from wssis.files import atomic_path
from wssis.pseudo_labels.rules import PseudoRules

Kind = TypeVar("Kind", bound=Section)
# Keys of earlier versions, and what to write in their place.
REPLACED = {
    "student.strong_repeats": "Write student.start and student.drawn_share in its place; "
    "`start: backbone` and `drawn_share: null` train as before with strong_repeats 1"
}


def read_yaml(path: str | Path) -> Any:
    """Plain values of a YAML 1.2 file, read as DVC reads it.

    Raises:
        InputError: the file is missing, not YAML, or has a key twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        remedy = "Run `wssis preset shapes` in the project's folder"
        remedy = remedy if Path(path).name == paths.PARAMS.name else "Run `dvc repro`, which writes it"
        raise InputError("does not exist", where=path, remedy=remedy) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", where=path) from error
    return parse_yaml(text, path)


def parse_yaml(text: str, path: str | Path) -> Any:
    """As `read_yaml`, of the text of a file."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problem = (error.problem or "").split(" with value")[0].removeprefix("found ")
        raise InputError(
            f"expected YAML, found {problem}", where=path, record=f"line {line}", remedy="Fix that line"
        ) from error
    except YAMLError as error:
        raise InputError(f"expected YAML, found {error}", where=path) from error


def read_lock(path: str | Path) -> dict[str, Any]:
    """dvc.lock or dvc.yaml as plain values, by libyaml: a hundred times as fast as `read_yaml`."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=loader) or {}


def write_yaml(path: str | Path, value: Mapping[str, Any], comment: str = "") -> None:
    """Write plain values as YAML, atomically, under `comment` lines."""
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(f"# {line}\n" for line in comment.splitlines())
        writer.dump(dict(value), file)


def with_values(path: str | Path, values: Mapping[str, Any]) -> str:
    """The text of a YAML file with new values (nested, as in the file); comments stay."""
    yaml_file = YAML(typ="rt", pure=True)
    yaml_file.width = 4096
    document = yaml_file.load(Path(path).read_text(encoding="utf-8"))
    _update(document, values)
    text = StringIO()
    yaml_file.dump(document, text)
    return text.getvalue()


def _update(section: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(section[name], Mapping):
            _update(section[name], value)
        else:
            section[name] = value


def load_params(path: str | Path = paths.PARAMS) -> Params:
    """Typed params of a file.

    Raises:
        InputError: unknown key, wrong type, value out of range, or not YAML; names file and key.
    """
    return parse(read_yaml(path), Params, where=path)


def load_sections(*names: str, path: str | Path = paths.PARAMS) -> Params:
    """Params of which only these sections are read: what a command has no use for may be missing or wrong.

    So a project whose params.yaml is older than a section can still do whatever does without it.

    Raises:
        InputError: as `load_params`, in these sections.
    """
    values = read_yaml(path)
    wanted: dict[str, Any] = {name: (Params.model_fields[name].annotation, ...) for name in names}
    if isinstance(values, Mapping):
        values = {name: values[name] for name in names if name in values}
    found = parse(values, create_model(Params.__name__, __base__=Section, **wanted), where=path)
    return Params.model_construct(**{name: getattr(found, name) for name in names})


def rules_in_force(params: Params) -> PseudoRules:
    """Rules for pseudo-labels: those that the stage tune_pseudo wrote; of params with `use_tuned: false`."""
    if not params.tune_pseudo.use_tuned:
        return params.pseudo
    return parse(read_yaml(paths.TUNED_PSEUDO), TunedPseudo, where=paths.TUNED_PSEUDO).pseudo


def refiner_in_force(params: Params) -> Refiner:
    """The refiner's section: as the stage tune_refiner wrote it; of params with `use_tuned: false`."""
    if not params.tune_refiner.use_tuned:
        return params.refiner
    return parse(read_yaml(paths.TUNED_REFINER), TunedRefiner, where=paths.TUNED_REFINER).refiner


def differences(old: Params, new: Params) -> list[str]:
    """A line for each key whose value differs."""
    before, after = flatten(old), flatten(new)
    return [
        f"{key}: {before.get(key, '–')} -> {after.get(key, '–')}"
        for key in [*before, *(key for key in after if key not in before)]
        if before.get(key) != after.get(key)
    ]


def parse(values: Any, kind: type[Kind], where: str | Path) -> Kind:
    """`values` (plain, from YAML) as a `kind`.

    Raises:
        InputError: the first value that does not fit, with the number of others.
    """
    try:
        # By way of JSON, where strictness means what a reader of YAML expects: a list is a tuple,
        # 1 is a float, "1" is not a number.
        return kind.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise _input_error(error, kind, where) from None


def _input_error(error: ValidationError, kind: type[Section], where: str | Path) -> InputError:
    first, *others = error.errors(include_url=False)
    missing = [item["loc"] for item in (first, *others) if item["type"] == "missing"]
    if first["type"] == "missing":
        others = others[len(missing) - 1 :]
    location = _location(first["loc"])
    key = _key(first["loc"])
    expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = expected[:1].lower() + expected[1:]
    remedy = "Change it in the file, or start again from `wssis preset shapes`"
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        names = _field_names(kind, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), names, n=1)
        problem = f"expected one of {', '.join(sorted(names))}, found an unknown key"
        remedy = REPLACED.get(key) or (f"Did you mean {close[0]}?" if close else "Remove the key")
    elif first["type"] == "missing":
        key = ", ".join(_key(location) for location in missing)
        problem, remedy = "expected a value, found none", _lines_to_add(missing)
    elif first["type"] == "value_error":
        problem = expected
    else:
        problem = f"expected {expected}, found {_shown(first['input'])}"
    if others:
        remedy += f" (and {len(others)} more of this kind in the file)"
    return InputError(problem, where=where, record=key, remedy=remedy)


_TYPE_NAMES = {"str", "bool", "int", "float", "Folder"}  # pydantic names the member of a union in `loc`


def _location(found: Iterable[Any]) -> list[Any]:
    return [part for part in found if not (isinstance(part, str) and part in _TYPE_NAMES)]


def _key(found: Iterable[Any]) -> str:
    return ".".join(str(part) for part in _location(found))


def _lines_to_add(missing: Sequence[Iterable[Any]]) -> str:
    """What a file written before these keys were there lacks, each as one line of YAML."""
    lines = []
    for location in map(_location, missing):
        *sections, name = location
        value: Any = DEFAULTS.model_dump(mode="json")
        for part in location:
            value = value.get(part) if isinstance(value, Mapping) else None
        line = f"{name}: {on_one_line(value)}" if value is not None else str(name)
        lines.append(f"`{line}`" + (f" under {'.'.join(map(str, sections))}" if sections else ""))
    return f"Add {', '.join(lines)} (the defaults; docs/parameters.md explains them)"


def on_one_line(value: Any) -> str:
    """Plain values as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {on_one_line(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(on_one_line, value))}]"
    if isinstance(value, str) and re.fullmatch(r"[\w./-]+", value) and parse_yaml(value, "") == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def member_type(kind: Any, name: str) -> Any:
    """Type of a key in a section, without None; None if neither is known."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        found = kind.model_fields[name].annotation if name in kind.model_fields else None
    else:
        found = get_type_hints(kind).get(name) if is_dataclass(kind) else None
    return next((arg for arg in get_args(found) if arg is not type(None)), found)


def _field_names(kind: Any, location: Sequence[Any]) -> list[str]:
    """Names that are allowed at a place inside a section."""
    for part in location:
        kind = member_type(kind, str(part))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return list(kind.model_fields)
    return [field.name for field in fields(kind)] if is_dataclass(kind) else []


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; sections and dataclasses count as mappings."""
    if isinstance(values, BaseModel):
        values = {name: getattr(values, name) for name in type(values).model_fields}
    elif is_dataclass(values) and not isinstance(values, type):
        values = {field.name: getattr(values, field.name) for field in fields(values)}
    if not isinstance(values, Mapping):
        return {prefix: values}
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}.{name}" if prefix else str(name))
    return flat
