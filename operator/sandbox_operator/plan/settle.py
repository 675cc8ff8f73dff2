# SPDX-License-Identifier: Apache-2.0
"""How a job ends, and what that means for others: committed, tried again, given up, skipped, made again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from sandbox_api.result import Message, plain_text
from sandbox_api.status import DONE_STATES, FINISHED_STATES, Failures, JobStatus, Reason, ResultRef

from . import metrics
from .actions import Event
from .attempt import Failed
from .clock import since, stamp
from .contracts import active_seconds_left
from .facts import CacheEntry
from .history import archived
from .job import PlannedJob
from .rerun import begun_again, downstream
from .retry import counted, delay, may_retry
from .round import Round

MESSAGE_LENGTH = 1024


def commit(this: Round, job: PlannedJob, result: Message) -> None:
    """The result goes into the status before anything else is done; from then on its Job does not matter."""
    before = this.jobs[job.id]
    others = {**this.jobs, job.id: before.model_copy(update={"metrics": None, "outputs": None})}
    this.update(
        job.id,
        state="Succeeded",
        start_time=result.started_at,
        completion_time=result.finished_at,
        reason=Reason.RECOVERED if result.recovered else Reason.COMPLETED,
        message=plain_text(result.message, MESSAGE_LENGTH) or None,
        outputs=metrics.kept_outputs(result.outputs, others, job.needs),
        metrics=metrics.kept(result.metrics, others, job.needs, len(this.history)),
        not_finite=result.not_finite or None,
        result=ResultRef(
            path=result.path,
            sha256=result.sha256,
            bytes=result.bytes,
            cache_key=result.cache_key or None,
            content=result.content or None,
            externals=result.externals,
            generation=before.generation or 1,
        ),
    )
    _after_commit(this, job, before)


def commit_cached(this: Round, job: PlannedJob, found: CacheEntry) -> None:
    """An equal job has been done already: its result is this one's, and no hook runs."""
    before, other = this.jobs[job.id], found.job
    assert other.result is not None
    this.update(
        job.id,
        state="Cached",
        start_time=None,
        completion_time=stamp(this.now),
        reason=Reason.CACHED,
        message=f"equal to {other.id} of {found.experiment}, done {other.completion_time}",
        outputs=metrics.kept_outputs(other.outputs or {}, this.jobs, job.needs),
        metrics=metrics.kept(other.metrics or {}, this.jobs, job.needs, len(this.history)),
        not_finite=other.not_finite,
        result=other.result.model_copy(update={"generation": before.generation or 1}),
        digest=job.digest,
    )
    _after_commit(this, job, before)


def _after_commit(this: Round, job: PlannedJob, before: JobStatus) -> None:
    """What is no longer true goes; a result that was replaced goes to the history, and what it was read by runs again
    if it differs."""
    this.update(
        job.id, waiting_since=None, retry_at=None, helper_job=None, cache_key=None, active_seconds=None, made=None
    )
    _ended(this, job)
    old, new = before.result, this.jobs[job.id].result
    if old is None or new is None or old.path == new.path:
        return
    this.history = archived(this.history, [before], read=job.iteration - 1)
    if old.content is not None and old.content == new.content:
        return
    for reader in downstream(list(this.planned.values()), {job.id}) - {job.id}:
        entry = this.jobs[reader]
        if entry.state in DONE_STATES or (entry.attempts > 0 and entry.state not in FINISHED_STATES):
            words = f"{job.id} ({job.meta_name}) was made again and differs"
            this.jobs[reader] = begun_again(entry, this.now, Reason.INPUT_REMADE, words, new_budgets=False)


def fail(this: Round, job: PlannedJob, failure: Failed, *, may_try_again: bool) -> None:
    """Another attempt where a budget is left, else the end of the job."""
    current = this.jobs[job.id]
    if failure.error == "Input" and failure.lost is not None and may_try_again:
        _remake(this, job, failure)
        return
    failure = _with_time_before(failure, job, current)
    failures = counted(current.failures or Failures(), failure.error)
    this.update(job.id, failures=failures, helper_job=None)
    if job.config.results_lost == "Fail" and failure.reason == Reason.RESULTS_LOST:
        give_up(this, job, failure.reason, failure.message)
    elif may_try_again and may_retry(failures, failure.error, job.budgets):
        seconds = delay(this.snapshot.uid, job.id, current.attempts, failures, failure.error, job.budgets)
        at = stamp(this.now + timedelta(seconds=seconds))
        words = f"attempt {current.attempts} failed ({failure.reason}): {failure.message}"
        this.update(
            job.id,
            state="Pending",
            reason=Reason.BACKOFF,
            message=f"next attempt at {at}; {words}"[:MESSAGE_LENGTH],
            waiting_since=None,
            retry_at=at,
            cache_key=None,
            active_seconds=None,
        )
        this.events.append(Event("Warning", failure.reason, f"{job.id} ({job.meta_name}): {words}"))
        this.requeue.append(seconds)
        this.urgent = True
    else:
        give_up(this, job, failure.reason, failure.message)


def _with_time_before(failure: Failed, job: PlannedJob, current: JobStatus) -> Failed:
    """A failure for want of time: the pod knows only what was left to it when the job had been suspended."""
    before = current.active_seconds
    if failure.error != "Timeout" or not before:
        return failure
    in_all = before + active_seconds_left(job, current)
    words = f"it had {in_all} s in all: the {before} s that it ran before it was suspended count"
    return replace(failure, message=f"{failure.message}; {words}")


def _remake(this: Round, job: PlannedJob, failure: Failed) -> None:
    """A result that this job reads is missing or was changed: its producer runs once more, then this job does."""
    producer = this.jobs.get(failure.lost or "")
    if producer is None or producer.id not in job.producers or producer.remade:
        again = ", again after it was made anew" if producer is not None and producer.remade else ""
        failures = this.jobs[job.id].failures or Failures()
        this.update(job.id, failures=counted(failures, failure.error))
        give_up(this, job, Reason.INPUT_LOST, f"{failure.message}{again}")
        return
    words = f"{job.id} ({job.meta_name}) found its result missing or changed: {failure.message}"
    if producer.state in DONE_STATES:  # else another reader has said so already
        this.jobs[producer.id] = begun_again(
            producer, this.now, Reason.INPUT_REMADE, words[:MESSAGE_LENGTH], new_budgets=False
        ).model_copy(update={"remade": 1})
        this.events.append(
            Event("Warning", Reason.INPUT_LOST, f"{producer.id} ({producer.meta_name}) runs again: {words}")
        )
    this.update(
        job.id,
        state="Pending",
        reason=Reason.INPUT_REMADE,
        message=f"waits until {producer.id} ({producer.meta_name}) is made again: {failure.message}"[:MESSAGE_LENGTH],
        retry_at=stamp(this.now),
        waiting_since=None,
        helper_job=None,
        cache_key=None,
        shards=None,
    )
    this.again = this.urgent = True


def give_up(this: Round, job: PlannedJob, reason: Reason, words: str) -> None:
    """The job has failed for good."""
    _end(this, job, "Failed", reason, words)


def skip(this: Round, job: PlannedJob, reason: Reason, words: str) -> None:
    """The job will not run (to its end)."""
    _end(this, job, "Skipped", reason, words)


def interrupt(this: Round, job: PlannedJob, reason: Reason, words: str) -> None:
    """End a job's attempt without counting it as a failure; a later one goes on with the time that is left."""
    current = this.jobs[job.id]
    counts = current.state == "Running" and not job.is_divided  # each piece has time of its own
    ran = since(current.start_time, this.now) if counts else 0.0
    this.update(
        job.id,
        state="Pending",
        reason=reason,
        message=words,
        retry_at=stamp(this.now) if current.attempts else None,
        waiting_since=None,
        helper_job=None,
        cache_key=None,
        active_seconds=(current.active_seconds or 0) + max(0, int(ran)) or None,
    )
    this.urgent = True


def _ended(this: Round, job: PlannedJob) -> None:
    """What waits for this job's end may stand before it: for its list, its turn in a forEach, or the volume."""
    this.urgent = True
    this.again |= bool(job.needs or job.shares) or this.access_mode not in (None, "ReadWriteMany")


def _end(this: Round, job: PlannedJob, state: str, reason: Reason, words: str) -> None:
    this.update(
        job.id,
        state=state,
        reason=reason,
        message=words[:MESSAGE_LENGTH],
        waiting_since=None,
        retry_at=None,
        helper_job=None,
        cache_key=None,
        completion_time=stamp(this.now),
    )
    _ended(this, job)
