# SPDX-License-Identifier: Apache-2.0
"""Brings one unfinished job as far as the facts allow: start an attempt, wait, commit a result, try again, give up."""

from __future__ import annotations

from datetime import timedelta

from sandbox_api.result import Message, plain_text
from sandbox_api.status import Failures, JobStatus, Reason, ResultRef

from ..build.job import contract_config_map, hook_job
from ..build.names import ANNOTATION_CONTRACT, job_name
from . import attempt as attempts
from . import metrics
from .actions import CreateJob, DeleteJob, Event
from .address import addressed
from .clock import since, stamp
from .compile import PlannedJob
from .contracts import job_request
from .retry import counted, delay, may_retry
from .round import Round
from .waiting import Waiting

_MESSAGE_LENGTH = 1024
SETTLE = 2
"""Seconds that a pod may take to start before the status says what it waits for: most are running by then."""
PATIENCE = 10
"""Seconds that a pod may wait before an Event says why; the status says it after SETTLE."""


def advance(this: Round, job: PlannedJob) -> None:
    """One step of one job; what changes is written into `this`."""
    current = this.jobs[job.id]
    if current.job_name is None or current.retry_at is not None:
        if not this.may_start:
            this.held = True
        elif _is_time(this, job, current):
            _name_attempt(this, job, current)
            _create(this, job)
        return
    children = this.children(current.job_name)
    state = attempts.look_at(
        job.id,
        current.attempts,
        *children,
        now=this.now,
        result_timeout=job.limits.result,
        node_lost=_node_lost(this, job),
        memory_limit=(job.resources.limits or {}).get("memory") if job.resources else None,
    )
    if isinstance(state, attempts.Missing) and current.state == "Running":
        state = attempts.Failed("Preempted", Reason.PREEMPTED, f"its Job {current.job_name} was deleted by others")
    match state:
        case attempts.Missing():  # named in the status but not made: refused, or the operator stopped between the two
            _create_again(this, job, current)
        case Waiting() if current.state == "Running":
            pass  # its pod has gone, and its Job will say how
        case Waiting():
            _wait(this, job, current, state)
        case attempts.Running():
            _run(this, job, current, state)
        case attempts.Succeeded():
            _commit(this, job, state.result)
        case attempts.Failed():
            _fail(this, job, current, state)


def skip(this: Round, job: PlannedJob, failed: JobStatus) -> None:
    """A job after a failed one never runs."""
    this.update(
        job.id,
        state="Skipped",
        reason=Reason.EARLIER_JOB_FAILED,
        message=f"{failed.id} ({failed.meta_name}) failed",
        completion_time=stamp(this.now),
    )


def _is_time(this: Round, job: PlannedJob, current: JobStatus) -> bool:
    """Whether the next attempt may start: its time has come and no pod of an earlier one is left."""
    if current.retry_at is not None and (left := -since(current.retry_at, this.now)) > 0:
        this.requeue.append(left)
        return False
    lost = _node_lost(this, job)
    old = next(
        (
            pod
            for pod in this.snapshot.pods
            if pod.job_name == current.job_name and not pod.is_over and not attempts.is_lost(pod, this.now, lost)
        ),
        None,
    )
    if old is None:
        return True
    words = f"waits until the pod {old.name} of the last attempt is gone"
    this.update(job.id, reason=Reason.POD_LEFT, message=words)
    return False


def _node_lost(this: Round, job: PlannedJob) -> int | None:
    return job.limits.node_lost if this.node_may_be_lost else None


def _name_attempt(this: Round, job: PlannedJob, current: JobStatus) -> None:
    """Write down the next attempt before its Job is made: a crash between the two makes nothing twice."""
    attempt = current.attempts + 1
    this.update(
        job.id,
        state="Pending",
        attempts=attempt,
        job_name=job_name(this.snapshot.name, this.snapshot.uid, job.id, attempt),
        waiting_since=stamp(this.now),
        start_time=None,
        retry_at=None,
        reason=Reason.CREATING,
        message=None,
    )
    this.urgent = True


def _create(this: Round, job: PlannedJob) -> None:
    request = job_request(
        this.snapshot,
        this.spec,
        job,
        this.jobs[job.id].attempts,
        image=this.images[job.hook.image],
        claim=this.claim,
        committed=this.jobs,
    )
    manifest = hook_job(request, this.defaults)
    contract = manifest["metadata"]["annotations"][ANNOTATION_CONTRACT]
    this.actions.append(CreateJob(manifest, contract, contract_config_map(request.contract)))


def _create_again(this: Round, job: PlannedJob, current: JobStatus) -> None:
    refusal = this.snapshot.refusals.get(str(current.job_name))
    if refusal is not None and refusal.final:
        _give_up(this, job, refusal.reason, refusal.message)
        return
    if not this.may_start:
        this.held = True
        this.update(job.id, waiting_since=None)
        return
    if current.waiting_since is None:
        this.update(job.id, waiting_since=stamp(this.now))
    if refusal is not None:
        _wait(this, job, current, Waiting(refusal.reason, refusal.message))
    if this.jobs[job.id].state == "Pending":
        _create(this, job)


def _wait(this: Round, job: PlannedJob, current: JobStatus, waiting: Waiting) -> None:
    words = addressed(waiting, job, this.spec)
    waited = since(current.waiting_since, this.now)
    if waited > job.limits.pending:
        words = f"waited {int(waited)} s for its pod to start, longer than timeouts.pending; {words}"
        this.actions.append(DeleteJob(str(current.job_name)))
        _give_up(this, job, Reason.PENDING_TIMEOUT, words)
        return
    this.requeue.append(job.limits.pending - waited + 1)
    if waited < SETTLE:
        this.requeue.append(SETTLE - waited)
        return
    if waiting.needs_help and waited < PATIENCE:  # a claim that binds in a second is no event
        this.requeue.append(PATIENCE - waited)
    elif waiting.needs_help:
        this.events.append(Event("Warning", waiting.reason, f"{job.id} ({job.meta_name}) waits: {words}"))
    this.update(job.id, state="Pending", reason=waiting.reason, message=words[:_MESSAGE_LENGTH])


def _run(this: Round, job: PlannedJob, current: JobStatus, running: attempts.Running) -> None:
    if running.is_over:
        this.requeue.append(job.limits.result)
    elif running.ends_if_lost is not None:
        this.requeue.append(running.ends_if_lost)
    this.update(
        job.id,
        state="Running",
        start_time=running.since or current.start_time or stamp(this.now),
        waiting_since=None,
        reason=Reason.RUNNING,
        message="its container has ended; its result is awaited" if running.is_over else None,
    )


def _commit(this: Round, job: PlannedJob, result: Message) -> None:
    """The result goes into the status before anything else is done; from then on its Job does not matter."""
    this.update(
        job.id,
        state="Succeeded",
        start_time=result.started_at,
        completion_time=result.finished_at,
        waiting_since=None,
        reason=Reason.RECOVERED if result.recovered else Reason.COMPLETED,
        message=plain_text(result.message, _MESSAGE_LENGTH) or None,
        outputs=dict(result.outputs),
        metrics=metrics.kept(result.metrics, this.jobs),
        result=ResultRef(
            path=result.path, sha256=result.sha256, bytes=result.bytes, cache_key=result.cache_key or None
        ),
    )
    this.urgent = True


def _fail(this: Round, job: PlannedJob, current: JobStatus, failure: attempts.Failed) -> None:
    failures = counted(current.failures or Failures(), failure.error)
    this.update(job.id, failures=failures)
    if job.config.results_lost == "Fail" and failure.reason == Reason.RESULTS_LOST:
        _give_up(this, job, failure.reason, failure.message)
    elif may_retry(failures, failure.error, job.budgets):
        seconds = delay(this.snapshot.uid, job.id, current.attempts, failures, job.budgets)
        at = stamp(this.now + timedelta(seconds=seconds))
        words = f"attempt {current.attempts} failed ({failure.reason}): {failure.message}"
        this.update(
            job.id,
            state="Pending",
            reason=Reason.BACKOFF,
            message=f"next attempt at {at}; {words}"[:_MESSAGE_LENGTH],
            waiting_since=None,
            retry_at=at,
        )
        this.events.append(Event("Warning", failure.reason, f"{job.id} ({job.meta_name}): {words}"))
        this.requeue.append(seconds)
        this.urgent = True
    else:
        _give_up(this, job, failure.reason, failure.message)


def _give_up(this: Round, job: PlannedJob, reason: Reason, words: str) -> None:
    this.update(
        job.id,
        state="Failed",
        reason=reason,
        message=words[:_MESSAGE_LENGTH],
        waiting_since=None,
        completion_time=stamp(this.now),
    )
    this.urgent = True
