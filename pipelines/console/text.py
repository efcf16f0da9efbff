"""Numbers with their nouns, for lines that people read."""

from __future__ import annotations


def pluralize(count: float, noun: str, plural: str = "") -> str:
    """`1 image`, `1,200 images`; `plural` where it is not the noun and an s."""
    rounded = round(count)
    return f"{rounded:,} {noun if rounded == 1 else plural or f'{noun}s'}"
