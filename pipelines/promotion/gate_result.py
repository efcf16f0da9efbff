"""What was checked of a version before it serves, and what was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # which needs torch; moving an alias does not
    from pipelines.promotion.version_predictions import Answers


# Of a check, in words; None: there was nothing to compare with.
OUTCOME = {True: "passed", False: "failed", None: "not compared"}


@dataclass(frozen=True)
class Check:
    """One thing that was checked, and what was found, in words.

    Attributes:
        name: of the check.
        passed: None where there was nothing to compare with: neither passed nor failed.
        found: what was.
    """

    name: str
    passed: bool | None
    found: str


@dataclass(frozen=True)
class Verdict:
    """All checks, the numbers behind them, and the candidate's answers."""

    checks: tuple[Check, ...]
    numbers: dict[str, float] = field(default_factory=dict)
    answers: Answers | None = None

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that were made and not passed."""
        return tuple(check for check in self.checks if check.passed is False)
