"""What ends a trial early: it says why, it is noted, and the defaults are spared."""

from __future__ import annotations

from contextlib import suppress

from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from pipelines.search.pruning import OverImages, OverSteps
from pipelines.search.study import Pruned, best_of, work
from tests.pipelines.search.toy_worker import toy_search, worth

IMAGES = 10


def over_images(values, report) -> float:
    """Images differ much more than values do."""
    shares = [50.0 * (n % 3) + worth(values) for n in range(IMAGES)]
    for n, share in enumerate(shares):
        report(n, share, last=n == IMAGES - 1)
    return sum(shares) / IMAGES


def test_over_images_worse_trials_end_early_with_a_reason() -> None:
    storage = InMemoryStorage()
    tried = work(toy_search(10, over_images), storage)
    pruned = [one for one in tried if one.pruned]
    assert pruned
    assert all(len(one.steps) < IMAGES for one in pruned)
    assert all(len(one.steps) == IMAGES for one in tried if not one.pruned)
    assert all("images (Wilcoxon, p < 0.1)" in one.pruned for one in pruned)
    states = {trial.number: trial.state for trial in storage.get_all_trials(0)}
    assert {number for number, state in states.items() if state == TrialState.PRUNED} == {
        one.number for one in pruned
    }
    # The difference to the best of its time is known though most images were never looked at.
    whole = sum(50.0 * (n % 3) for n in range(IMAGES)) / IMAGES
    assert all(abs(one.worth - whole - worth(one.values)) < 1e-6 for one in pruned)
    assert best_of(tried).worth == max(one.worth for one in tried)


def over_steps(values, report) -> float:
    """Objects differ more than values; all gain .2 from half-way to the end."""
    objects = [0.1 * n + worth(values) for n in range(12)]
    report(5, sum(objects) / 12, pairs=objects)
    objects = [one + 0.2 for one in objects]
    report(10, sum(objects) / 12, pairs=objects, last=True)
    return sum(objects) / 12


def test_over_steps_a_trial_is_compared_with_the_best_at_the_same_step() -> None:
    tried = work(toy_search(10, over_steps, pruning=OverSteps()), InMemoryStorage())
    pruned = [one for one in tried if one.pruned]
    assert pruned
    assert all(list(one.steps) == [5] for one in pruned)
    assert all("at step 5 (Wilcoxon over 12 objects, p < 0.1)" in one.pruned for one in pruned)
    assert all(abs(one.worth - (0.55 + 0.2 + worth(one.values))) < 1e-3 for one in pruned)
    assert not best_of(tried).pruned


def test_the_defaults_are_never_pruned() -> None:
    """Also where they come last, as after a kill of the worker that ran them."""
    for pruning, objective in ((OverImages(), over_images), (OverSteps(), over_steps)):
        storage = InMemoryStorage()
        calls = []

        def late(values, report, calls=calls, objective=objective) -> float:
            calls.append(values)
            if len(calls) == 1:
                raise KeyboardInterrupt
            return objective(values, report)

        search = toy_search(4, late, pruning=pruning)
        with suppress(KeyboardInterrupt):
            work(search, storage)
        tried = work(search, storage)
        assert not tried[0].pruned
        assert len(calls) == 5


def test_a_trial_that_ends_before_it_reports_is_the_worst() -> None:
    def diverging(values, report) -> float:
        if values["x"] < 0.5:
            raise Pruned("the loss is not finite")
        return worth(values)

    for pruning in (OverImages(), OverSteps()):
        tried = work(toy_search(6, diverging, pruning=pruning), InMemoryStorage())
        known = [one.worth for one in tried if not one.pruned]
        assert {one.pruned for one in tried} == {"", "the loss is not finite"}
        assert all(min(known) <= one.worth <= max(known) for one in tried if one.pruned)


def test_few_pairs_or_equal_ones_end_nothing() -> None:
    def two(values, report) -> float:
        report(1, worth(values), pairs=[worth(values)] * 2)
        return worth(values)

    def equal(values, report) -> float:
        report(1, 1.0, pairs=[1.0] * 20)
        return 1.0

    for objective in (two, equal):
        tried = work(toy_search(6, objective, pruning=OverSteps()), InMemoryStorage())
        assert not any(one.pruned for one in tried)
