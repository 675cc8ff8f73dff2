# SPDX-License-Identifier: Apache-2.0
"""What has become of one attempt, read from its Job and its pod; of several pods: `nodes.py` and `shards.py`.

Order of truth: a valid result in a terminated container, then the Job's own condition (which comes a second later),
then the pod. A result counts only when it names this job, this attempt, this contract and the pod it was found in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sandbox_api.peak import is_peak_text
from sandbox_api.result import MESSAGE_PREFIX, PEER_LOST, ErrorClass, Message, decode_message, plain_text
from sandbox_api.status import Reason

from .clock import since
from .facts import JobFact, PodFact, WarningFact
from .waiting import Waiting, why_waiting


@dataclass(frozen=True)
class Running:
    since: str | None
    is_over: bool = False
    """Its container has ended; its result is still awaited."""
    late: float | None = None
    """Seconds since its pod, which was told to end, should have been gone; negative before."""
    ends_if_lost: float | None = None
    """Seconds until its node, which does not end it, counts as lost."""
    node: str | None = None
    """Which one that is."""


@dataclass(frozen=True)
class Succeeded:
    result: Message


@dataclass(frozen=True)
class Failed:
    error: ErrorClass
    reason: Reason
    message: str
    lost: str | None = None
    """The job whose result it could not read."""


@dataclass(frozen=True)
class Missing:
    """The Job that the status names does not exist."""


State = Waiting | Running | Succeeded | Failed | Missing

REASON_OF: dict[ErrorClass, Reason] = {
    "User": Reason.USER_ERROR,
    "Config": Reason.CONFIG_ERROR,
    "Input": Reason.INPUT_LOST,
    "Infra": Reason.INFRA_ERROR,
    "Preempted": Reason.PREEMPTED,
    "OutOfMemory": Reason.OUT_OF_MEMORY,
    "Timeout": Reason.TIMEOUT,
}
ENDED_FROM_OUTSIDE = 143
_CLASS_OF_EXIT: dict[int, ErrorClass] = {2: "Config", 3: "Input", 4: "Infra"}
_NODE_GONE = ("DeletionByTaintManager", "DeletionByPodGC")
"""Reasons of DisruptionTarget that mean a lost node, not somebody's wish."""
OVERDUE = "the hook ran longer than its time limit"
_CONTAINER_LOST = ("Unknown", "ContainerStatusUnknown")
"""What containerd and the kubelet call an end that nobody saw (a reboot, say); its exit code is made up."""


def look_at(
    job_id: str,
    attempt: int,
    job: JobFact | None,
    pods: tuple[PodFact, ...],
    warnings: tuple[WarningFact, ...],
    *,
    now: datetime,
    result_timeout: int,
    node_lost: int | None = None,
    memory_limit: int | str | None = None,
) -> State:
    """The state of an attempt. `pods` and `warnings` are those of its Job.

    `result_timeout` and `node_lost` are in seconds; without the latter a pod on a silent node is never given up.
    """
    results = [(pod, result) for pod in pods if (result := _result_in(pod, job_id, attempt)) is not None]
    for _, result in results:
        if result.outcome == "Succeeded":
            return Succeeded(result)
    if job is not None and job.failed == "DeadlineExceeded":  # what its pod says is only how the deadline ended it
        return _failed_job(job)
    for pod, result in results:
        return _told(result, pod)
    for pod in pods:
        if pod.is_over:
            return _untold(pod, now, result_timeout, memory_limit)
    live = pods[0] if pods else None
    if live is not None and is_lost(live, now, node_lost):
        return Looking(job_id, attempt, now, result_timeout).lost(live)
    if live is not None and live.hook.running_since is not None:
        if live.deleting_since is None:
            return Running(live.hook.running_since)
        late = since(live.deleting_since, now)
        left = None if node_lost is None else node_lost - late
        return Running(live.hook.running_since, late=late, ends_if_lost=left, node=live.node)
    if job is None:
        return why_waiting(None, live, warnings) if live is not None else Missing()
    if live is None and job.failed is not None:
        return _failed_job(job)
    if live is None and job.complete:
        return Failed("Infra", Reason.RESULTS_LOST, "the pod ended and went before its result was seen")
    return why_waiting(job, live, warnings)


@dataclass(frozen=True)
class Looking:
    """Who looks at the pods of an attempt, as `look_at` is told it."""

    job_id: str
    attempt: int
    now: datetime
    result_timeout: int
    node_lost: int | None = None
    memory_limit: int | str | None = None

    def end_of(self, pod: PodFact) -> State:
        """How one of several pods ended, `pod.is_over`: Succeeded or Failed; Running while its word is awaited."""
        if pod.reason == "DeadlineExceeded":  # the pod's own deadline: what its hook says is only how it was ended
            return _failed(Reason.TIMEOUT, OVERDUE)
        result = _result_in(pod, self.job_id, self.attempt)
        if result is None:
            return _untold(pod, self.now, self.result_timeout, self.memory_limit)
        return Succeeded(result) if result.outcome == "Succeeded" else _told(result, pod)

    def was_left_alone(self, pod: PodFact) -> bool:
        """Whether a pod says that it failed because another one of its job had gone."""
        result = _result_in(pod, self.job_id, self.attempt)
        return result is not None and result.error is not None and result.error.type == PEER_LOST

    def is_lost(self, pod: PodFact) -> bool:
        return is_lost(pod, self.now, self.node_lost)

    def lost(self, pod: PodFact) -> Failed:
        return _failed(
            Reason.INFRA_ERROR, f"the node {pod.node} is silent, and its pod has not ended since {pod.deleting_since}"
        )

    def running(self, begun: str | None, pods: Iterable[PodFact]) -> Running:
        """A hook that began to run at that time, in these pods that have not ended; of one that was told to end, for
        how long it has not."""
        going = [(since(pod.deleting_since, self.now), pod) for pod in pods if pod.deleting_since is not None]
        if not going:
            return Running(begun)
        late, pod = max(going, key=lambda each: each[0])
        left = None if self.node_lost is None else self.node_lost - late
        return Running(begun, late=late, ends_if_lost=left, node=pod.node)


def end_without_pod(job: JobFact | None) -> Failed:
    """How a pod ended that has gone, or never was, by the word of its Job."""
    if job is None:
        return _failed(Reason.PREEMPTED, "its Job was deleted by others")
    return _failed_job(job)


def _failed(reason: Reason, words: str) -> Failed:
    return Failed(next(class_ for class_, of in REASON_OF.items() if of == reason), reason, words)


def results_in(pods: tuple[PodFact, ...], job_id: str, attempt: int) -> list[Message]:
    """What each of several pods of one Job tells of the job's result."""
    return [result for pod in pods if (result := _result_in(pod, job_id, attempt)) is not None]


def is_lost(pod: PodFact, now: datetime, node_lost: int | None) -> bool:
    """Whether a pod that was told to end has not been heard of for too long: its node is silent."""
    return node_lost is not None and pod.deleting_since is not None and since(pod.deleting_since, now) >= node_lost


def _result_in(pod: PodFact, job_id: str, attempt: int) -> Message | None:
    if pod.hook.exit_code is None:
        return None
    message = decode_message(pod.hook.termination_message)
    if message is None:
        return None
    named = (message.job, message.attempt, message.pod_uid, message.contract)
    if named != (job_id, attempt, pod.uid, pod.contract):
        return None
    # A success counts only with exit code 0: a wrapper killed after writing is a failure to look at, not to trust.
    if (message.outcome == "Succeeded") != (pod.hook.exit_code == 0):
        return None
    return message


def _told(result: Message, pod: PodFact) -> Failed:
    """A failure in the hook's own words."""
    error = result.error
    if error is None:
        return Failed("User", Reason.USER_ERROR, "the hook failed without a reason")
    class_: ErrorClass = error.class_
    if class_ == "Preempted":
        class_ = _who_ended(pod)
        why = _why_ended(pod)
        if why is not None:
            return Failed(class_, REASON_OF[class_], why)
    if class_ in ("User", "Infra") and pod.hook.exit_reason == "OOMKilled":
        class_ = "OutOfMemory"
    # The runtime's own exceptions are named like the reason, which is said already.
    said = error.type in ("", error.class_, f"{error.class_}Error", REASON_OF[class_]) or error.type in error.message
    words = error.message if said else f"{error.type}: {error.message}"
    return Failed(class_, REASON_OF[class_], words, error.job)


def _who_ended(pod: PodFact) -> ErrorClass:
    """The class of an end from outside: the node's own troubles are Infra, what others decided is Preempted."""
    if pod.reason == "Evicted":  # only the kubelet says so: memory, disk or process numbers of the node
        return "Infra"
    if pod.disruption is not None:
        return "Infra" if pod.disruption.startswith(_NODE_GONE) else "Preempted"
    return "Preempted" if pod.deleting else "Infra"


def _why_ended(pod: PodFact) -> str | None:
    """Who ended a pod from outside and why, where Kubernetes says it."""
    if pod.reason == "Evicted":
        return f"the node evicted the pod: {pod.message}"
    return None if pod.disruption is None else f"the pod was ended by others: {pod.disruption}"


def _untold(pod: PodFact, now: datetime, result_timeout: int, memory_limit: int | str | None) -> State:
    """A pod that ended without a word of ours."""
    container = pod.hook
    is_packed = container.termination_message.startswith(MESSAGE_PREFIX)  # a message, but none that counts
    words = (not is_packed and plain_text(container.termination_message, 600)) or pod.message
    if container.exit_code == 0 or pod.phase == "Succeeded":
        if container.finished_at is not None and since(container.finished_at, now) < result_timeout:
            return Running(container.running_since, is_over=True)
        return Failed("Infra", Reason.RESULTS_LOST, f"the hook ended without a result. {words}".strip())
    if container.exit_reason == "OOMKilled":
        limit = f" of {memory_limit}" if memory_limit is not None else ", its node's"
        peak = words if is_peak_text(container.termination_message) else "its peak is unknown"
        said = f"the hook was killed because it needed more memory than its limit{limit} ({peak})"
        return Failed("OutOfMemory", Reason.OUT_OF_MEMORY, said)
    if (why := _why_ended(pod)) is not None:
        class_ = _who_ended(pod)
        return Failed(class_, REASON_OF[class_], why)
    if container.exit_reason in _CONTAINER_LOST:
        return Failed(
            "Infra", Reason.INFRA_ERROR, f"the node restarted, or lost sight of the container. {words}".strip()
        )
    if container.exit_code is None:
        return Failed(
            "Infra", Reason.INFRA_ERROR, f"the pod failed before the hook ran: {pod.reason} {pod.message}".strip()
        )
    if container.exit_code == ENDED_FROM_OUTSIDE:
        class_ = _who_ended(pod)
        return Failed(class_, REASON_OF[class_], f"the hook was ended from outside (exit code 143). {words}".strip())
    class_ = _CLASS_OF_EXIT.get(container.exit_code, "User")
    return Failed(class_, REASON_OF[class_], f"the hook ended with exit code {container.exit_code}. {words}".strip())


def _failed_job(job: JobFact) -> Failed:
    """The pod is gone; only the Job knows how it ended."""
    if job.failed == "DeadlineExceeded":
        return _failed(Reason.TIMEOUT, OVERDUE)
    if job.failed == "PodFailurePolicy":
        return _failed(Reason.PREEMPTED, f"the pod was ended by others: {job.failed_message}")
    return _failed(Reason.PREEMPTED, f"the pod was deleted before its result was seen: {job.failed_message}")
