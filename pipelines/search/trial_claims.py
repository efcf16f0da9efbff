"""Who runs which trial: slots are claimed, kept alive, taken over from the dead, and never run twice.

One write makes a running trial with its slot, its values and its owner, so that a kill leaves either nothing
or a trial that says whose it was. Where two claim a slot at once, the trial with the lower number has it.
"""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psutil

from pipelines.provenance import PROCESS_TAG, STARTED_TAG, process_id, still_runs
from pipelines.search.pruning import PAIRS
from pipelines.search.study import Choice, Pruned, Range, Search, Values

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

SLOT, CLAIM, BEAT, PRUNED = "slot", "claim", "beat", "pruned"  # user attributes of a trial
BEAT_S = 30.0
# A trial of another machine whose beat has not changed for so long is taken for dead. The beat is a counter
# and the time is one's own, so that clocks need not agree.
SILENT_S = 150.0
STARTUP = 6  # slots of random values: fewer than Optuna's 10, as there are few trials


class Claims:
    """One worker's part in a study."""

    def __init__(self, search: Search, study: Study, storage: BaseStorage) -> None:
        self.search, self.study, self.storage = search, study, storage
        self.study_id = storage.get_study_id_from_name(search.study_name)
        self.me = process_id(psutil.Process())
        self.distributions = distributions(search)
        self._heard: dict[int, tuple[Any, float]] = {}  # trial number: last beat, and when it was heard

    def trials(self) -> list[FrozenTrial]:
        """All trials as they are now."""
        return self.storage.get_all_trials(self.study_id, deepcopy=False)

    def take(self) -> FrozenTrial | None:
        """Claim the first free slot; None if all are done or being run by others."""
        from optuna.trial import TrialState, create_trial

        while True:
            self._fail_the_dead()
            trials = self.trials()
            slot = next((n for n in range(self.search.n_trials) if holder(trials, n) is None), None)
            if slot is None:
                return None
            mark = uuid.uuid4().hex
            trial = create_trial(
                state=TrialState.RUNNING,
                params=self._values(slot, trials),
                distributions=self.distributions,
                user_attrs={SLOT: slot, CLAIM: mark, **self.me},
            )
            self.study.add_trial(trial)
            trials = self.trials()
            mine = next(t for t in reversed(trials) if t.user_attrs.get(CLAIM) == mark)
            first = holder(trials, slot)
            if first is not None and first.number == mine.number:
                return mine
            self._fail(mine)  # another one came first

    def run(self, trial: FrozenTrial) -> None:
        """Run a trial that was claimed and note what it came to."""
        from optuna.exceptions import UpdateFinishedTrialError

        with Beat(self.storage, trial._trial_id):
            try:
                self._run(trial)
            except UpdateFinishedTrialError:
                return  # another machine took this one for dead and runs the trial again: that one counts
            except BaseException:
                self._fail(trial)
                raise

    def _run(self, trial: FrozenTrial) -> None:
        from optuna.trial import TrialState

        number, pruning = trial._trial_id, self.search.pruning

        def report(step: int, value: float, pairs: Sequence[float] = (), last: bool = False) -> None:
            if pairs:
                rounded = [round(pair, 4) for pair in pairs]
                self.storage.set_trial_user_attr(number, PAIRS.format(step), rounded)
            self.storage.set_trial_intermediate_value(number, step, value)
            if trial.user_attrs[SLOT] and not last:
                reason = pruning.reason(self.study, self.storage.get_trial(number))
                if reason:
                    raise Pruned(reason)

        try:
            worth, state = self.search.objective(dict(trial.params), report), TrialState.COMPLETE
        except Pruned as why:
            self.storage.set_trial_user_attr(number, PRUNED, str(why))
            worth = pruning.expected(self.storage.get_trial(number), self.trials())
            state = TrialState.PRUNED
        self.storage.set_trial_state_values(number, state, [worth])

    def _values(self, slot: int, trials: list[FrozenTrial]) -> Values:
        """Those of an earlier try of the slot, the defaults, or a proposal."""
        for trial in trials:
            if trial.user_attrs.get(SLOT) == slot:
                return dict(trial.params)
        return dict(self.search.defaults) if slot == 0 else propose(self.search, slot, trials)

    def _fail_the_dead(self) -> None:
        from optuna.trial import TrialState

        for trial in self.trials():
            if trial.state == TrialState.RUNNING and self._is_dead(trial):
                self._fail(trial)

    def _is_dead(self, trial: FrozenTrial) -> bool:
        owner = {tag: trial.user_attrs.get(tag, "") for tag in (PROCESS_TAG, STARTED_TAG)}
        if owner == self.me:
            return True  # this process runs none while it looks for one
        if not still_runs({**owner, STARTED_TAG: owner[STARTED_TAG] or "0"}):
            return True
        if owner[PROCESS_TAG].rpartition(":")[0] == self.me[PROCESS_TAG].rpartition(":")[0]:
            return False
        beat, now = trial.user_attrs.get(BEAT), time.monotonic()
        last, since = self._heard.setdefault(trial.number, (beat, now))
        if last != beat:
            self._heard[trial.number] = (beat, now)
        return last == beat and now - since > SILENT_S

    def _fail(self, trial: FrozenTrial) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with suppress(UpdateFinishedTrialError):  # another worker was first
            self.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def holder(trials: list[FrozenTrial], slot: int) -> FrozenTrial | None:
    """The trial that has a slot: the first of it that is running or over."""
    from optuna.trial import TrialState

    return next(
        (t for t in trials if t.state != TrialState.FAIL and t.user_attrs.get(SLOT) == slot),
        None,
    )


def propose(search: Search, slot: int, trials: list[FrozenTrial]) -> Values:
    """Values for a slot, from the trials so far.

    The sampler's seed is that of search and slot: a study that goes on after a kill proposes what it would
    have proposed, and two workers propose different values. Pruned trials count with what they would have
    come to, since the sampler passes over those that it takes for unfinished and would propose them again.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    digest = hashlib.sha256(f"{search.seed} {slot}".encode()).digest()
    sampler = optuna.samplers.GPSampler(
        seed=int.from_bytes(digest[:4], "big"),
        n_startup_trials=STARTUP,
        deterministic_objective=search.exact,
        warn_independent_sampling=False,
    )
    known = optuna.create_study(direction="maximize", sampler=sampler)
    space = distributions(search)
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            known.add_trial(create_trial(state=trial.state, params=trial.params, distributions=space))
        elif trial.state != TrialState.FAIL and trial.value is not None:
            known.add_trial(create_trial(params=trial.params, distributions=space, value=trial.value))
    found = known.ask(space).params
    return {name: as_read(found[name], bounds) for name, bounds in search.space.items()}


def as_read(value: Any, bounds: Range | Choice) -> Any:
    """A number with four digits: the best is read by people, and DVC need not see noise as a change."""
    if isinstance(bounds, Choice) or bounds.step:
        return value
    return min(max(float(f"{value:.4g}"), bounds.low), bounds.high)


def distributions(search: Search) -> dict[str, BaseDistribution]:
    """The space as Optuna names it."""
    from optuna import distributions as kinds

    found: dict[str, BaseDistribution] = {}
    for name, bounds in search.space.items():
        if isinstance(bounds, Choice):
            found[name] = kinds.CategoricalDistribution(bounds.options)
        elif bounds.step:
            found[name] = kinds.IntDistribution(int(bounds.low), int(bounds.high), step=bounds.step)
        else:
            found[name] = kinds.FloatDistribution(bounds.low, bounds.high, log=bounds.log)
    return found


class Beat:
    """Counts in a trial's attribute while it runs, so that other machines see that its process lives."""

    def __init__(self, storage: BaseStorage, trial_id: int) -> None:
        self._storage, self._trial_id = storage, trial_id
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _count(self) -> None:
        number = 0
        while not self._over.wait(BEAT_S):
            number += 1
            try:
                self._storage.set_trial_user_attr(self._trial_id, BEAT, number)
            except Exception:  # taken over, or the storage is away for a while: the trial itself will tell
                continue
