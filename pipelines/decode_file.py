"""`decode.json` in a model folder: its decoding thresholds and the score threshold for showing instances."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from pipelines import paths
from wssis.errors import InputError
from wssis.files import write_json
from wssis.settings import DecodeSettings

SCORE = "score"  # beside the fields of DecodeSettings


class _OwnScore(BaseModel):
    score: Annotated[float, Field(ge=0, le=1, strict=True)] | None = None


SETTINGS, OWN_SCORE = TypeAdapter(DecodeSettings), TypeAdapter(_OwnScore)


def own_decode(folder: str | Path) -> tuple[DecodeSettings | None, float | None]:
    """A model folder's decoding thresholds and score threshold; None for what it does not have.

    Raises:
        InputError: `decode.json` is damaged.
    """
    path = Path(folder) / paths.DECODE_FILE
    if not path.exists():
        return None, None
    remedy = "Run `dvc repro evaluate` to write it again, or register the model again"
    try:
        text = path.read_bytes()
        return SETTINGS.validate_json(text), OWN_SCORE.validate_json(text).score
    except ValidationError as error:
        found = error.errors()[0]
        record = ".".join(map(str, found["loc"]))
        problem = f"expected decoding thresholds: {found['msg']}"
        raise InputError(problem, where=path, record=record, remedy=remedy) from error


def write_decode(folder: str | Path, settings: DecodeSettings, score: float | None) -> None:
    """Write a model's decoding thresholds, and its score threshold if one was chosen."""
    chosen = {} if score is None else {SCORE: score}
    write_json(Path(folder) / paths.DECODE_FILE, asdict(settings) | chosen, indent=2)
