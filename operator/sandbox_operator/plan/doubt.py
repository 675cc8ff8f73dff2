# SPDX-License-Identifier: Apache-2.0
"""What may not be decided by a cache alone: a watch may be late, or the others ahead of it, and the decision costs an
attempt or would let two of them live.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta

from sandbox_api.status import ExperimentStatus, JobStatus

from .clock import moment, stamp
from .facts import JobFact, Snapshot

OPEN = ("Pending", "Running")
GRACE = timedelta(seconds=2)
"""Time in which the Job controller, which may be behind, still makes the pod of a Job that was deleted. Times in a
status are whole seconds."""


def to_ask_for_pods(status: ExperimentStatus, jobs: Mapping[str, JobFact], with_pods: Collection[str]) -> Iterator[str]:
    """Names of Jobs whose pods have to be asked for.

    A Job that is over without a known pod would be a lost result. An attempt that is over by our own decision may
    have a pod that nobody has heard of, and the next one starts only when no pod of the last is left.
    """
    for entry in status.jobs:
        if entry.state not in OPEN:
            continue
        for name in (entry.job_name, entry.helper_job):
            if name is None or name in with_pods:
                continue
            job = jobs.get(name)
            if entry.retry_at is not None or (job is not None and (job.complete or job.failed)):
                yield name


def to_ask_for(status: ExperimentStatus, jobs: Mapping[str, JobFact], with_pods: Collection[str]) -> Iterator[str]:
    """Names of Jobs that have to be asked for: a running hook without Job and pod would be a preemption, and an attempt
    that is over by our own decision may have a Job that nobody has heard of, which would get a pod yet."""
    for entry in status.jobs:
        name = entry.job_name
        if name is None or name in with_pods or name in jobs or entry.state not in OPEN:
            continue
        if entry.state == "Running" or entry.retry_at is not None:
            yield name


def before_their_pods(snapshot: Snapshot) -> set[str]:
    """Names of Jobs that may get a pod yet, and have none that is known of."""
    with_pods = {pod.job_name for pod in snapshot.pods}
    return {job.name for job in snapshot.jobs if not (job.complete or job.failed or job.name in with_pods)}


def busy(snapshot: Snapshot) -> set[str]:
    """Names of Jobs that have a pod which may still work, or may get one yet."""
    return before_their_pods(snapshot) | {pod.job_name for pod in snapshot.pods if not pod.is_over}


def after_grace(entry: JobStatus, now: datetime) -> JobStatus:
    """A job whose last attempt's Job is deleted before it had a pod: the next attempt waits, for it may get one yet."""
    if entry.retry_at is None:
        return entry
    return entry.model_copy(update={"retry_at": stamp(max(moment(entry.retry_at), now + GRACE))})
