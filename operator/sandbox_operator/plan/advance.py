# SPDX-License-Identifier: Apache-2.0
"""Brings one unfinished job as far as the facts allow: start an attempt, wait, commit a result, try again, give up."""

from __future__ import annotations

from sandbox_api.result import Message, join_pieces
from sandbox_api.status import JobStatus, Reason

from ..build.names import helper_name
from ..build.parts import GRACE_SECONDS
from . import attempt as attempts
from . import shards
from .actions import DeleteJob, Event
from .address import addressed
from .clock import since, stamp
from .contracts import active_seconds_left
from .facts import CacheEntry
from .job import PlannedJob
from .nodes import look_at_nodes
from .rerun import is_live
from .round import Round
from .settle import MESSAGE_LENGTH, commit, commit_cached, fail, give_up
from .start import begin, candidate, create, create_check, create_merge, create_reader, start
from .waiting import Waiting, why_waiting

SETTLE = 2
"""Seconds that a pod may take to start before the status says what it waits for: most are running by then."""
PATIENCE = 10
"""Seconds that a pod may wait before an Event says why; the status says it after SETTLE."""
OVERRUN = GRACE_SECONDS + 30
"""Seconds after `timeouts.active` in which a pod ends its hook by itself; then it is ended from here."""


def advance(this: Round, job: PlannedJob, *, is_last_chance: bool = False) -> None:
    """One step of one job; what changes is written into `this`.

    `is_last_chance`: the experiment is ending, so that a failed attempt is not followed by another.
    """
    current = this.jobs[job.id]
    if not is_live(current):
        start(this, job)
        return
    if current.job_name is None or current.attempts == 0:
        _check(this, job, current)
        return
    if job.is_divided and current.helper_job is not None:
        _merge(this, job, current, is_last_chance)
        return
    if job.is_divided:
        _advance_pieces(this, job, current, is_last_chance)
        return
    state = _look(this, job, current, current.job_name)
    if isinstance(state, attempts.Missing) and current.state == "Running" and current.helper_job is None:
        state = attempts.Failed("Preempted", Reason.PREEMPTED, f"its Job {current.job_name} was deleted by others")
    lost = isinstance(state, attempts.Failed) and state.reason == Reason.RESULTS_LOST
    if current.helper_job is not None and not isinstance(state, attempts.Succeeded):
        _read(this, job, current, is_last_chance)
        return
    match state:
        case attempts.Missing():  # named in the status but not made: refused, or the operator stopped between the two
            _create_again(this, job, current)
        case Waiting() if current.state == "Running":
            pass  # its pod has gone, and its Job will say how
        case Waiting():
            _wait(this, job, current, state)
        case attempts.Running() if (overrun := _overrun(this, job, current, state)) is not None:
            fail(this, job, overrun, may_try_again=not is_last_chance)
        case attempts.Running():
            _run(this, job, current, state)
        case attempts.Succeeded():
            _take(this, job, state.result, is_last_chance)
        case attempts.Failed() if lost:
            _begin_reading(this, job, current, state)
        case attempts.Failed():
            fail(this, job, state, may_try_again=not is_last_chance)


def _look(this: Round, job: PlannedJob, current: JobStatus, name: str) -> attempts.State:
    looking = _looking(this, job, current)
    if job.config.nodes > 1 and name == current.job_name:
        return look_at_nodes(looking, job.config.nodes, *this.children(name))
    return attempts.look_at(
        job.id,
        looking.attempt,
        *this.children(name),
        now=this.now,
        result_timeout=looking.result_timeout,
        node_lost=looking.node_lost,
        memory_limit=looking.memory_limit,
    )


def _looking(this: Round, job: PlannedJob, current: JobStatus) -> attempts.Looking:
    return attempts.Looking(
        job.id,
        max(1, current.attempts),
        this.now,
        job.limits.result,
        job.limits.node_lost if this.node_may_be_lost else None,
        (job.resources.limits or {}).get("memory") if job.resources else None,
    )


def _advance_pieces(this: Round, job: PlannedJob, current: JobStatus, is_last_chance: bool) -> None:
    """What has become of the pods of an attempt in pieces."""
    fact, pods, warnings = this.children(str(current.job_name))
    looking = _looking(this, job, current)
    if fact is None and not pods and current.state != "Running":
        _create_again(this, job, current)
        return
    found = shards.pieces_of(looking, current, fact, pods)
    shards.keep_count(this, job, found)
    if len(found.done) == job.config.shards:
        shards.begin_merging(this, job)
        create_merge(this, job)
    elif (failure := shards.failure_of(this, job, found, is_last_chance=is_last_chance)) is not None:
        fail(this, job, failure, may_try_again=not is_last_chance)
    elif found.are_over:  # there was no Job when nobody looked
        fail(this, job, attempts.end_without_pod(fact), may_try_again=not is_last_chance)
    elif found.running or current.state == "Running" or any(pod.hook.running_since for pod in pods):
        _run_pieces(this, job, current, found)
        if (left := looking.running(None, (*found.running, *found.waiting)).ends_if_lost) is not None:
            this.requeue.append(left)
    else:
        waiting = why_waiting(fact, next(iter(found.waiting), None), warnings)
        told = f"{len(found.waiting) + len(found.unseen)} pieces wait: {waiting.message}"
        _wait(this, job, current, Waiting(waiting.reason, told))


def _run_pieces(this: Round, job: PlannedJob, current: JobStatus, found: shards.Pieces) -> None:
    """Some have begun; the others may wait for their places, but not for longer than `timeouts.pending` alone."""
    since_when = None if found.running else current.waiting_since or stamp(this.now)
    if since_when is not None and (waited := since(since_when, this.now)) > job.limits.pending:
        words = f"waited {int(waited)} s for the pods of {len(found.waiting)} pieces, longer than timeouts.pending"
        give_up(this, job, Reason.PENDING_TIMEOUT, words)
        return
    if since_when is not None:
        this.requeue.append(job.limits.pending - since(since_when, this.now) + 1)
    counts = {
        "running": len(found.running), "waiting": len(found.waiting) + len(found.unseen), "failed": len(found.failed),
    }  # fmt: skip
    parts = [f"{number} {word}" for word, number in counts.items() if number]
    began = min((pod.hook.running_since for pod in found.running if pod.hook.running_since), default=None)
    this.update(
        job.id,
        state="Running",
        start_time=current.start_time or began or stamp(this.now),
        waiting_since=since_when,
        reason=Reason.RUNNING,
        message=f"{len(found.done)} of {job.config.shards} pieces done, {', '.join(parts)}",
    )


def _merge(this: Round, job: PlannedJob, current: JobStatus, is_last_chance: bool) -> None:
    """What has become of the pod that makes one result of all pieces."""
    state = _look(this, job, current, name := shards.merge_name(current))
    refusal = this.snapshot.refusals.get(name)
    failure: attempts.Failed | None = None
    if isinstance(state, attempts.Succeeded):
        _take(this, job, state.result, is_last_chance)
    elif isinstance(state, attempts.Failed) and state.lost == job.id:
        shards.forget_done(this, job)
        failure = attempts.Failed("Infra", Reason.RESULTS_LOST, state.message)
    elif isinstance(state, attempts.Failed) and state.reason == Reason.RESULTS_LOST:  # merged again, it is found
        failure = attempts.Failed("Infra", Reason.INFRA_ERROR, f"the merged result was lost: {state.message}")
    elif isinstance(state, attempts.Failed):
        failure = state
    elif current.helper_job != name:
        failure = attempts.Failed("Infra", Reason.INFRA_ERROR, "its pod went before its long result was read")
    elif isinstance(state, attempts.Running):
        this.update(job.id, waiting_since=None)
    elif _has_waited(this, job, current) or _is_refused(this, name):
        why = refusal.message if refusal is not None else "the pod that merges them does not start"
        failure = attempts.Failed("Infra", Reason.INFRA_ERROR, f"the pieces are done and could not be merged: {why}")
    elif isinstance(state, attempts.Missing):
        create_merge(this, job)
    if failure is not None:
        fail(this, job, failure, may_try_again=not is_last_chance)


def _begin_reading(this: Round, job: PlannedJob, current: JobStatus, state: attempts.Failed) -> None:
    """The pod's word was lost, but the volume may still have it."""
    this.update(
        job.id,
        state="Running",
        helper_job=helper_name(str(current.job_name), "read"),
        waiting_since=stamp(this.now),
        reason=Reason.READING_RESULT,
        message=f"{state.message}; the volume is asked",
    )
    this.urgent = True
    create_reader(this, job)


def _read(this: Round, job: PlannedJob, current: JobStatus, is_last_chance: bool) -> None:
    """What has become of the pod that reads the result of the last attempt."""
    name = str(current.helper_job)
    match _look(this, job, current, name):
        case attempts.Succeeded(result):
            _take(this, job, result, is_last_chance)
        case attempts.Failed(message=words):
            _lost(this, job, f"its pod gave no result, and none was found on the volume: {words}", is_last_chance)
        case other:
            refusal = this.snapshot.refusals.get(name)
            if _has_waited(this, job, current) or _is_refused(this, name):
                why = refusal.message if refusal is not None else "the pod that looks for it does not start"
                _lost(this, job, f"its pod gave no result, and the volume could not be asked: {why}", is_last_chance)
            elif isinstance(other, attempts.Missing) and name == helper_name(str(current.job_name), "read"):
                create_reader(this, job)
            elif isinstance(other, attempts.Missing):  # pieces of a result that nobody tells of any more
                lost = attempts.Failed("Infra", Reason.RESULTS_LOST, "its pod went before its long result was read")
                _begin_reading(this, job, current, lost)


def _take(this: Round, job: PlannedJob, result: Message, is_last_chance: bool) -> None:
    """Commit a result, or gather what is needed of it and too long for one message."""
    if not result.pieces:
        commit(this, job, result)
        return
    current = this.jobs[job.id]
    name = helper_name(str(current.job_name), "pieces")
    fact, pods, _ = this.children(name)
    if current.helper_job != name:
        words = f"its result is long, and is read in {result.pieces} pieces"
        this.update(
            job.id,
            state="Running",
            helper_job=name,
            waiting_since=stamp(this.now),
            reason=Reason.READING_RESULT,
            message=words,
        )
        this.urgent = True
        create_reader(this, job, result)
    elif (joined := join_pieces(attempts.results_in(pods, job.id, current.attempts))) is not None:
        outputs, figures = joined
        whole = {"outputs": {**result.outputs, **outputs}, "metrics": {**figures, **result.metrics}}
        commit(this, job, result.model_copy(update=whole))
    elif (fact is not None and fact.failed is not None) or _has_waited(this, job, current) or _is_refused(this, name):
        refusal = this.snapshot.refusals.get(name)
        why = f": {refusal.message}" if refusal is not None else ""
        _lost(this, job, f"its result is long, and could not be read in pieces{why}", is_last_chance)
    elif fact is None and not pods:
        create_reader(this, job, result)


def _lost(this: Round, job: PlannedJob, words: str, is_last_chance: bool) -> None:
    fail(this, job, attempts.Failed("Infra", Reason.RESULTS_LOST, words), may_try_again=not is_last_chance)


def _check(this: Round, job: PlannedJob, current: JobStatus) -> None:
    """What has become of the pod that looks whether a cached result can be used."""
    name, found = str(current.helper_job), candidate(this, job)
    state = _look(this, job, current, name)
    refusal = this.snapshot.refusals.get(name)
    if isinstance(state, attempts.Succeeded) and found is not None and _is_about(state.result, found):
        commit_cached(this, job, found)
    elif (
        isinstance(state, attempts.Succeeded | attempts.Failed)
        or found is None
        or refusal is not None
        or _has_waited(this, job, current)
    ):  # no hit, or nobody can tell: then it runs
        if this.may_start:
            begin(this, job)
            return
        this.held = True
        fact, _, _ = this.children(name)
        if fact is not None and not (fact.complete or fact.failed or fact.deleting):
            this.actions.append(DeleteJob(name))  # its pod may wait for ever, e.g. for a claim that is gone
    elif isinstance(state, attempts.Missing):
        create_check(this, job, found)


def _is_refused(this: Round, name: str) -> bool:
    """Whether the API server will never have a Job of this name."""
    refusal = this.snapshot.refusals.get(name)
    return refusal is not None and refusal.final


def _is_about(checked: Message, found: CacheEntry) -> bool:
    """Whether it is this result that was compared: another equal job may have ended since, and stand there now."""
    result = found.job.result
    return result is not None and (checked.path, checked.sha256) == (result.path, result.sha256)


def _has_waited(this: Round, job: PlannedJob, current: JobStatus) -> bool:
    """Whether a pod that only looks at the volume has had its time."""
    left = job.limits.pending - since(current.waiting_since, this.now)
    if left > 0:
        this.requeue.append(left + 1)
    return left <= 0


def _create_again(this: Round, job: PlannedJob, current: JobStatus) -> None:
    refusal = this.snapshot.refusals.get(str(current.job_name))
    if refusal is not None and refusal.final:
        give_up(this, job, refusal.reason, refusal.message)
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
        create(this, job)


def _wait(this: Round, job: PlannedJob, current: JobStatus, waiting: Waiting) -> None:
    words = addressed(waiting, job, this.spec)
    if current.waiting_since is None:  # it was suspended before its Job was seen
        this.update(job.id, waiting_since=stamp(this.now))
    waited = since(current.waiting_since, this.now)
    if waited > job.limits.pending:
        words = f"waited {int(waited)} s for its pod to start, longer than timeouts.pending; {words}"
        give_up(this, job, Reason.PENDING_TIMEOUT, words)
        return
    this.requeue.append(job.limits.pending - waited + 1)
    if waited < SETTLE:
        this.requeue.append(SETTLE - waited)
        return
    if waiting.needs_help and waited < PATIENCE:  # a claim that binds in a second is no event
        this.requeue.append(PATIENCE - waited)
    elif waiting.needs_help:
        this.events.append(Event("Warning", waiting.reason, f"{job.id} ({job.meta_name}) waits: {words}"))
    this.update(job.id, state="Pending", reason=waiting.reason, message=words[:MESSAGE_LENGTH])


def _overrun(this: Round, job: PlannedJob, current: JobStatus, running: attempts.Running) -> attempts.Failed | None:
    """The failure of a hook that goes on long after its time: it hears no signal, or is a program that never looks."""
    if running.is_over or running.since is None:
        return None
    left = active_seconds_left(job, current) + OVERRUN - since(running.since, this.now)
    if left > 0:
        this.requeue.append(left)
        return None
    words = f"the hook ran {OVERRUN} s longer than its time (timeouts.active: {job.limits.active} s) and did not end"
    return attempts.Failed("Timeout", Reason.TIMEOUT, words)


def _run(this: Round, job: PlannedJob, current: JobStatus, running: attempts.Running) -> None:
    if running.is_over:
        this.requeue.append(job.limits.result)
    elif running.ends_if_lost is not None:
        this.requeue.append(running.ends_if_lost)
    if running.late is not None and running.late <= 0:
        this.requeue.append(1 - running.late)
    this.update(
        job.id,
        state="Running",
        start_time=running.since or current.start_time or stamp(this.now),
        waiting_since=None,
        reason=Reason.RUNNING,
        message=_told(running),
    )


def _told(running: attempts.Running) -> str | None:
    """What is odd about a pod that runs."""
    if running.is_over:
        return "its container has ended; its result is awaited"
    if running.late is None or running.late <= 0:
        return None
    words = f"its pod was told to end and has not; the node {running.node} does not answer"
    if running.ends_if_lost is not None:
        return f"{words}; after timeouts.nodeLost the attempt is given up"
    return f"{words}; nothing else may use its ReadWriteOnce volume until it does, or the pod is deleted by force"
