"""`decode.json` in a model folder: its decoding thresholds and the score threshold for showing instances."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pipelines import paths
from wssis.errors import InputError
from wssis.files import write_json
from wssis.settings import DecodeSettings

SCORE = "score"  # beside the fields of DecodeSettings


def own_decode(folder: str | Path) -> tuple[DecodeSettings | None, float | None]:
    """A model folder's own decoding thresholds and score threshold; None for what it does not have.

    Raises:
        InputError: `decode.json` is damaged.
    """
    path = Path(folder) / paths.DECODE_FILE
    if not path.exists():
        return None, None
    try:
        values = json.loads(path.read_text())
        score = values.pop(SCORE, None)
        settings = DecodeSettings(**{**values, "area_strides": tuple(values["area_strides"])})
        if score is not None and not 0 <= score <= 1:
            raise ValueError(f"score {score}")
        return settings, score
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"expected decoding thresholds, found something else ({error!r})",
            where=path,
            remedy="Run `dvc repro evaluate` to write it again, or register the model again",
        ) from error


def write_decode(folder: str | Path, settings: DecodeSettings, score: float | None) -> None:
    """Write a model's decoding thresholds, and its score threshold if one was chosen."""
    chosen = {} if score is None else {SCORE: score}
    write_json(Path(folder) / paths.DECODE_FILE, asdict(settings) | chosen, indent=2)
