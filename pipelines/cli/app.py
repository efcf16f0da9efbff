"""The `wssis` command, which modules of this package add to, and types of its options."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from cyclopts import App, CoercionError, Parameter, Token

import wssis

app = App(
    name="wssis",
    help="Instance segmentation from a few masks and many points. `dvc repro` runs the pipeline; these "
    "commands prepare it and use what it made.",
    version=wssis.__version__,
    version_flags=["--version"],
    default_parameter=Parameter(negative=()),
)


def within(low: float, high: float = math.inf, above: bool = False) -> Callable[[Any, Any], None]:
    """A validator: finite, from `low` (or only `above` it) to `high`."""

    def check(kind: Any, value: Any) -> None:
        for number in value if isinstance(value, (list, tuple)) else (value,):
            if number is not None and not (low <= number <= high and math.isfinite(number)):
                raise ValueError(
                    f"expected a number from {low:g}" + (f" to {high:g}" if high < math.inf else "")
                )
            if above and number == low:
                raise ValueError(f"expected a number over {low:g}")

    return check


def whole(kind: Any, tokens: Sequence[Token]) -> int:
    """A converter: a whole number as text; cyclopts itself would round 1.5."""
    try:
        return int(tokens[0].value)
    except ValueError as error:
        raise CoercionError(token=tokens[0], target_type=int) from error


Whole = Annotated[int, Parameter(converter=whole)]
Count = Annotated[int, Parameter(converter=whole, validator=within(1))]
Positive = Annotated[float, Parameter(validator=within(0, above=True))]
NotNegative = Annotated[float, Parameter(validator=within(0))]
Share = Annotated[float, Parameter(validator=within(0, 1))]
Port = Annotated[int, Parameter(converter=whole, validator=within(0, 65535))]
ModelName = Literal["wssis-student", "wssis-labeler"]
