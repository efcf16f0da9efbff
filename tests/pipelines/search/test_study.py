"""Searches: the defaults come first and win ties, one seed repeats, and other data are another study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import InMemoryStorage

from pipelines.search.pruning import OverSteps
from pipelines.search.study import Choice, Range, Search, TrialResult, best_of, open_study, rows_of, work
from pipelines.search.trial_claims import propose
from tests.pipelines.search.toy_worker import DEFAULTS, toy_search, worth


def outcome(tried: list[TrialResult]) -> list[tuple[Any, ...]]:
    return [(one.slot, one.values, one.worth) for one in tried]


def test_the_defaults_are_trial_0_and_win_a_tie() -> None:
    asked: list[dict[str, Any]] = []

    def flat(values: dict[str, Any], report: object) -> float:
        asked.append(values)
        return 1.0

    tried = work(toy_search(4, flat), InMemoryStorage())
    assert asked[0] == DEFAULTS
    assert [one.slot for one in tried] == [0, 1, 2, 3]
    assert best_of(tried).values == DEFAULTS


def test_a_search_finds_better_values() -> None:
    tried = work(toy_search(12), InMemoryStorage())
    best = best_of(tried)
    assert best.worth == worth(best.values) > worth(DEFAULTS) + 0.4
    assert all(one.values["x"] == float(f"{one.values['x']:.4g}") for one in tried)  # short to read


def test_one_seed_searches_one_way() -> None:
    first, again = (outcome(work(toy_search(9), InMemoryStorage())) for _ in range(2))
    assert first == again
    assert outcome(work(toy_search(9, seed=4), InMemoryStorage())) != first


def test_a_search_goes_on_where_it_stopped_and_as_if_it_had_not() -> None:
    """Eight slots: the last two are proposed from what the others came to."""
    storage, asked = InMemoryStorage(), []

    def counted(values: dict[str, Any], report: object) -> float:
        asked.append(values)
        return worth(values)

    work(toy_search(5, counted), storage)
    tried = work(toy_search(8, counted), storage)
    assert len(asked) == 8
    assert outcome(tried) == outcome(work(toy_search(8), InMemoryStorage()))
    work(toy_search(3, counted), storage)  # fewer than there are: nothing to do
    assert len(asked) == 8


def test_a_search_can_be_left() -> None:
    told: list[int] = []
    tried = work(toy_search(5), InMemoryStorage(), lambda t: told.append(len(t)), lambda: len(told) == 2)
    assert len(tried) == 2
    assert told == [1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"space": {"x": Range(0.0, 2.0), "flag": Choice((False, True))}},
        {"defaults": {"x": 0.8, "flag": False}},
        {"seed": 1},
        {"identity": {"data": "abd"}},
        {"pruning": OverSteps()},
        {"name": "other"},
    ],
)
def test_other_bounds_data_or_seed_are_another_study(change: dict[str, Any]) -> None:
    search = toy_search(3)
    other = replace(search, **change)
    assert other.study_name != search.study_name
    assert replace(search, n_trials=9).study_name == search.study_name
    storage = InMemoryStorage()
    work(search, storage)
    assert len(work(other, storage)) == 3
    assert len(storage.get_all_studies()) == 2


def test_a_study_says_what_it_hangs_on() -> None:
    storage = InMemoryStorage()
    assert open_study(toy_search(1), storage).user_attrs == {"data": "abc"}
    assert len(open_study(toy_search(1), storage).trials) == 0


def test_a_trial_that_fails_ends_the_search_and_is_run_again() -> None:
    storage, asked = InMemoryStorage(), []

    def broken(values: dict[str, Any], report: object) -> float:
        asked.append(values)
        if len(asked) == 2:
            raise RuntimeError("out of memory")
        return worth(values)

    with pytest.raises(RuntimeError, match="out of memory"):
        work(toy_search(3, broken), storage)
    tried = work(toy_search(3, broken), storage)
    assert asked[1] == asked[2]
    assert [(one.slot, one.number) for one in tried] == [(0, 0), (1, 2), (2, 3)]


def test_rows_have_the_best_so_far_and_no_pruned_one_is_best() -> None:
    tried = work(toy_search(4), InMemoryStorage())
    tried[2] = replace(tried[2], worth=9.0, pruned="worse")
    rows = rows_of(tried)
    assert [row["pruned"] for row in rows] == [0, 0, 1, 0]
    assert rows[2]["best"] == rows[1]["best"] == max(tried[0].worth, tried[1].worth)
    assert best_of(tried).slot != 2
    assert rows[1]["x"] == tried[1].values["x"]
    assert rows_of([replace(tried[2], worth=0.5)])[0]["best"] == 0.5  # the defaults are still being run


def test_bounds_are_widened_to_hold_a_default() -> None:
    assert Range(0.0, 2.0).with_default(5.0) == Range(0.0, 5.0)
    assert Range(0.5, 2.0, log=True).with_default(0.1) == Range(0.1, 2.0, log=True)
    odd = toy_search(3, space={"x": Range(0.0, 0.1).with_default(0.9), "flag": Choice((False,))})
    assert work(odd, InMemoryStorage())[0].values == DEFAULTS


def test_whole_numbers_stay_whole() -> None:
    search = Search(
        **{
            **vars(toy_search(5)),
            "space": {"x": Range(16, 64, step=8), "flag": Choice((False,))},
            "defaults": {"x": 32, "flag": False},
            "objective": lambda values, _: float(values["x"]),
        }
    )
    tried = work(search, InMemoryStorage())
    assert {one.values["x"] % 8 for one in tried} == {0}
    assert {type(one.values["x"]) for one in tried} == {int}


def test_a_pruned_trial_is_not_proposed_again() -> None:
    """Seven trials of which the one at the top was pruned: its expected worth is known to the sampler."""
    storage = InMemoryStorage()
    search = toy_search(7, space={"x": Range(0.0, 1.0)}, defaults={"x": 0.0})
    search = replace(search, objective=lambda values, _: values["x"])
    work(search, storage)
    trials = storage.get_all_trials(0)
    plain = propose(search, 7, trials)["x"]
    best = max(trials, key=lambda t: t.params["x"])
    best.value, best.user_attrs["pruned"] = -3.0, "worse"
    assert plain > 0.9
    assert propose(search, 7, trials)["x"] < plain


def test_a_journal_file_is_shared_by_processes_of_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.search.storage import open_storage

    monkeypatch.chdir(tmp_path)
    work(toy_search(2), open_storage(None))
    assert (tmp_path / ".scratch/optuna.journal").exists()
    queued = tmp_path / ".dvc/tmp/exps/tmp1"
    queued.mkdir(parents=True)
    monkeypatch.chdir(queued)
    assert len(open_study(toy_search(2), open_storage(None)).trials) == 2
