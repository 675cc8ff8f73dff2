# SPDX-License-Identifier: Apache-2.0
"""What runs again: by a new rerun token, or because a result that somebody needs has gone.

A job that runs again gets a new generation. Its old result stays in place until the new one is committed, which moves
it to the history: until then nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from sandbox_api.experiment import ExperimentSpec
from sandbox_api.status import DONE_STATES, FINISHED_STATES, JobStatus, Reason

from .clock import moment, stamp
from .doubt import GRACE
from .history import made_of
from .job import ANY_ITEM, PlannedJob
from .references import did_you_mean
from .waiting import SOON_OVER


def rerun_problems(spec: ExperimentSpec, jobs: Sequence[PlannedJob]) -> Iterator[str]:
    """A place to run again from that there is not."""
    start = spec.rerun.from_ if spec.rerun is not None else None
    if start is not None and not any(_is_named(job, start) for job in jobs):
        yield (
            f"spec.rerun.from: no job has the metaName {start!r}, and no id begins with it, so nothing runs again;"
            f" write a job's metaName or the beginning of its id, or leave it out{_did_you_mean(start, jobs)}"
        )


def item_problems(spec: ExperimentSpec, jobs: Sequence[PlannedJob]) -> Iterator[str]:
    """An item to run again from that its list has not; `jobs` are those of now, every list that is known spread out."""
    start = spec.rerun.from_ if spec.rerun is not None else None
    if start is not None and "[" in start and not any(_is_named(job, start) for job in jobs):
        yield (
            f"spec.rerun.from: no item's id begins with {start!r}, so nothing runs again; write the beginning of"
            f" another id or a job's metaName, or leave it out{_did_you_mean(start, jobs)}"
        )


def _did_you_mean(start: str, jobs: Sequence[PlannedJob]) -> str:
    return did_you_mean(start, dict.fromkeys(job.id if "/" in start else job.meta_name for job in jobs))


def to_run_again(spec: ExperimentSpec, jobs: Sequence[PlannedJob], entries: Mapping[str, JobStatus]) -> set[str]:
    """Ids of the jobs that a new rerun token makes run again.

    With `from`: those that it names and everything after them. Without: what failed, was skipped or was changed, with
    what reads it; where nothing of that is so, everything. What was changed runs again in either case.
    """
    wrong = {
        job.id
        for job in jobs
        if (entry := entries.get(job.id)) is None
        or entry.state not in DONE_STATES
        or entry.digest not in (None, job.digest)
    }
    again = downstream(jobs, wrong)
    start = spec.rerun.from_ if spec.rerun is not None else None
    if start is not None:
        return again | downstream(jobs, {job.id for job in jobs if _is_named(job, start)}, in_order=True)
    return again or {job.id for job in jobs}


def downstream(jobs: Sequence[PlannedJob], roots: Iterable[str], *, in_order: bool = False) -> set[str]:
    """These jobs and those that read their results, directly or not; `in_order`: and those that come after them."""
    found = set(roots)
    for job in jobs:  # in written order, so one pass is enough
        if job.producers & found or (in_order and found & set(job.after)):
            found.add(job.id)
    return found


def begun_again(entry: JobStatus, now: datetime, reason: Reason, message: str, *, new_budgets: bool) -> JobStatus:
    """A job's status at the start of a new generation; `new_budgets`: a person asked for it."""
    changes = {
        "state": "Pending",
        "generation": (entry.generation or 1) + 1,
        "retry_at": stamp(_not_before(entry, now)) if entry.attempts else None,
        "reason": reason,
        "message": message,
        "made": made_of(entry),
        "completion_time": None,
        "waiting_since": None,
        "helper_job": None,
        "active_seconds": None,
        "cache_key": None,
        "shards": None,
    }
    if new_budgets:
        changes |= {"failures": None}
    return entry.model_copy(update=changes)


def _not_before(entry: JobStatus, now: datetime) -> datetime:
    """At once; but an attempt that was ended by decision may have a Job that was deleted before it got its pod, and
    only a moment ago: nobody keeps how many tries that took."""
    if entry.retry_at is not None:
        return max(now, min(moment(entry.retry_at), now + GRACE))
    by_decision = entry.state == "Skipped" or entry.reason == Reason.PENDING_TIMEOUT
    return now + GRACE if by_decision else now


def is_live(entry: JobStatus) -> bool:
    """Whether an attempt of it (or a pod that looks at the cache for it) is under way."""
    if entry.state in FINISHED_STATES or entry.retry_at is not None:
        return False
    return entry.job_name is not None or entry.helper_job is not None


def makes_a_result(entry: JobStatus) -> bool:
    """Whether an equal job should wait for this one: it runs, or nothing is known that keeps its pod from starting."""
    at_work = entry.job_name is not None and is_live(entry)
    return at_work and (entry.state == "Running" or entry.reason in (None, Reason.PENDING, *SOON_OVER))


def _is_named(job: PlannedJob, name: str) -> bool:
    """Whether this is its metaName, or where its id begins. The iteration is always the one at work; without an item
    all of a forEach are meant."""
    if job.meta_name == name:
        return True
    parts, wanted = job.id.split("/"), name.split("/")
    del parts[1], wanted[1:2]
    return len(wanted) <= len(parts) and all(map(_is_part, parts, wanted))


def _is_part(part: str, wanted: str) -> bool:
    if part.endswith(ANY_ITEM):  # no item is known yet
        return part.removesuffix(ANY_ITEM) == wanted.partition("[")[0]
    return wanted in (part, part.partition("[")[0])
