"""The result of the gate, and its record in the promotion log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pipelines.config.platform_schema import Promote

Results = list[dict[str, Any]]  # COCO results of one image
OUTCOME = {True: "passed", False: "failed", None: "not compared"}


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: of the check.
        passed: None if there was nothing to compare with.
        found: the finding in words.
    """

    name: str
    passed: bool | None
    found: str


@dataclass(frozen=True)
class GateResult:
    """All checks, the numbers behind them, and the candidate's predictions on `val` (None: it made none)."""

    checks: tuple[Check, ...]
    numbers: dict[str, float] = field(default_factory=dict)
    predictions: tuple[Results, ...] | None = None

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed; those that compared nothing are not among them."""
        return tuple(check for check in self.checks if check.passed is False)


def gate_record(result: GateResult, settings: Promote) -> dict[str, Any]:
    """The result of the gate as fields of a log entry."""
    return {
        "checks": {c.name: {"passed": c.passed, "found": c.found} for c in result.checks},
        "numbers": {key: round(value, 6) for key, value in result.numbers.items()},
        "settings": settings.model_dump(),
    }
