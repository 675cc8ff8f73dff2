# SPDX-License-Identifier: Apache-2.0
"""What a written status says has happened since the one before: which attempts began and ended, which jobs are over.

Pure. Each status is written once, from the one that stands (its resourceVersion says so), so that counting what is
found here counts everything once, through restarts and changes of leader too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sandbox_api.experiment import Resources
from sandbox_api.hook import STAGES
from sandbox_api.status import DONE_STATES, FINISHED_STATES, ExperimentStatus, Failures, JobStatus

from ..build.quantity import amount
from ..plan.clock import moment, since
from ..plan.facts import PodFact, Snapshot
from ..plan.job import planned_id

AttemptOutcome = Literal["succeeded", "user", "infra", "preempted", "final", "other"]
"""How an attempt ended: with a result, with a failure by its budget, or else (waited too long, suspended, stopped)."""
OTHER_STAGE = "other"
"""In place of a stage's own name: users may call theirs anything, and figures have no labels without bound."""


@dataclass(frozen=True)
class Started:
    """The hook of an attempt has begun to run."""

    job: str
    stage: str
    attempt: int
    waited: float
    """Seconds from the decision to start the attempt to the start of its container."""


@dataclass(frozen=True)
class AttemptEnded:
    job: str
    stage: str
    attempt: int
    job_name: str
    """Its Kubernetes Job."""
    outcome: AttemptOutcome
    gpu_seconds: float
    """GPUs by the job's limits, times the seconds that its pods ran."""
    said: str
    """Reason and message, for the log."""


@dataclass(frozen=True)
class JobEnded:
    job: str
    stage: str
    state: str
    """One of FINISHED_STATES."""


@dataclass(frozen=True)
class Step:
    started: tuple[Started, ...] = ()
    attempts: tuple[AttemptEnded, ...] = ()
    jobs: tuple[JobEnded, ...] = ()
    finished: str | None = None
    """Outcome of the experiment, if it ended with this."""


def step_between(
    snapshot: Snapshot, new: ExperimentStatus, resources: Mapping[str, Resources | None], now: datetime
) -> Step:
    """What happened between `snapshot.status` and `new`, which is now written.

    resources: by the id of the planned job, where `[*]` stands for the items of a forEach.
    """
    known = {entry.id: entry for entry in snapshot.status.jobs}
    pairs = [(known.get(entry.id) or JobStatus(id=entry.id, hook="", meta_name=""), entry) for entry in new.jobs]
    changed = [(before, after) for before, after in pairs if before != after]
    pods: dict[str, list[PodFact]] = {}
    for pod in snapshot.pods if changed else ():
        pods.setdefault(pod.job_name, []).append(pod)
    return Step(
        started=tuple(_started(changed, pods)),
        attempts=tuple(_attempts_ended(changed, pods, resources, now)),
        jobs=tuple(
            JobEnded(after.id, stage_of(after.id), after.state)
            for before, after in changed
            if after.state in FINISHED_STATES and before.state not in FINISHED_STATES
        ),
        finished=new.outcome if new.completion_time and not snapshot.status.completion_time else None,
    )


def stage_of(job_id: str) -> str:
    """The stage in a job's id, or `other` for one of the user's own."""
    parts = job_id.split("/")
    return parts[2] if len(parts) > 2 and parts[2] in STAGES else OTHER_STAGE


Pairs = Iterable[tuple[JobStatus, JobStatus]]
Pods = Mapping[str, list[PodFact]]


def _started(changed: Pairs, pods: Pods) -> Iterator[Started]:
    for before, after in changed:
        has_run = after.state == "Running" or _ended(before, after)
        if before.state == "Running" or not has_run or before.waiting_since is None or not before.job_name:
            continue
        began = [pod.hook.running_since for pod in pods.get(before.job_name, ()) if pod.hook.running_since]
        if begin := min(began, default=after.start_time):
            waited = since(before.waiting_since, moment(begin))
            yield Started(after.id, stage_of(after.id), before.attempts, max(0.0, waited))


def _attempts_ended(
    changed: Pairs, pods: Pods, resources: Mapping[str, Resources | None], now: datetime
) -> Iterator[AttemptEnded]:
    for before, after in changed:
        if before.job_name and (outcome := _ended(before, after)) is not None:
            gpus = gpus_of(resources.get(planned_id(after.id)))
            yield AttemptEnded(
                job=after.id,
                stage=stage_of(after.id),
                attempt=before.attempts,
                job_name=before.job_name,
                outcome=outcome,
                gpu_seconds=gpus * _ran(before, after, pods.get(before.job_name, []), now) if gpus else 0.0,
                said=f"{after.reason or after.state}: {after.message}" if after.message else after.reason or "",
            )


def _ended(before: JobStatus, after: JobStatus) -> AttemptOutcome | None:
    """How the attempt that `before` tells of ended in `after`; None when it goes on, or there was none."""
    if before.state in FINISHED_STATES or before.retry_at is not None or not before.attempts:
        return None
    if after.state in DONE_STATES:
        return "succeeded" if after.state == "Succeeded" else None
    failed, failed_before = after.failures or Failures(), before.failures or Failures()
    if failed.preempted > failed_before.preempted:
        return "preempted"
    if failed.infra > failed_before.infra:
        return "infra"
    if failed.user > failed_before.user:
        return "user"
    if failed.final > failed_before.final:
        return "final"
    is_over = after.state in FINISHED_STATES or after.retry_at is not None or after.attempts > before.attempts
    return "other" if is_over or (before.state == "Running" and after.state != "Running") else None


def gpus_of(resources: Resources | None) -> int:
    """GPUs of one pod, by its limits."""
    limits = (resources.limits if resources is not None else None) or {}
    return sum(int(amount(value)) for name, value in limits.items() if name.endswith("/gpu"))


def _ran(before: JobStatus, after: JobStatus, pods: list[PodFact], now: datetime) -> float:
    """Seconds that an attempt's pods ran, added up; by the status where its pods are not there any more."""
    spans = [(pod.hook.running_since, pod.hook.finished_at) for pod in pods if pod.hook.running_since]
    spans = spans or [(before.start_time or after.start_time, after.completion_time)]
    return sum(max(0.0, since(begin, moment(end) if end else now)) for begin, end in spans)
