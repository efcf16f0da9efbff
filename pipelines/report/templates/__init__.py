"""HTML templates (Jinja2); every value is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(name: str, **values: Any) -> str:
    """A page from the template `name` in this folder; a missing value is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"ap": ap, "hours": lambda seconds: f"{seconds / 3600:.2f}"}
    return environment.get_template(name).render(**values)


def ap(value: float | None, sign: bool = False) -> str:
    """An AP or IoU with three digits; a dash if it is unknown (None, or negative as in pycocotools)."""
    if value is None or (value < 0 and not sign):
        return "–"
    return f"{value:+.3f}" if sign else f"{value:.3f}"
