# SPDX-License-Identifier: Apache-2.0
"""The whole decision about one experiment: from what is known now to the next step. Total, pure, deterministic.

The policies it calls stand in files of their own; this one holds their order and what is said of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sandbox_api.contract import experiment_folder
from sandbox_api.experiment import ExperimentSpec
from sandbox_api.status import (
    DONE_STATES,
    FINISHED_STATES,
    ExperimentStatus,
    JobStatus,
    Reason,
    Resolved,
    WorkspaceStatus,
)

from ..build.defaults import Defaults
from .actions import Action, DeleteFinishedJobs, DeleteJob, Event, Plan
from .advance import advance, skip
from .claim import ClaimDecision, decide_claim
from .clock import moment, since, stamp
from .comparison import compare
from .compile import Compiled, PlannedJob
from .conditions import Headline, conditions_of
from .facts import Snapshot
from .round import Round


def plan_experiment(snapshot: Snapshot, compiled: Compiled, defaults: Defaults, now: datetime) -> Plan:
    """The next step of an experiment; `compiled` is what its spec means (`compile_spec`)."""
    # 1. Gone, or over: only tidying is left.
    if snapshot.deleting:
        return Plan(snapshot.status)
    if snapshot.status.completion_time is not None:
        return _after_the_end(snapshot, compiled, defaults, now)

    # 2. A spec that can't be run starts nothing, and says everything that is wrong with it.
    problems = (*compiled.problems, *_image_problems(snapshot, compiled, defaults))
    if compiled.spec is None or problems:
        return _invalid(snapshot, problems, now)

    # 3. The volume.
    claim = decide_claim(compiled.spec.workspace, snapshot, defaults)

    # 4. Results, failures and the next attempt, in the order of the lists.
    this = Round(
        snapshot=snapshot,
        spec=compiled.spec,
        defaults=defaults,
        images=_images(snapshot, compiled.spec, defaults),
        claim=claim.name,
        may_start=claim.ready and not compiled.spec.suspend,
        node_may_be_lost=claim.access_mode == "ReadWriteMany",
        now=now,
        jobs=_jobs_so_far(snapshot.status, compiled.jobs),
        actions=[claim.action] if claim.action else [],
    )
    failed: JobStatus | None = None
    for job in compiled.jobs:
        if failed is not None:
            skip(this, job, failed)
            continue
        if this.jobs[job.id].state not in FINISHED_STATES:
            advance(this, job)
        state = this.jobs[job.id].state
        if state == "Failed":
            failed = this.jobs[job.id]
        elif state not in DONE_STATES:
            break

    # 5. What is to be said of it all, in one status.
    return _conclude(this, compiled, claim)


def _jobs_so_far(status: ExperimentStatus, jobs: tuple[PlannedJob, ...]) -> dict[str, JobStatus]:
    known = {entry.id: entry for entry in status.jobs}
    return {
        job.id: known.get(job.id) or JobStatus(id=job.id, hook=job.hook.name, meta_name=job.meta_name) for job in jobs
    }


def _images(snapshot: Snapshot, spec: ExperimentSpec, defaults: Defaults) -> dict[str, str]:
    """Images by name. What a name meant when the experiment started it means to its end, whatever is upgraded."""
    resolved = snapshot.status.resolved.images if snapshot.status.resolved else {}
    return {**defaults.images, **spec.images, **resolved}


def _image_problems(snapshot: Snapshot, compiled: Compiled, defaults: Defaults) -> Iterator[str]:
    if compiled.spec is None:
        return
    images = _images(snapshot, compiled.spec, defaults)
    for name in sorted({job.hook.image for job in compiled.jobs} - set(images)):
        yield f"spec.images.{name}: the operator has no such image; set it here, or images.{name} in the chart's values"


def _conclude(this: Round, compiled: Compiled, claim: ClaimDecision) -> Plan:
    snapshot, old = this.snapshot, this.snapshot.status
    jobs = [this.jobs[job.id] for job in compiled.jobs]
    started = old.start_time or (stamp(this.now) if any(job.attempts for job in jobs) else None)
    finished = all(job.state in FINISHED_STATES for job in jobs)
    headline = _headline(this, jobs, claim, finished)
    current = next((job for job in jobs if job.state not in FINISHED_STATES), None) or next(
        (job for job in jobs if job.state == "Failed"), jobs[-1]
    )
    if finished:
        this.events.append(_closing_event(headline))
    elif not claim.ready and claim.reason != Reason.CLAIM_TERMINATING:
        this.events.append(Event("Warning", claim.reason, claim.message))
    used = {job.hook.image for job in compiled.jobs}
    status = ExperimentStatus(
        observed_generation=snapshot.generation,
        outcome=headline.outcome,
        stage=current.id.split("/")[2],
        progress=f"{sum(job.state in DONE_STATES for job in jobs)}/{len(jobs)}",
        hook=current.hook,
        retries=sum(max(0, job.attempts - 1) for job in jobs),
        start_time=started,
        completion_time=stamp(this.now) if finished else None,
        conditions=conditions_of(old.conditions, headline, claim, snapshot.generation, this.now),
        workspace=WorkspaceStatus(
            claim_name=claim.name,
            path=experiment_folder(snapshot.name, snapshot.uid),
            access_mode=claim.access_mode or (old.workspace.access_mode if old.workspace else None),
            placement="one job runs at a time, so nothing is pinned: the volume follows the pod",
        ),
        resolved=Resolved(
            images={name: this.images[name] for name in sorted(used)},
            hooks={job.hook.name: job.hook.image for job in compiled.jobs},
        )
        if started
        else None,
        iteration=1,
        jobs=jobs,
        comparison=compare(this.spec, compiled.jobs, this.jobs),
    )
    events = [*_warning_events(snapshot, compiled), *this.events]
    urgent = this.urgent or old.observed_generation != snapshot.generation
    return Plan(status, tuple(this.actions), tuple(events), min(this.requeue, default=None), urgent)


def _headline(this: Round, jobs: list[JobStatus], claim: ClaimDecision, finished: bool) -> Headline:
    failed = next((job for job in jobs if job.state == "Failed"), None)
    if failed is not None:
        skipped = sum(job.state == "Skipped" for job in jobs)
        after = f"; {skipped} later {'job' if skipped == 1 else 'jobs'} skipped" if skipped else ""
        words = f"{failed.id} ({failed.hook}, {failed.meta_name}) failed: {failed.message}{after}"
        return Headline("Failed", failed.reason or Reason.FAILED, words)
    if finished:
        began = this.snapshot.status.start_time
        took = f" in {int(since(began, this.now))} s" if began else ""
        return Headline("Succeeded", Reason.SUCCEEDED, f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} done{took}")
    current = next(job for job in jobs if job.state not in FINISHED_STATES)
    begun = any(job.attempts for job in jobs)
    if this.spec.suspend and this.held:
        words = "no further job is started until spec.suspend is false"
        return Headline("Running" if begun else "Pending", Reason.SUSPENDED, words, suspended=True)
    if not claim.ready:
        stalled = claim.reason != Reason.CLAIM_TERMINATING
        return Headline("Running" if begun else "Pending", claim.reason, claim.message, stalled=stalled)
    name = f"{current.id} ({current.hook}, {current.meta_name})"
    if current.state == "Running":
        return Headline("Running", Reason.RUNNING, f"{name} is running")
    reason = current.reason or Reason.PENDING
    return Headline("Running", reason, f"{name} waits: {current.message or 'its Job is being created'}")


def _closing_event(headline: Headline) -> Event:
    return Event("Normal" if headline.outcome == "Succeeded" else "Warning", headline.reason, headline.message)


def _warning_events(snapshot: Snapshot, compiled: Compiled) -> Iterator[Event]:
    """What is odd about a spec, once: when its generation is seen first."""
    if snapshot.status.observed_generation != snapshot.generation:
        for words in compiled.warnings:
            yield Event("Warning", "SpecWarning", words)


def _invalid(snapshot: Snapshot, problems: tuple[str, ...], now: datetime) -> Plan:
    """Tell all problems. A running hook is left alone: its result is committed once the spec can be read again."""
    old = snapshot.status
    count = f"{len(problems)} problems: " if len(problems) > 1 else ""
    words = count + "; ".join(f"({n}) {text}" for n, text in enumerate(problems, 1)) if count else problems[0]
    headline = Headline(old.outcome or "Pending", Reason.INVALID_SPEC, words, stalled=True)
    status = old.model_copy(
        update={
            "observed_generation": snapshot.generation,
            "outcome": headline.outcome,
            "conditions": conditions_of(old.conditions, headline, None, snapshot.generation, now),
        }
    )
    told = any(c.type == "Stalled" and c.message == status.conditions[0].message for c in old.conditions)
    events = () if told else (Event("Warning", Reason.INVALID_SPEC, words[:1000]),)
    return Plan(status, events=events, urgent=True)


def _after_the_end(snapshot: Snapshot, compiled: Compiled, defaults: Defaults, now: datetime) -> Plan:
    """A finished experiment: its results stay; retention may change, and its Jobs go when their time is over."""
    status = snapshot.status
    # A Job that was given up before its pod began is deleted after the status says so: the operator may stop between.
    given_up = {job.job_name for job in status.jobs if job.reason == Reason.PENDING_TIMEOUT}
    actions: list[Action] = [DeleteJob(job.name) for job in snapshot.jobs if job.name in given_up and not job.deleting]
    if compiled.spec is None:
        return Plan(status, tuple(actions))
    requeue: float | None = None
    claim = decide_claim(compiled.spec.workspace, snapshot, defaults)
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
        return _new_generation(snapshot, compiled, tuple(actions), requeue, now)
    return Plan(status, tuple(actions), requeue_after=requeue)


def _new_generation(
    snapshot: Snapshot, compiled: Compiled, actions: tuple[Action, ...], requeue: float | None, now: datetime
) -> Plan:
    """A finished experiment whose spec changed: what can't be done is said, what is done stays."""
    told = [c for c in snapshot.status.conditions if not (c.type == "Stalled" and c.reason == Reason.INVALID_SPEC)]
    events: tuple[Event, ...] = ()
    if compiled.problems:
        words = "; ".join(compiled.problems)
        events = (Event("Warning", Reason.INVALID_SPEC, words[:1000]),)
        headline = Headline("Running", Reason.INVALID_SPEC, words, stalled=True)
        told = [c for c in told if c.type != "Stalled"]
        told += [c for c in conditions_of(told, headline, None, snapshot.generation, now) if c.type == "Stalled"]
    status = snapshot.status.model_copy(update={"observed_generation": snapshot.generation, "conditions": told})
    return Plan(status, actions, events, requeue, urgent=True)
