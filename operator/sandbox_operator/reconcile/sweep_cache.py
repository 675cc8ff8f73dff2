# SPDX-License-Identifier: Apache-2.0
"""A snapshot of one sweep on demand, from what the informers know. Its trials are experiments like any others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..build.names import claim_name, trial_name
from ..build.volume import SWEEP
from ..kube.informer import Key
from ..plan.compile import Compiled
from ..plan.sweep_facts import AT_ONCE, RungArrival, Stranger, SweepSnapshot, TrialFact, TrialFiles, to_be_made
from ..plan.sweep_trials import trial_fact, trial_files
from .cache import Cache
from .projections import ExperimentFact, SweepFact
from .reports import RungReport
from .scope import Scope

if TYPE_CHECKING:
    from ..plan.sweep_definition import CompiledSweep


Rungs = Callable[[Key], tuple[RungReport, ...]]
"""What an experiment's pods have told of rungs."""


class SweepCache:
    def __init__(self, cache: Cache, rungs: Rungs) -> None:
        self._cache = cache
        self._rungs = rungs
        self._trials: dict[Key, dict[str, tuple[str, Compiled, TrialFact]]] = {}
        """By sweep and experiment's uid, with the version and what it was read by: a thousand of them seldom change."""

    def fact(self, key: Key) -> SweepFact | None:
        """A sweep as it is known, or None when it has gone."""
        return self._cache.scope(key).sweeps.store.get(key)

    def observe(self, fact: SweepFact, compiled: CompiledSweep) -> SweepSnapshot:
        """Everything known of one sweep; `compiled` is what its spec means."""
        key = (fact.namespace, fact.name)
        scope = self._cache.scope(key)
        claim = (fact.namespace, compiled.claim or claim_name(fact.name))
        trials = self._trials_of(scope, fact, compiled.first) if compiled.first is not None else ()
        return SweepSnapshot(
            name=fact.name,
            namespace=fact.namespace,
            uid=fact.uid,
            generation=fact.generation,
            resource_version=fact.resource_version,
            spec=fact.spec,
            status=fact.status,
            deleting=fact.deleting,
            trials=trials,
            arrivals=self._arrivals(fact.namespace, trials),
            strangers=_strangers(scope, fact),
            claims=scope.claim_of_sweep(key, claim),
            warnings=tuple(sorted(scope.warnings_of_claim(claim), key=lambda warning: warning.time)),
            refusals=self._cache.refusals.of((SWEEP, *key), (fact.uid, fact.generation)),
        )

    def _arrivals(self, namespace: str, trials: tuple[TrialFact, ...]) -> tuple[RungArrival, ...]:
        running = [trial for trial in trials if not trial.is_over]
        told = [(rung, trial.number) for trial in running for rung in self._rungs((namespace, trial.name))]
        told.sort(key=lambda entry: entry[0].order)
        return tuple(RungArrival(number, rung.rung, rung.value) for rung, number in told)

    def with_files(self, snapshot: SweepSnapshot) -> SweepSnapshot:
        """Also what its trials have on the volume, and what others have taken of it."""
        scope = self._cache.scope((snapshot.namespace, snapshot.name))
        claim = (snapshot.namespace, snapshot.status.claim_name or claim_name(snapshot.name))
        files = _files(scope, snapshot.trials, snapshot.namespace)
        return replace(snapshot, files=files, taken=scope.taken_on(claim))

    def forget(self, key: Key) -> None:
        """A sweep has gone."""
        self._trials.pop(key, None)
        self._cache.forget(key, SWEEP)

    def _trials_of(self, scope: Scope, fact: SweepFact, compiled: Compiled) -> tuple[TrialFact, ...]:
        known = self._trials.get((fact.namespace, fact.name), {})
        now: dict[str, tuple[str, Compiled, TrialFact]] = {}
        for experiment in scope.experiments.group(fact.uid):
            before = known.get(experiment.uid)
            if before is None or before[0] != experiment.resource_version or before[1] is not compiled:
                assert experiment.trial is not None, "it is found by that"
                trial = trial_fact(experiment.name, experiment.trial, experiment.status, compiled)
                before = (experiment.resource_version, compiled, trial)
            now[experiment.uid] = before
        self._trials[fact.namespace, fact.name] = now
        ours = (trial for _, _, trial in now.values() if trial.name == trial_name(fact.name, trial.number))
        return tuple(sorted(ours, key=lambda trial: trial.number))


def _files(scope: Scope, trials: tuple[TrialFact, ...], namespace: str) -> dict[int, TrialFiles]:
    """What trials that have ended have on the volume."""
    found: dict[int, TrialFiles] = {}
    for trial in trials:
        experiment = scope.experiments.store.get((namespace, trial.name))
        if experiment is not None and trial.artifacts != "Removed":
            found[trial.number] = trial_files(experiment.name, experiment.uid, experiment.status)
    return found


def _strangers(scope: Scope, fact: SweepFact) -> dict[str, Stranger]:
    """What has the name of one of the next trials and is none of ours."""
    total = fact.status.counts.total
    found: dict[str, Stranger] = {}
    for number in {*to_be_made(fact.status), *range(total, total + AT_ONCE)}:
        name = trial_name(fact.name, number)
        experiment = scope.experiments.store.get((fact.namespace, name))
        if experiment is not None and not _is_trial(experiment, fact, number):
            of_another = experiment.trial is not None and experiment.trial.sweep_uid != fact.uid
            found[name] = Stranger(is_leaving=experiment.deleting or of_another)
    return found


def _is_trial(experiment: ExperimentFact, fact: SweepFact, number: int) -> bool:
    trial = experiment.trial
    return trial is not None and (trial.sweep_uid, trial.number) == (fact.uid, number)
