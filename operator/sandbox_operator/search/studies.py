# SPDX-License-Identifier: Apache-2.0
"""Optuna's study of a sweep, as a cache: it can be rebuilt from what a suggestion saw, and gives the same either way.

To build a study of a thousand trials takes longer than to ask it. So the last one is kept, and told only what is
new: trials that were begun, and those that ended. When what it knows does not lead to what was seen, it is built anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState, create_trial

from .observed import Seen
from .space import Point

optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it tells of each study that it makes
_RUNG = 1
"""Optuna ranks pruned trials by how far they came first; we do not tell, so that their values alone count."""


class StudyCache:
    """The study that was asked last: one cache for each sweep. Not for two threads at a time."""

    def __init__(self) -> None:
        self._kept: _Study | None = None

    def ask(self, goal: Literal["minimize", "maximize"], dimensions: int, observed: Sequence[Seen], seed: int) -> Point:
        """TPE's suggestion in the unit cube, from the trials seen in any order. `seed`: 32 bits, of this suggestion.

        Running trials count as bad ones, which keeps suggestions apart; failed ones do not count.
        """
        seen = sorted(observed, key=lambda each: each.number)
        study, self._kept = self._kept, None  # one that fails on the way is not kept
        changes = study.changes(seen) if study is not None and study.what == (goal, dimensions) else None
        if study is None or changes is None:
            study, changes = _Study(goal, dimensions), range(len(seen))
        study.learn(seen, changes)
        self._kept = study
        return study.ask(seed)


class _Study:
    """A study that holds exactly the trials of `known`, in their order, behind one without parameters that asks."""

    def __init__(self, goal: Literal["minimize", "maximize"], dimensions: int) -> None:
        self.what = (goal, dimensions)
        self.known: list[Seen] = []
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(storage=self._storage, direction=goal)
        self._cube: dict[str, BaseDistribution] = {
            f"{axis:02d}": FloatDistribution(0.0, 1.0) for axis in range(dimensions)
        }
        self._study.add_trial(create_trial(state=TrialState.RUNNING))
        self._asks = self._study.trials[0]

    def changes(self, seen: Sequence[Seen]) -> Sequence[int] | None:
        """Places of trials that began or ended since; None where that alone does not make what was seen."""
        if len(self.known) > len(seen):
            return None
        changed = [i for i, before in enumerate(self.known) if before != seen[i]]
        for i in changed:
            before, now = self.known[i], seen[i]
            if before.state != "running" or (before.number, before.point) != (now.number, now.point):
                return None
        return [*changed, *range(len(self.known), len(seen))]

    def learn(self, seen: Sequence[Seen], changes: Iterable[int]) -> None:
        """Take in what is new at these places, in their order."""
        for place in changes:
            now = seen[place]
            if place == len(self.known):
                self.known.append(now)
                params = dict(zip(self._cube, now.point, strict=True))
                self._study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=self._cube))
            if now.state != "running":
                self._end(place + 1, now)
            self.known[place] = now

    def _end(self, place: int, now: Seen) -> None:
        trial = self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, place)
        if now.state == "succeeded":
            assert now.value is not None
            self._storage.set_trial_state_values(trial, TrialState.COMPLETE, [now.value])
        elif now.state == "pruned":
            assert now.value is not None
            self._storage.set_trial_intermediate_value(trial, _RUNG, now.value)
            self._storage.set_trial_state_values(trial, TrialState.PRUNED)
        else:
            self._storage.set_trial_state_values(trial, TrialState.FAIL)

    def ask(self, seed: int) -> Point:
        sampler = TPESampler(n_startup_trials=0, seed=seed, constant_liar=True)
        found = sampler.sample_relative(self._study, self._asks, self._cube)
        return tuple(min(max(float(found[axis]), 0.0), 1.0) for axis in self._cube)
