"""What a person should know about an import that is no error: counted, with the first few records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIRST = 3  # records that are named


class Notices:
    """Counts by kind, in the order in which the kinds first came up."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, list[str]]] = {}

    def add(self, what: str, record: str, count: int = 1) -> None:
        """Count `what` once more, at `record`."""
        before, records = self.found.get(what, (0, []))
        self.found[what] = before + count, (records if len(records) >= FIRST else [*records, record])

    def lines(self) -> list[str]:
        """A line for each kind."""
        return [
            f"{what}: {count} ({'; '.join(records)}{'; …' if count > len(records) else ''})"
            for what, (count, records) in self.found.items()
        ]

    def values(self) -> list[Mapping[str, Any]]:
        """The same as JSON values."""
        return [
            {"what": what, "count": count, "first": records} for what, (count, records) in self.found.items()
        ]
