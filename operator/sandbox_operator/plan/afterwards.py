# SPDX-License-Identifier: Apache-2.0
"""What is left to do for an experiment that has ended or can't be run: tidy up, and say what is wrong with its spec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from sandbox_api.status import ExperimentStatus, JobStatus, Reason

from ..build.defaults import Defaults
from .actions import Action, DeleteFinishedJobs, DeleteJob, Event, Plan
from .claim import decide_claim
from .clock import moment
from .compile import Compiled
from .conditions import Headline, condition_in, conditions_of
from .facts import Snapshot
from .rerun import is_live


def orphans(snapshot: Snapshot, entries: Iterable[JobStatus]) -> Iterator[DeleteJob]:
    """Deletes for the Jobs of attempts that are over by our own decision and whose pods may still work."""
    wanted = _wanted(entries)
    over = {pod.job_name for pod in snapshot.pods} - {pod.job_name for pod in snapshot.pods if not pod.is_over}
    for fact in snapshot.jobs:
        if not (fact.name in wanted or fact.complete or fact.failed or fact.deleting or fact.name in over):
            yield DeleteJob(fact.name)


def holders(snapshot: Snapshot, entries: Iterable[JobStatus], claim: str) -> Iterator[DeleteJob]:
    """Deletes for Jobs whose pods have ended and keep a claim from going that somebody has deleted."""
    fact = snapshot.claims.get(claim)
    if fact is None or not fact.deleting:
        return
    wanted = _wanted(entries)
    for job in snapshot.jobs:
        if (job.complete or job.failed) and not (job.name in wanted or job.deleting):
            yield DeleteJob(job.name)


def _wanted(entries: Iterable[JobStatus]) -> set[str | None]:
    """Names of the Jobs that work for an entry."""
    return {name for entry in entries if is_live(entry) for name in (entry.job_name, entry.helper_job)}


def invalid(snapshot: Snapshot, problems: tuple[str, ...], now: datetime) -> Plan:
    """Tell all problems. A running hook is left alone: its result is committed once the spec can be read again."""
    old = snapshot.status
    headline = _problem(old, problems)
    status = old.model_copy(
        update={
            "observed_generation": snapshot.generation,
            "outcome": headline.outcome,
            "conditions": conditions_of(old.conditions, headline, None, snapshot.generation, now),
        }
    )
    told = any(c.type == "Stalled" and c.message == status.conditions[0].message for c in old.conditions)
    events = () if told else (Event("Warning", headline.reason, headline.message[:1000]),)
    return Plan(status, events=events, urgent=True)


def after_the_end(
    snapshot: Snapshot, compiled: Compiled, problems: tuple[str, ...], defaults: Defaults, now: datetime
) -> Plan:
    """A finished experiment: its results stay; retention may change, and its Jobs go when their time is over.

    `problems` are what keeps it from beginning again.
    """
    status = snapshot.status
    # The status says first that an attempt is over, then its Job is deleted: the operator may have stopped between.
    actions: list[Action] = [*orphans(snapshot, status.jobs)]
    if compiled.spec is None:
        return Plan(status, tuple(actions))
    requeue: float | None = None
    claim = decide_claim(compiled.spec.workspace, snapshot, defaults)
    actions += holders(snapshot, status.jobs, claim.name)
    if claim.action is not None and snapshot.claims.get(claim.name) is not None:
        actions.append(claim.action)  # a change of retention; a claim that has gone is not made again
    ttl = compiled.spec.ttl_seconds_after_finished
    if ttl is not None and snapshot.jobs and status.completion_time is not None:
        left = ttl - (now - moment(status.completion_time)).total_seconds()
        if left <= 0:
            actions.append(DeleteFinishedJobs())
        else:
            requeue = left
    if status.observed_generation != snapshot.generation:
        return _new_generation(snapshot, problems, tuple(actions), requeue, now)
    return Plan(status, tuple(actions), requeue_after=requeue)


def _new_generation(
    snapshot: Snapshot, problems: tuple[str, ...], actions: tuple[Action, ...], requeue: float | None, now: datetime
) -> Plan:
    """A finished experiment whose spec changed: what can't be done is said, what is done stays."""
    old = snapshot.status
    events: tuple[Event, ...] = ()
    if problems:
        headline = _problem(old, problems)
        events = (Event("Warning", headline.reason, headline.message[:1000]),)
    else:
        headline = _end(old)
    told = conditions_of(old.conditions, headline, None, snapshot.generation, now)
    status = old.model_copy(update={"observed_generation": snapshot.generation, "conditions": told})
    return Plan(status, actions, events, requeue, urgent=True)


def _problem(status: ExperimentStatus, problems: tuple[str, ...]) -> Headline:
    count = f"{len(problems)} problems: " if len(problems) > 1 else ""
    words = count + "; ".join(f"({n}) {text}" for n, text in enumerate(problems, 1)) if count else problems[0]
    return Headline(status.outcome or "Pending", Reason.INVALID_SPEC, words, stalled=True)


def _end(status: ExperimentStatus) -> Headline:
    """How an experiment ended, as its status says it."""
    assert status.outcome is not None, "it has ended"
    said = condition_in(status.conditions, "Succeeded")
    return Headline(status.outcome, said.reason if said else status.outcome, said.message if said else "")
