# SPDX-License-Identifier: Apache-2.0
"""The whole decision about one sweep: from what is known now to the next step. Total, pure, deterministic.

A sweep remembers nothing: its trials are experiments that say what they are, what their suggestion saw and how they
ended. Names follow from numbers, so no trial can be made twice; the status names a trial before its experiment is made,
so none is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice

from sandbox_api.status import Reason
from sandbox_api.sweep import SweepSpec

from ..build.defaults import Defaults
from ..build.names import trial_name
from ..build.trial import trial_experiment
from ..search.observed import Seen, encode_observed
from ..search.studies import StudyCache
from ..search.suggest import LOOKS_BACK, suggest
from .claim import ClaimDecision, decide_claim
from .sweep_definition import CompiledSweep, trial_of
from .sweep_facts import AT_ONCE, CreateTrial, PatchTrial, SweepAction, SweepPlan, SweepSnapshot, TrialFact, to_be_made
from .sweep_stopping import decide_on_arrivals, progress_is_off, stop_the_pruned
from .sweep_summary import Begun, Said, conclude, invalid
from .sweep_trials import seen_as
from .trim import with_trimming


@dataclass
class _Round:
    """What one round gathers before it becomes a plan."""

    snapshot: SweepSnapshot
    compiled: CompiledSweep
    spec: SweepSpec
    claim: ClaimDecision
    begun: list[Begun] = field(default_factory=list)
    actions: list[SweepAction] = field(default_factory=list)


def plan_sweep(
    snapshot: SweepSnapshot, compiled: CompiledSweep, study: StudyCache, defaults: Defaults, now: datetime
) -> SweepPlan:
    """The next step of a sweep; `compiled` is what its spec means (`compile_sweep`).

    Trials that were begun and are not in the snapshot must have been asked for (`unseen`): what is named by the status
    as Pending is made, any other was deleted and stays so. `study` is a cache and changes nothing.
    """
    # 1. Gone: its trials go with it.
    if snapshot.deleting:
        return SweepPlan(snapshot.status)

    # 2. A spec that means nothing begins no trial, and says everything that is wrong with it.
    if compiled.spec is None:
        if _is_over(snapshot):  # nothing is to begin: what its spec would not do now is of no matter
            return SweepPlan(snapshot.status)
        return invalid(snapshot, compiled.problems, now)

    # 3. The volume that all trials share.
    assert compiled.workspace is not None
    claim = decide_claim(compiled.workspace, snapshot, defaults)
    this = _Round(snapshot, compiled, compiled.spec, claim)

    # 4. Trials that run are suspended and go on with the sweep.
    resuming = _suspend_or_resume(this)

    # 5. Trials that have come to a rung go on or end early.
    decided = [*decide_on_arrivals(snapshot, this.spec)]
    this.actions += [*decided, *stop_the_pruned(snapshot)]

    # 6. The next trials, each suggested from those begun before it.
    if _may_begin(this):
        _begin_trials(this, study)

    # 7. What is to be said of it all, in one status.
    actions = [claim.action] if claim.action is not None else []
    warnings = tuple(progress_is_off(this.spec, defaults))
    said = Said(claim, tuple(this.begun), why_no_more(snapshot.trials, compiled), resuming, warnings)
    plan = conclude(snapshot, compiled, said, (*actions, *this.actions), now)

    # 8. When all is over, large files of trials that are not among the best.
    return with_trimming(plan, snapshot, compiled, defaults, now)


def _is_over(snapshot: SweepSnapshot) -> bool:
    """Whether its status tells how the search ended that its spec asks for."""
    status = snapshot.status
    return status.completion_time is not None and status.observed_generation == snapshot.generation


def _suspend_or_resume(this: _Round) -> bool:
    """Hand `spec.suspend` on to the trials that run; whether some are still to be told to go on.

    Only a sweep that was suspended wakes its trials: one that a person has suspended stays so.
    """
    was_suspended = any(c.type == "Suspended" and c.status == "True" for c in this.snapshot.status.conditions)
    if not (this.spec.suspend or was_suspended):
        return False
    wrong = [t for t in this.snapshot.trials if not t.is_over and t.suspended != this.spec.suspend]
    this.actions += (PatchTrial(trial.name, {"suspend": this.spec.suspend}) for trial in wrong)
    return bool(wrong) and not this.spec.suspend


def _may_begin(this: _Round) -> bool:
    return this.claim.ready and not this.spec.suspend and why_no_more(this.snapshot.trials, this.compiled) is None


def why_no_more(trials: Iterable[TrialFact], compiled: CompiledSweep) -> Reason | None:
    """Why no further trial begins, however many are left; None while they may."""
    assert compiled.spec is not None
    failed = sum(trial.state == "Failed" and trial.reason != Reason.STOPPED for trial in trials)
    if failed > compiled.max_failed_trials:
        return Reason.TOO_MANY_FAILED_TRIALS
    target = compiled.spec.metric.target
    sign = 1 if compiled.spec.metric.goal == "minimize" else -1
    values = (trial.value for trial in trials if trial.state == "Succeeded" and trial.value is not None)
    if target is not None and any(sign * value <= sign * target for value in values):
        return Reason.TARGET_REACHED
    return None


def _begin_trials(this: _Round, study: StudyCache) -> None:
    """The next trials as far as there is room, one after the other: the second sees the first as running."""
    snapshot, compiled = this.snapshot, this.compiled
    assert compiled.settings is not None
    looks_back = compiled.settings.method in LOOKS_BACK
    seen = [*_seen(snapshot.trials)] if looks_back else []
    for number in _next_numbers(this):
        name = trial_name(snapshot.name, number)
        refusal = snapshot.refusals.get(name)
        if name in snapshot.strangers or (refusal is not None and refusal.final):
            return  # the next ones wait as well: a later trial has seen all before it
        observed = tuple(one for one in seen if one.number < number)
        found = suggest(compiled.settings, number, observed, study=study)
        spec = trial_of(
            compiled, sweep=snapshot.name, number=number, values=found.values, point=found.point,
            observed=encode_observed(observed),
        )  # fmt: skip
        manifest = trial_experiment(
            sweep=snapshot.name, namespace=snapshot.namespace, uid=snapshot.uid, number=number, spec=spec
        )
        if looks_back:
            seen.append(Seen(number, "running", None, found.point))
        this.begun.append(Begun(number, name, found.values))
        this.actions.append(CreateTrial(manifest))


def _next_numbers(this: _Round) -> Iterator[int]:
    """Numbers of the trials for which there is room: first those that were named and never made."""
    trials, status = this.snapshot.trials, this.snapshot.status
    known = {trial.number for trial in trials}
    first = max((*(number + 1 for number in known), status.counts.total))
    room = min(this.spec.parallelism - sum(not trial.is_over for trial in trials), AT_ONCE)
    numbers = chain(sorted(to_be_made(status) - known), range(first, this.compiled.max_trials))
    return islice((number for number in numbers if number < this.compiled.max_trials), max(0, room))


def _seen(trials: Iterable[TrialFact]) -> Iterator[Seen]:
    """Trials as a suggestion sees them; one that says no point (somebody else made it) is not seen."""
    for trial in trials:
        if trial.point is not None:
            yield Seen(trial.number, *seen_as(trial), trial.point)
