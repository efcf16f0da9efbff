"""`decode.json` in a model's folder: how its maps become instances, and from which score these are shown."""

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
    """The thresholds that a model's folder has for it, and the score from which its instances are shown.

    Raises:
        InputError: its file is damaged.
    """
    path = Path(folder) / paths.DECODE_FILE
    if not path.exists():
        return None, None
    try:
        values = json.loads(path.read_text())
        score = values.pop(SCORE, None)
        settings = DecodeSettings(**{**values, "area_strides": tuple(values["area_strides"])})
        return settings, None if score is None else float(score)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"expected thresholds of decoding, found others ({error!r})",
            where=path,
            remedy="`dvc repro` writes it again; or register the model again",
        ) from error


def write_decode(folder: str | Path, settings: DecodeSettings, score: float | None) -> None:
    """Write a model's thresholds, and the score from which its instances are shown, if one was chosen."""
    chosen = {} if score is None else {SCORE: score}
    write_json(Path(folder) / paths.DECODE_FILE, asdict(settings) | chosen, indent=2)
