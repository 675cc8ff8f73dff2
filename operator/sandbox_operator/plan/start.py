# SPDX-License-Identifier: Apache-2.0
"""When the next attempt of a job may start, and its start: name it in the status, then make its Job.

Before the first attempt stands the step cache: an equal job that is done makes this one `Cached`, one that runs is
waited for.
"""

from __future__ import annotations

from sandbox_api.contract import Candidate, figure_names
from sandbox_api.ranges import ranges_of
from sandbox_api.result import Message
from sandbox_api.status import DONE_STATES, FINISHED_STATES, JobStatus, Reason

from ..build.job import JobRequest, contract_config_map, hook_job, rendezvous_service
from ..build.names import helper_name, job_name
from . import attempt as attempts
from . import shards
from .actions import CreateJob
from .cache import is_cacheable
from .clock import since, stamp
from .contracts import helper_request, job_request, key_of
from .doubt import before_their_pods
from .facts import CacheEntry
from .history import iteration_of
from .job import PlannedJob
from .placement import Placement, place
from .rerun import is_live
from .round import Round
from .settle import commit_cached, give_up

FIRST_LOOK = 10.0
"""Seconds after which a new Job is looked at, should nothing be heard of it: its waiting is told, and has an end."""
POLL = 10.0
"""Seconds after which a job that waits for something outside its experiment looks again."""


def start(this: Round, job: PlannedJob) -> None:
    """Begin the next attempt if it may; else say what it waits for."""
    current = this.jobs[job.id]
    if not this.may_start:
        this.held = True
        return
    if not _is_time(this, job, current) or not _has_share(this, job):
        return
    where = place(job, this.access_mode, this.at_work(job.id), is_shared=this.snapshot.claim_is_shared)
    if where.never is not None:
        give_up(this, job, Reason.CONFIG_ERROR, f"{job.where}: {where.never}")
        return
    if where.wait is not None:
        this.update(job.id, reason=Reason.WAITING_FOR_NODE, message=f"waits for the volume: {where.wait}")
        return
    if is_cacheable(this.spec, job, current) and _is_settled_by_cache(this, job, where):
        return
    begin(this, job, where)


def begin(this: Round, job: PlannedJob, where: Placement | None = None) -> None:
    """Name the next attempt and make its Job; where all pieces are done already, the one that merges them."""
    name_attempt(this, job)
    if job.is_divided and not shards.pieces_left(job, this.jobs[job.id]):
        shards.begin_merging(this, job)
        create_merge(this, job, where)
    else:
        create(this, job, where)


def _is_time(this: Round, job: PlannedJob, current: JobStatus) -> bool:
    """Whether the next attempt may start: its time has come and no pod of an earlier one is left."""
    if current.retry_at is not None and (left := -since(current.retry_at, this.now)) > 0:
        this.requeue.append(left)
        return False
    if current.retry_at is not None and this.is_decided_now(job.id):  # its Job goes first, its pods are asked for then
        this.requeue.append(0.0)
        return False
    if current.retry_at is not None and current.job_name in before_their_pods(this.snapshot):
        words = f"waits until the Job {current.job_name} of the last attempt, which has no pod yet, is gone"
        this.update(job.id, reason=Reason.POD_LEFT, message=words)
        return False
    lost = job.limits.node_lost if this.node_may_be_lost else None
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
    if lost is not None and old.deleting_since is not None:
        this.requeue.append(max(1.0, lost - since(old.deleting_since, this.now)))
    words = f"waits until the pod {old.name} of the last attempt is gone"
    this.update(job.id, reason=Reason.POD_LEFT, message=words)
    return False


def _has_share(this: Round, job: PlannedJob) -> bool:
    """Whether `maxParallel` of every forEach around the job leaves room for its item."""
    if not job.shares:
        return True
    if this.active is None:
        this.active = _items_at_work(this)
    for share in job.shares:
        at_work = this.active.setdefault(share.group, set())
        if share.member not in at_work and len(at_work) >= share.limit:
            return False
    for share in job.shares:
        this.active[share.group].add(share.member)
    return True


def _items_at_work(this: Round) -> dict[str, set[int]]:
    begun: dict[str, set[int]] = {}
    left: dict[str, set[int]] = {}
    for job in this.planned.values():
        entry = this.jobs[job.id]
        for share in job.shares:
            if entry.state in FINISHED_STATES or is_live(entry) or entry.job_name in this.busy:
                begun.setdefault(share.group, set()).add(share.member)
            if entry.state not in FINISHED_STATES:
                left.setdefault(share.group, set()).add(share.member)
    return {group: members & left.get(group, set()) for group, members in begun.items()}


def _is_settled_by_cache(this: Round, job: PlannedJob, where: Placement) -> bool:
    """Whether the cache has the result, or may have it soon."""
    claim = this.snapshot.claims.get(this.claim)
    if claim is None:  # results in its name lay on one that is gone
        return False
    key = key_of(this.asked, job)
    if (runner := this.snapshot.running_keys.get(key)) is not None:
        this.requeue.append(POLL)
        this.update(job.id, reason=Reason.EQUAL_JOB_RUNS, message=f"an equal job runs in the experiment {runner}")
        return True
    found = this.snapshot.cached.get(key)
    if found is None or not _has_needs(found.job, job.needs):
        return False
    done = found.job.completion_time
    is_older = claim.created is not None and done is not None and done < claim.created
    if found.job.result is not None and found.job.result.externals == 0 and not is_older:
        commit_cached(this, job, found)
        return True
    this.update(
        job.id,
        helper_job=helper_name(_name(this, job, 1), "check"),
        cache_key=key,
        waiting_since=stamp(this.now),
        reason=Reason.CHECKING_CACHE,
        message=f"an equal job is done in the experiment {found.experiment}; its files are compared",
    )
    this.urgent = True
    create_check(this, job, found, where)
    return True


def _has_needs(done: JobStatus, needs: tuple[str, ...]) -> bool:
    """Whether a status has what the controller must know of the result: it may have been cut where nobody needed it."""
    outputs, metrics = done.outputs or {}, done.metrics or {}
    return all(need in outputs or any(n in metrics for n in figure_names(done.meta_name, need)) for need in needs)


def candidate(this: Round, job: PlannedJob) -> CacheEntry | None:
    """The cached result that a job's check is about."""
    return this.snapshot.cached.get(this.jobs[job.id].cache_key or "")


def name_attempt(this: Round, job: PlannedJob) -> None:
    """Write down the next attempt before its Job is made: a crash between the two makes nothing twice."""
    current = this.jobs[job.id]
    attempt = current.attempts + 1
    key = key_of(this.asked, job) if is_cacheable(this.spec, job, current) else None
    this.update(
        job.id,
        state="Pending",
        attempts=attempt,
        job_name=_name(this, job, attempt),
        helper_job=None,
        digest=job.digest,
        cache_key=key,
        waiting_since=stamp(this.now),
        start_time=None,
        retry_at=None,
        reason=Reason.CREATING,
        message=None,
    )
    this.urgent = True


def _name(this: Round, job: PlannedJob, attempt: int) -> str:
    return job_name(this.snapshot.name, this.snapshot.uid, job.id, attempt, indexed=job.has_several_pods)


def create(this: Round, job: PlannedJob, where: Placement | None = None) -> None:
    """Make the Job of the attempt that the status names."""
    where = where or _placed_now(this, job)
    pieces = ranges_of(shards.pieces_left(job, this.jobs[job.id])) if job.is_divided else ""
    _create(this, job_request(this.asked, job, this.jobs[job.id].attempts, pinned=where.pinned, pieces=pieces))


def create_merge(this: Round, job: PlannedJob, where: Placement | None = None) -> None:
    """Make the Job that makes one result of all pieces."""
    where = where or _placed_now(this, job)
    _create(this, helper_request(this.asked, job, this.jobs[job.id].attempts, "merge", pinned=where.pinned))


def create_reader(this: Round, job: PlannedJob, long: Message | None = None) -> None:
    """Make the Job that reads an attempt's result; of a `long` one each of several pods gives a piece."""
    pinned, attempt = _placed_now(this, job).pinned, this.jobs[job.id].attempts
    if long is None:
        request = helper_request(this.asked, job, attempt, "read", pinned=pinned)
    else:
        told = Candidate(result_path=long.path, sha256=long.sha256)
        request = helper_request(this.asked, job, attempt, "read", pinned=pinned, candidate=told, pieces=long.pieces)
    _create(this, request)


def create_check(this: Round, job: PlannedJob, found: CacheEntry, where: Placement | None = None) -> None:
    """Make the Job that looks whether a cached result's files are as they were."""
    result = found.job.result
    assert result is not None
    where = where or _placed_now(this, job)
    told = Candidate(result_path=result.path, sha256=result.sha256)
    _create(this, helper_request(this.asked, job, 1, "check", pinned=where.pinned, candidate=told))


def _placed_now(this: Round, job: PlannedJob) -> Placement:
    return place(job, this.access_mode, this.at_work(job.id), is_shared=this.snapshot.claim_is_shared)


def _create(this: Round, request: JobRequest) -> None:
    this.begun.add(request.contract.job.id)
    this.requeue.append(FIRST_LOOK)
    manifest, service = hook_job(request, this.defaults), rendezvous_service(request)
    this.actions.append(CreateJob(manifest, request.digest, contract_config_map(request), service))


def may_run(this: Round, job: PlannedJob) -> bool:
    """Whether everything that a job comes after has ended, and every result that it reads is there."""
    return all(this.is_finished(other) for other in job.after) and all(
        producer in this.earlier or this.jobs[producer].state in DONE_STATES for producer in job.producers
    )


def missing_input(this: Round, job: PlannedJob) -> str | None:
    """A job whose result this one reads, or is spread out by, and that will never have one."""
    for producer in sorted(job.producers | job.list_makers):
        entry = this.jobs.get(producer)
        if entry is None and producer not in this.earlier and iteration_of(producer) < job.iteration:
            return producer
        if entry is not None and entry.state in ("Failed", "Skipped"):
            return f"{entry.id} ({entry.meta_name})"
    return None
