"""Bounds include the defaults; every kind of parameter is suggested and rounded."""

from __future__ import annotations

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from pipelines.search.space import floats, rounded, suggest


def test_bounds_are_widened_to_include_a_default() -> None:
    assert floats(0.0, 2.0, 5.0) == FloatDistribution(0.0, 5.0)
    assert floats(0.5, 2.0, 0.1, log=True) == FloatDistribution(0.1, 2.0, log=True)


def test_each_kind_of_parameter_is_suggested_within_its_bounds() -> None:
    space = {
        "rate": FloatDistribution(1e-4, 1e-1, log=True),
        "width": IntDistribution(16, 64, step=8),
        "flag": CategoricalDistribution((False, True)),
    }
    trial = optuna.create_study().ask()
    values = suggest(trial, space)
    assert trial.distributions == space
    assert trial.params == values
    assert type(values["width"]) is int
    assert rounded({"rate": 0.0123456, "width": 24, "flag": True}) == {
        "rate": 0.01235,
        "width": 24,
        "flag": True,
    }
