# SPDX-License-Identifier: Apache-2.0
"""What has become of an attempt whose pods work as one (`nodes`): all of them succeed, or all of it has failed.

The job's result is that of rank 0, and counts when every pod has ended well. What ended one pod ends the others: its
Job deletes them, and they say so. The class is that of the first failure, and never of one that only followed from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_api.ranges import numbers_in
from sandbox_api.status import Reason

from . import attempt as attempts
from .attempt import Failed, Looking, Missing, Running, State, Succeeded
from .facts import JobFact, PodFact, WarningFact
from .waiting import Waiting, why_waiting


def look_at_nodes(
    looking: Looking, nodes: int, job: JobFact | None, pods: tuple[PodFact, ...], warnings: tuple[WarningFact, ...]
) -> State:
    """The state of an attempt of `nodes` pods; `pods` and `warnings` are those of its Job."""
    if not pods:
        return _without_pods(job, warnings)
    over = [pod for pod in pods if pod.is_over]
    left = [pod for pod in pods if not pod.is_over and not looking.is_lost(pod)]
    ends = {pod.uid: looking.end_of(pod) for pod in over}
    begun = min((pod.hook.running_since for pod in pods if pod.hook.running_since), default=None)
    is_told = job is None or job.failed is not None or job.complete
    has_failed = (job is not None and job.failed is not None) or len(left) + len(over) < len(pods)
    has_failed = has_failed or any(isinstance(end, Failed) for end in ends.values())
    if has_failed and (left or not (is_told or len(pods) == nodes)):
        # Its Job ends the others; only then is it over. And of a pod that has gone only the Job knows why.
        if begun is None:
            return Waiting(Reason.STARTING, "one of its pods has failed, and the others are ended")
        return looking.running(begun, left)
    if has_failed:
        return _first_failure(looking, nodes, job, pods, ends)
    done = {pod.number for pod in over if pod.has_ended_well} | set(numbers_in(job.done_indexes if job else ""))
    if len(done) == nodes or (job is not None and job.complete):
        told = next((end for pod in over if pod.number == 0 and isinstance(end := ends[pod.uid], Succeeded)), None)
        waits = next((end for end in ends.values() if isinstance(end, Running)), None)
        lost = Failed("Infra", Reason.RESULTS_LOST, "all pods have ended, and the result of rank 0 was not seen")
        return told or waits or lost
    if job is None and not left:
        return attempts.end_without_pod(None)
    waiting = [pod for pod in left if pod.hook.running_since is None]
    if waiting or len(pods) < nodes:
        return _not_all(nodes, job, pods, waiting, warnings)
    return looking.running(begun, left)


def _without_pods(job: JobFact | None, warnings: tuple[WarningFact, ...]) -> State:
    if job is None:
        return Missing()
    if job.failed is not None:
        return attempts.end_without_pod(job)
    if job.complete:
        return Failed("Infra", Reason.RESULTS_LOST, "the pods ended and went before their result was seen")
    return why_waiting(job, None, warnings)


def _not_all(
    nodes: int,
    job: JobFact | None,
    pods: Sequence[PodFact],
    waiting: Sequence[PodFact],
    warnings: tuple[WarningFact, ...],
) -> Waiting:
    """All or nothing: while one waits, the attempt does, and the others wait for it."""
    why = [why_waiting(job, pod, warnings) for pod in sorted(waiting, key=lambda pod: pod.number)]
    why = why or [why_waiting(job, None, warnings)]
    told = next((one for one in why if one.needs_help), why[0])
    ready = len(pods) - len(waiting)
    return Waiting(told.reason, f"{ready} of {nodes} pods run, and wait for the others: {told.message}")


def _first_failure(
    looking: Looking,
    nodes: int,
    job: JobFact | None,
    pods: Sequence[PodFact],
    ends: dict[str, State],
) -> Failed:
    """The failure that the others followed from: of a pod ended from outside, then the first one that a pod tells of
    itself, then what those say that were told to end, then what those say that were left alone."""
    if job is not None and job.failed == "DeadlineExceeded":
        return attempts.end_without_pod(job)
    lost = [looking.lost(pod) for pod in pods if not pod.is_over]
    failed = [(pod, end) for pod in pods if isinstance(end := ends.get(pod.uid), Failed)]
    failed.sort(key=lambda each: (each[0].hook.finished_at or "", each[0].number))
    disrupted = [end for pod, end in failed if pod.disruption is not None or pod.reason == "Evicted"]
    if disrupted:
        return disrupted[0]
    if job is not None and job.failed == "PodFailurePolicy":  # the pod that was disrupted has gone
        return attempts.end_without_pod(job)
    own = [
        _of(pod, end)
        for pod, end in failed
        if pod.hook.exit_code != attempts.ENDED_FROM_OUTSIDE and not looking.was_left_alone(pod)
    ]
    if own or lost:
        return (own or lost)[0]
    told = [end for pod, end in failed if not looking.was_left_alone(pod)]
    some_went = len(pods) < nodes or any(pod.deleting for pod in pods)
    if (told or failed) and not some_went:  # nobody deleted one: the node ended their containers
        return (told or [end for _, end in failed])[0]
    return attempts.end_without_pod(job)


def _of(pod: PodFact, end: Failed) -> Failed:
    """A failure with the pod it is about."""
    return Failed(end.error, end.reason, f"{end.message} (pod {pod.number})", end.lost)
