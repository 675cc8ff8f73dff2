# SPDX-License-Identifier: Apache-2.0
"""A job in independent pieces (`shards`): each has a pod of its own, a further attempt runs only what is not done yet,
and when all are done a pod without GPU makes the job's result of theirs.

Which pieces are done stands in the status, from the moment that a pod or its Job says so. It is a claim: the merging
pod looks at the volume, and what it does not find there is done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sandbox_api.ranges import numbers_in, ranges_of
from sandbox_api.status import Failures, JobStatus, Reason, ShardCounts

from ..build.names import helper_name
from . import attempt as attempts
from .attempt import Failed, Looking
from .clock import stamp
from .facts import JobFact, PodFact
from .job import PlannedJob
from .retry import counted, may_retry
from .round import Round

_WORST: tuple[str, ...] = ("Config", "Input", "User", "OutOfMemory", "Timeout", "Infra", "Preempted")
"""Classes of failures, those first that another attempt helps least: the attempt's is the worst of its pieces'."""


@dataclass(frozen=True)
class Pieces:
    """How the pieces of an attempt stand."""

    done: frozenset[int]
    """Of the job, those of earlier attempts included."""
    failed: Mapping[int, Failed] = field(default_factory=dict)
    running: tuple[PodFact, ...] = ()
    waiting: tuple[PodFact, ...] = ()
    unseen: tuple[int, ...] = ()
    """Pieces whose pods may still come."""

    @property
    def are_over(self) -> bool:
        return not (self.running or self.waiting or self.unseen)

    @property
    def worst(self) -> tuple[int, Failed]:
        return min(self.failed.items(), key=lambda each: (_WORST.index(each[1].error), each[0]))


def done_pieces(entry: JobStatus) -> tuple[int, ...]:
    """The pieces that need not be run again."""
    return numbers_in(entry.shards.done or "") if entry.shards is not None else ()


def pieces_left(job: PlannedJob, entry: JobStatus) -> tuple[int, ...]:
    done = set(done_pieces(entry))
    return tuple(piece for piece in range(job.config.shards) if piece not in done)


def merge_name(entry: JobStatus) -> str:
    """Name of the Job that makes the result of the newest attempt's pieces and those before it."""
    return helper_name(str(entry.job_name), "merge")


def pieces_of(looking: Looking, entry: JobStatus, job: JobFact | None, pods: Sequence[PodFact]) -> Pieces:
    """How the pieces stand by the pods and the Job of the newest attempt."""
    by_number = {pod.number: pod for pod in pods}
    numbers = numbers_in(job.numbers) if job is not None else tuple(by_number)
    done, failed = set(done_pieces(entry)), dict[int, Failed]()
    running: list[PodFact] = []
    waiting: list[PodFact] = []
    unseen: list[int] = []
    counted_done = _of_indexes(job.done_indexes, numbers) if job is not None else set()
    counted_failed = _of_indexes(job.failed_indexes, numbers) if job is not None else set()
    is_over = job is None or job.complete or job.failed is not None
    for number in numbers:
        pod = by_number.get(number)
        if number in counted_done or (pod is not None and pod.has_ended_well):
            done.add(number)
        elif pod is not None and (pod.is_over or looking.is_lost(pod)):
            end = looking.end_of(pod) if pod.is_over else looking.lost(pod)
            failed[number] = end if isinstance(end, Failed) else attempts.end_without_pod(job)
        elif pod is not None:
            (waiting if pod.hook.running_since is None else running).append(pod)
        elif number in counted_failed or is_over:
            failed[number] = attempts.end_without_pod(job)
        else:
            unseen.append(number)
    left = {number: end for number, end in failed.items() if number not in done}
    return Pieces(frozenset(done), left, tuple(running), tuple(waiting), tuple(unseen))


def _of_indexes(indexes: str, numbers: Sequence[int]) -> set[int]:
    return {numbers[index] for index in numbers_in(indexes) if index < len(numbers)}


def keep_count(this: Round, job: PlannedJob, found: Pieces) -> None:
    """Write down what is done, and how many have failed."""
    total = job.config.shards
    done = ranges_of(piece for piece in found.done if piece < total) or None
    counts = ShardCounts(succeeded=len(found.done), failed=len(found.failed), total=total, done=done)
    if this.jobs[job.id].shards != counts:
        this.update(job.id, shards=counts)


def forget_done(this: Round, job: PlannedJob) -> None:
    """The volume does not have what the status says: each piece is run again, and returns at once what it finds."""
    this.update(job.id, shards=ShardCounts(total=job.config.shards))


def failure_of(this: Round, job: PlannedJob, found: Pieces, *, is_last_chance: bool) -> Failed | None:
    """Why the attempt has failed: when no piece is at work any more, or when nothing can make the job succeed; else
    nothing."""
    if not found.failed:
        return None
    piece, worst = found.worst
    failures = counted(this.jobs[job.id].failures or Failures(), worst.error)
    is_hopeless = is_last_chance or not may_retry(failures, worst.error, job.budgets)
    if not (found.are_over or is_hopeless):
        return None
    count = len(found.failed)
    many = f"{count} of {job.config.shards} pieces failed; " if count > 1 else ""
    return Failed(worst.error, worst.reason, f"{many}piece {piece}: {worst.message}", worst.lost)


def begin_merging(this: Round, job: PlannedJob) -> None:
    """All pieces are done: from now on the attempt is the pod that makes one result of them."""
    current = this.jobs[job.id]
    this.update(
        job.id,
        state="Running",
        start_time=current.start_time or stamp(this.now),
        helper_job=merge_name(current),
        waiting_since=stamp(this.now),
        reason=Reason.MERGING,
        message=f"all {job.config.shards} pieces are done; their results are merged",
    )
    this.urgent = True
