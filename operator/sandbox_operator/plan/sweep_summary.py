# SPDX-License-Identifier: Apache-2.0
"""What is said of a sweep: counts, the best trial, a table that stays small, and one sentence about the whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sandbox_api.status import Outcome, Reason
from sandbox_api.sweep import MAX_TABLE, BestTrial, SweepStatus, TrialCounts, TrialRow

from ..build.names import trial_name
from .actions import Event
from .claim import ClaimDecision
from .clock import stamp
from .conditions import Headline, conditions_of
from .sweep_definition import CompiledSweep, named
from .sweep_facts import PatchTrial, SweepAction, SweepPlan, SweepSnapshot, TrialFact, best_of, in_words, to_be_made

BEST_SHOWN = 20
FAILED_SHOWN = 20
MAX_PARAMETER_BYTES = 100_000
"""Of all rows of the table together; beyond, only the best and the newest tell their parameters."""
ALWAYS_TOLD = 10


@dataclass(frozen=True)
class Begun:
    """A trial that this round decides on."""

    number: int
    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Said:
    """What a round has found out, besides the snapshot."""

    claim: ClaimDecision
    begun: tuple[Begun, ...]
    why_no_more: Reason | None
    """Why no further trial begins, however many are left."""
    resuming: bool
    """Whether trials are still to be told to go on."""
    warnings: tuple[str, ...] = ()
    """What will not be as it was meant."""


@dataclass(frozen=True)
class _Counted:
    """How the trials stand, those of this round included."""

    total: int
    """Numbers in use: the next new trial has this one."""
    running: int
    """Trials that hold a place."""
    gone: int
    """Begun once, and deleted by somebody."""
    is_finished: bool
    best: TrialFact | None


def invalid(snapshot: SweepSnapshot, problems: tuple[str, ...], now: datetime) -> SweepPlan:
    """Tell all problems. Trials that run are left alone."""
    old = snapshot.status
    count = f"{len(problems)} problems: " if len(problems) > 1 else ""
    words = count + "; ".join(f"({n}) {text}" for n, text in enumerate(problems, 1)) if count else problems[0]
    headline = Headline(old.outcome or "Pending", Reason.INVALID_SPEC, words, stalled=True)
    update = {
        "observed_generation": snapshot.generation,
        "outcome": headline.outcome,
        "conditions": conditions_of(old.conditions, headline, None, snapshot.generation, now),
    }
    return SweepPlan(
        old.model_copy(update=update), events=(Event("Warning", headline.reason, words[:1000]),), urgent=True
    )


def conclude(
    snapshot: SweepSnapshot, compiled: CompiledSweep, said: Said, actions: tuple[SweepAction, ...], now: datetime
) -> SweepPlan:
    """The plan of this round."""
    assert compiled.spec is not None
    old, trials = snapshot.status, snapshot.trials
    counted = _count(snapshot, compiled, said)
    headline = _headline(snapshot, compiled, said, counted)
    best = counted.best
    in_all = max(compiled.max_trials, counted.total)
    gone = f"{in_words(counted.gone)} deleted by somebody; they count as begun, and are not made again"
    status = SweepStatus(
        observed_generation=snapshot.generation,
        revision=old.revision,
        outcome=headline.outcome,  # type: ignore[arg-type]  # never Stopped
        start_time=old.start_time or (stamp(now) if counted.total else None),
        completion_time=(old.completion_time or stamp(now)) if counted.is_finished else None,
        conditions=conditions_of(old.conditions, headline, said.claim, snapshot.generation, now),
        objective=compiled.objective,
        seed=compiled.seed,
        max_trials=compiled.max_trials,
        claim_name=said.claim.name,
        progress=f"{counted.total - counted.running}/{in_all}",
        best=BestTrial(trial=best.number, experiment=best.name, value=best.value, parameters=dict(best.parameters))
        if best is not None and best.value is not None
        else None,
        counts=TrialCounts(
            total=counted.total,
            running=len(said.begun) + sum(trial.state == "Running" for trial in trials),
            succeeded=sum(trial.state == "Succeeded" for trial in trials),
            failed=sum(trial.state == "Failed" for trial in trials),
            pruned=sum(trial.state == "Pruned" for trial in trials),
        ),
        trials=_table(trials, said.begun, compiled.spec.metric.goal),
        ignored=list(compiled.ignored),
        warnings=[*compiled.warnings, *said.warnings, *([gone] if counted.gone else ())],
    )
    events = tuple(_events(snapshot, compiled, said, status, headline))
    patched = any(isinstance(action, PatchTrial) for action in actions)
    changed = (old.observed_generation, old.completion_time) != (status.observed_generation, status.completion_time)
    urgent = bool(said.begun) or patched or changed or old.start_time is None
    requeue = 0.0 if said.resuming else STRANGER_SECONDS if _in_the_way(snapshot, counted.total) else None
    return SweepPlan(status, actions, events, requeue, urgent)


STRANGER_SECONDS = 30.0
"""After so long it is looked again whether what has a trial's name is still there: nobody tells when it goes."""


def _count(snapshot: SweepSnapshot, compiled: CompiledSweep, said: Said) -> _Counted:
    assert compiled.spec is not None
    trials, status = snapshot.trials, snapshot.status
    known = {trial.number for trial in trials} | {begun.number for begun in said.begun}
    before = status.counts.total
    never_made = to_be_made(status) - known
    while before - 1 in never_made:  # it was named and never made: it has not begun
        before -= 1
    total = max((*(number + 1 for number in known), before))
    running = len(said.begun) + sum(not trial.is_over for trial in trials)
    none_left = said.why_no_more is not None or total >= compiled.max_trials
    best = best_of(trials, compiled.spec.metric.goal)
    return _Counted(
        total=total,
        running=running,
        gone=total - len(known),
        is_finished=none_left and not running and total > 0,
        best=best[0] if best else None,
    )


def _headline(snapshot: SweepSnapshot, compiled: CompiledSweep, said: Said, counted: _Counted) -> Headline:
    assert compiled.spec is not None
    result = _result(counted)
    if counted.is_finished:
        return _end(snapshot, compiled, said, counted, result)
    outcome: Outcome = "Running" if counted.total else "Pending"
    if compiled.spec.suspend or said.resuming:
        runs = f"; {in_words(counted.running)} told to do so as well" if counted.running else ""
        words = f"no further trial is begun until spec.suspend is false{runs}"
        return Headline(outcome, Reason.SUSPENDED, words, suspended=True)
    claim = said.claim
    if not claim.ready:
        return Headline(outcome, claim.reason, claim.message, stalled=claim.reason != Reason.CLAIM_TERMINATING)
    number = said.begun[0].number if said.begun else counted.total
    name = trial_name(snapshot.name, number)
    if counted.running == len(said.begun) and said.why_no_more is None:  # what runs tells more than what can't begin
        if (stranger := _in_the_way(snapshot, number)) is not None:
            return Headline(outcome, Reason.NAME_TAKEN, stranger, stalled=not snapshot.strangers[name].is_leaving)
        if (refusal := snapshot.refusals.get(name)) is not None:
            words = f"{named(snapshot.name, number)}: {refusal.message}"
            return Headline(outcome, refusal.reason, words, stalled=refusal.final)
    return Headline(outcome, Reason.RUNNING, f"{in_words(counted.running)} running{_after_that(said)}{result}")


def _after_that(said: Said) -> str:
    """What is going to happen when those that run have ended."""
    if said.why_no_more == Reason.TARGET_REACHED:
        return ", and no further one is begun, because metric.target is reached"
    if said.why_no_more is not None:
        return ", and no further one is begun, because more than spec.maxFailedTrials failed"
    return ""


def _end(snapshot: SweepSnapshot, compiled: CompiledSweep, said: Said, counted: _Counted, result: str) -> Headline:
    ended = f"{in_words(counted.total)} ended"
    if said.why_no_more == Reason.TOO_MANY_FAILED_TRIALS:
        failed = [trial for trial in snapshot.trials if trial.state == "Failed"]
        last = failed[-1]
        words = (
            f"{len(failed)} trials failed, more than spec.maxFailedTrials ({compiled.max_failed_trials}); the last was"
            f" {named(snapshot.name, last.number)}: {last.reason}: {last.message}{result}"
        )
        return Headline("Failed", Reason.TOO_MANY_FAILED_TRIALS, words)
    if said.why_no_more is not None:
        return Headline("Succeeded", said.why_no_more, f"metric.target is reached after {ended}{result}")
    if counted.best is None:
        return Headline("Failed", Reason.FAILED, f"{ended}, and none has a value of the metric")
    return Headline("Succeeded", Reason.SUCCEEDED, f"{ended}{result}")


def _result(counted: _Counted) -> str:
    best = counted.best
    return f"; the best so far is {best.value!r} of trial {best.number}" if best is not None else ""


def _in_the_way(snapshot: SweepSnapshot, number: int) -> str | None:
    """A sentence where something else has the name of the next trial."""
    name = trial_name(snapshot.name, number)
    stranger = snapshot.strangers.get(name)
    if stranger is None:
        return None
    if stranger.is_leaving:
        return f"waits until the experiment {name} of an earlier sweep has gone"
    return f"an experiment {name} that is not this sweep's stands in the way; delete it, or give the sweep another name"


def _table(trials: Sequence[TrialFact], begun: Sequence[Begun], goal: str) -> list[TrialRow]:
    """The best, the failed and the newest trials, by number."""
    rows = [
        TrialRow(
            number=t.number, experiment=t.name, state=t.state, value=t.value, parameters=dict(t.parameters),
            reason=t.reason,
        )
        for t in trials
    ]  # fmt: skip
    rows += [
        TrialRow(number=b.number, experiment=b.name, state="Pending", parameters=dict(b.parameters)) for b in begun
    ]
    rows.sort(key=lambda row: row.number)
    best = [trial.number for trial in best_of(trials, goal)[:BEST_SHOWN]]
    if len(rows) > MAX_TABLE:
        failed = [row.number for row in rows if row.state == "Failed"][-FAILED_SHOWN:]
        chosen = {b.number for b in begun}
        for number in (*best, *failed, *(row.number for row in reversed(rows))):
            if len(chosen) < MAX_TABLE:
                chosen.add(number)
        rows = [row for row in rows if row.number in chosen]
    if sum(len(json.dumps(row.parameters)) for row in rows) > MAX_PARAMETER_BYTES:
        told = {*best[:ALWAYS_TOLD], *(row.number for row in rows[-ALWAYS_TOLD:])}
        rows = [row if row.number in told else row.model_copy(update={"parameters": {}}) for row in rows]
    return rows


def _events(
    snapshot: SweepSnapshot, compiled: CompiledSweep, said: Said, status: SweepStatus, headline: Headline
) -> Iterator[Event]:
    assert compiled.spec is not None
    old, spec = snapshot.status, compiled.spec
    if old.observed_generation != snapshot.generation:
        yield from (Event("Warning", "SpecWarning", words) for words in (*compiled.warnings, *said.warnings))
    if old.start_time is None and status.start_time is not None:
        words = f"{spec.method}: {in_words(compiled.max_trials)}, {spec.parallelism} at a time; {status.objective}"
        yield Event("Normal", "SweepStarted", f"{words}, {spec.metric.goal}")
    before = {row.number: row.state for row in old.trials}
    for trial in snapshot.trials:
        if trial.state == "Failed" and before.get(trial.number) in ("Pending", "Running"):
            yield Event(
                "Warning", "TrialFailed", f"{named(snapshot.name, trial.number)}: {trial.reason}: {trial.message}"
            )
    best = status.best
    if best is not None and (old.best is None or old.best.trial != best.trial or old.best.value != best.value):
        yield Event("Normal", "NewBest", f"{named(snapshot.name, best.trial)}: {status.objective} is {best.value!r}")
    if status.completion_time is not None and old.completion_time is None:
        yield Event("Warning" if headline.outcome == "Failed" else "Normal", headline.reason, headline.message)
    elif not said.claim.ready and said.claim.reason != Reason.CLAIM_TERMINATING:
        yield Event("Warning", said.claim.reason, said.claim.message)
