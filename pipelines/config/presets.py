"""Presets: overlays of the defaults in `schema`, and the params.yaml that is written from them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.config.imported_data import values_for
from pipelines.config.params import differences, load_params, member_type, on_one_line, parse, read_yaml
from pipelines.config.schema import DEFAULTS, Params
from wssis.errors import InputError
from wssis.files import write_text

BASE = "base"  # the key of a preset that names the preset it starts from
COMMENT_COLUMN, LINE_LENGTH = 29, 110


def write_preset(name: str, data: str | None, val: str | None) -> None:
    """Print what changes in params.yaml and replace it.

    Args:
        name: a file in presets/, without suffix.
        data: a folder that `wssis import` wrote, to train on; None: the data that the preset names.
        val: another, to report on; None: a share of the drawn images of `data`, written to files in it.

    Raises:
        InputError: unknown preset, or unusable data.
    """
    source = _find(name)
    values = preset_values(source)
    if data is not None:
        values = _merge(values, values_for(Path(data), None if val is None else Path(val)))
    elif val is not None:
        raise InputError("expected --data, too", where="--val", remedy="Name the folder to train on")
    new = parse(values, Params, where=source)
    if paths.PARAMS.exists():
        try:
            changes = differences(load_params(paths.PARAMS), new)
        except InputError as error:
            changes = [f"(replaces an invalid file: {error})"]
        for line in changes or ["nothing changes"]:
            print(f"  {line}")
    write_text(paths.PARAMS, render_params(values, source))
    print(f"{paths.PARAMS} is now preset {name}{f' on {data}' if data else ''}. `dvc repro` runs it.")


def load_preset(path: Path) -> Params:
    """Params of a preset."""
    return parse(preset_values(path), Params, where=path)


def preset_values(path: Path) -> dict[str, Any]:
    """Every key of params.yaml: the defaults, or the preset's base, with what the preset changes."""
    overlay = read_yaml(path) or {}
    if not isinstance(overlay, Mapping):
        raise InputError("expected keys and values", where=path)
    changes = {key: value for key, value in overlay.items() if key != BASE}
    base = overlay.get(BASE)
    start = DEFAULTS.model_dump(mode="json") if base is None else preset_values(path.with_stem(str(base)))
    return _merge(start, changes)


def _merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `changes`, key by key where both are mappings."""
    merged = dict(values)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(old or {}, value) if both else value
    return merged


def render_params(values: Mapping[str, Any], preset: Path) -> str:
    """The text of params.yaml: the preset's heading, and every key with its comment from the schema."""
    heading = takewhile(lambda line: line.startswith("#"), preset.read_text(encoding="utf-8").splitlines())
    source = f"# `wssis preset {preset.stem}` writes this file; {preset} says what differs from the defaults."
    return "\n".join([*heading, source, *_lines(values, Params, "", {})]) + "\n"


def _lines(values: Mapping[str, Any], kind: Any, prefix: str, seen: dict[Any, str]) -> Iterator[str]:
    """Lines of a section of the type `kind`; a type that several sections have is described in the first."""
    comments = {} if kind in seen else descriptions(kind)
    seen.setdefault(kind, prefix.rstrip("."))
    indent = "  " * prefix.count(".")
    for name, value in values.items():
        inner = member_type(kind, name)
        comment = comments.get(name, "")
        if not isinstance(value, Mapping):
            line = f"{indent}{name}: {on_one_line(value)}"
            if len(line) > LINE_LENGTH and isinstance(value, (list, tuple)):
                yield from _commented(f"{indent}{name}:", comment)
                yield from (f"{indent}  - {on_one_line(item)}" for item in value)
            else:
                yield from _commented(line, comment)
            continue
        comment = f"keys as in {seen[inner]}" if inner in seen else comment or _first_sentence(inner.__doc__)
        if prefix:
            yield from _commented(f"{indent}{name}:", comment)
        else:
            yield from ("", f"# {comment}", f"{name}:")
        yield from _lines(value, inner, f"{prefix}{name}.", seen)


def _commented(line: str, comment: str) -> Iterator[str]:
    """A line with its comment at the end; above it where that would be too long."""
    whole = f"{line:<{COMMENT_COLUMN - 1}} # {comment}" if comment else line
    if len(whole) > LINE_LENGTH and comment:
        yield f"{line[: len(line) - len(line.lstrip())]}# {comment}"
        yield line
    else:
        yield whole


def descriptions(kind: type) -> dict[str, str]:
    """First sentence on each key in the `Attributes` of a class; of keys described together, on the first."""
    _, _, attributes = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+)(?:, [\w, ]+)?: (.*(?:\n     .*)*)", attributes, flags=re.MULTILINE)
    return {name: _first_sentence(text) for name, text in entries}


def _first_sentence(text: str | None) -> str:
    return re.split(r"\.(?:\s|$)", " ".join((text or "").split()), maxsplit=1)[0]


def _find(name: str) -> Path:
    names = sorted(path.stem for path in paths.PRESETS.glob("*.yaml"))
    if not names:
        raise InputError(
            "expected presets, found none", where=paths.PRESETS, remedy="Run this in the project's folder"
        )
    if name not in names:
        raise InputError(
            f"expected one of {', '.join(names)}, found {name}", where="preset", remedy="Choose one of them"
        )
    return paths.PRESETS / f"{name}.yaml"
