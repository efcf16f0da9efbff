"""The search for rules: never below the defaults, repeatable, and free where it is off."""

from __future__ import annotations

from pipelines.tuning import SPACE, search
from wssis.settings import PseudoRules

DEFAULTS = PseudoRules()


def nearness(rules: PseudoRules) -> float:
    """Best at min_confidence .55, mask_threshold .4."""
    return -abs(rules.min_confidence - 0.55) - abs(rules.mask_threshold - 0.4)


def test_no_trial_gives_the_defaults_and_asks_nothing() -> None:
    def never(rules: PseudoRules) -> float:
        raise AssertionError("asked")

    study = search(never, DEFAULTS, 0, seed=0)
    assert study.rules is DEFAULTS
    assert study.rows == []


def test_the_defaults_are_trial_0_and_win_where_nothing_is_better() -> None:
    asked: list[PseudoRules] = []

    def worst_but_the_first(rules: PseudoRules) -> float:
        asked.append(rules)
        return 1.0 if len(asked) == 1 else 0.0

    study = search(worst_but_the_first, DEFAULTS, 4, seed=0)
    assert asked[0] is DEFAULTS
    assert study.rules is DEFAULTS
    assert [row["best"] for row in study.rows] == [1.0] * 4


def test_a_search_finds_better_rules_and_keeps_the_rest() -> None:
    study = search(nearness, DEFAULTS, 20, seed=0)
    assert nearness(study.rules) > nearness(DEFAULTS) + 0.1
    assert study.rules.ignore_radius == DEFAULTS.ignore_radius
    best = max(study.rows, key=lambda row: row["value"])
    assert all(getattr(study.rules, name) == best[name] for name in SPACE)
    assert nearness(study.rules) == best["value"]


def test_the_same_seed_searches_the_same_way() -> None:
    first, again = (search(nearness, DEFAULTS, 9, seed=3) for _ in range(2))
    assert first == again
    assert search(nearness, DEFAULTS, 9, seed=4) != first


def test_defaults_outside_the_searched_bounds_are_tried_as_they_are() -> None:
    odd = PseudoRules(own_point=5.0)
    study = search(lambda rules: rules.own_point, odd, 3, seed=0)
    assert study.rules is odd
