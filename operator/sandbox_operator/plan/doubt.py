# SPDX-License-Identifier: Apache-2.0
"""What may not be decided by a cache alone: a watch may be late, or the others ahead of it, and the decision costs an
attempt or would let two of them live.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta

from sandbox_api.ranges import numbers_in
from sandbox_api.status import ExperimentStatus, JobStatus, Reason

from .clock import moment, stamp
from .facts import JobFact, Snapshot

OPEN = ("Pending", "Running")
GRACE = timedelta(seconds=5)
"""Time in which a Job is deleted, once that is decided, and the Job controller, which may be behind, still makes its
pod."""


def with_all_pods(snapshot: Snapshot) -> set[str]:
    """Names of Jobs of which every pod is known that they ever had: none is replaced."""
    known = Counter(pod.job_name for pod in snapshot.pods)
    several = {pod.job_name: len(numbers_in(pod.numbers)) for pod in snapshot.pods if pod.numbers}
    return {name for name, count in known.items() if count >= several.get(name, 1)}


def to_ask_for_pods(status: ExperimentStatus, jobs: Mapping[str, JobFact], with_pods: Collection[str]) -> Iterator[str]:
    """Names of Jobs whose pods have to be asked for: one that is over without a known pod would be a lost result.

    Here and below `with_pods` are the Jobs of which all pods are known.
    """
    for entry in status.jobs:
        if entry.state not in OPEN or entry.retry_at is not None:
            continue
        for name in (entry.job_name, entry.helper_job):
            job = jobs.get(name or "")
            if job is not None and job.name not in with_pods and (job.complete or job.failed):
                yield job.name


def to_ask_for(status: ExperimentStatus, jobs: Mapping[str, JobFact], with_pods: Collection[str]) -> Iterator[str]:
    """Names of Jobs that have to be asked for: a running hook without Job and pod would be a preemption."""
    for entry in status.jobs:
        name = entry.helper_job if entry.reason == Reason.MERGING else entry.job_name
        known = name is None or name in with_pods or name in jobs
        if entry.state == "Running" and entry.retry_at is None and name is not None and not known:
            yield name


def to_rule_out(
    before: ExperimentStatus, after: ExperimentStatus, made: Collection[str], with_pods: Collection[str]
) -> Iterator[str]:
    """Names of Jobs that must have gone, pods and all, before `after` is written and Jobs are `made`.

    Those of the last attempts of jobs that begin again: an attempt that is over by our own decision may have left
    something nobody has heard of. And those that are made though they were named before: they may have been there, and
    been deleted by others while their pods still end.
    """
    attempts = {entry.id: entry.attempts for entry in after.jobs}
    for entry in before.jobs:
        if entry.job_name is None or entry.job_name in with_pods:
            continue
        again = entry.retry_at is not None and attempts.get(entry.id, 0) > entry.attempts
        if again or entry.job_name in made:
            yield entry.job_name


def to_ask_before_giving_up(before: ExperimentStatus, after: ExperimentStatus) -> Iterator[str]:
    """Names of Jobs whose pods have to be asked for before it is written that they waited too long: a hook that runs
    would be ended.
    """
    was_open = {entry.id for entry in before.jobs if entry.state in OPEN}
    for entry in after.jobs:
        if entry.id in was_open and entry.reason == Reason.PENDING_TIMEOUT and entry.job_name is not None:
            yield entry.job_name


def before_their_pods(snapshot: Snapshot) -> set[str]:
    """Names of Jobs that may get a pod yet that is not known of."""
    with_pods = with_all_pods(snapshot)
    return {job.name for job in snapshot.jobs if not (job.complete or job.failed or job.name in with_pods)}


def busy(snapshot: Snapshot) -> set[str]:
    """Names of Jobs that have a pod which may still work, or may get one yet."""
    return before_their_pods(snapshot) | {pod.job_name for pod in snapshot.pods if not pod.is_over}


def after_grace(entry: JobStatus, now: datetime) -> JobStatus:
    """A job whose last attempt's Job is deleted before it had a pod: the next attempt waits, for it may get one yet."""
    if entry.retry_at is None:
        return entry
    return entry.model_copy(update={"retry_at": stamp(max(moment(entry.retry_at), now + GRACE))})
