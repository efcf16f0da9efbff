"""Search spaces: a dict of Optuna's distributions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna import Trial
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

Space = Mapping[str, BaseDistribution]
Values = dict[str, Any]  # a float, int or bool for each parameter


def floats(low: float, high: float, default: float, log: bool = False) -> FloatDistribution:
    """Floats between `low` and `high`, widened to include a default outside."""
    return FloatDistribution(min(low, default), max(high, default), log=log)


def suggest(trial: Trial, space: Space) -> Values:
    """A value for each parameter: an enqueued one, or the sampler's proposal."""
    values: Values = {}
    for name, bounds in space.items():
        match bounds:
            case FloatDistribution():
                values[name] = trial.suggest_float(name, bounds.low, bounds.high, log=bounds.log)
            case IntDistribution():
                values[name] = trial.suggest_int(name, bounds.low, bounds.high, step=bounds.step)
            case CategoricalDistribution():
                values[name] = trial.suggest_categorical(name, bounds.choices)
    return values


def rounded(values: Values) -> Values:
    """The values with four significant digits, readable in a YAML file."""
    return {name: float(f"{v:.4g}") if isinstance(v, float) else v for name, v in values.items()}
