# SPDX-License-Identifier: Apache-2.0
"""What has become of one attempt, read from its Job and its pods.

Order of truth: a valid result in a terminated container, then the Job's own condition (which comes a second later),
then the pod. A result counts only when it names this job, this attempt, this contract and the pod it was found in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sandbox_api.result import ErrorClass, Message, decode_message, plain_text
from sandbox_api.status import Reason

from .clock import since
from .facts import JobFact, PodFact, WarningFact
from .waiting import Waiting, why_waiting


@dataclass(frozen=True)
class Running:
    since: str | None


@dataclass(frozen=True)
class Succeeded:
    result: Message


@dataclass(frozen=True)
class Failed:
    error: ErrorClass
    reason: Reason
    message: str
    result: Message | None = None


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
_CLASS_OF_EXIT: dict[int, ErrorClass] = {2: "Config", 3: "Input", 4: "Infra"}


def look_at(
    job_id: str,
    attempt: int,
    job: JobFact | None,
    pods: tuple[PodFact, ...],
    warnings: tuple[WarningFact, ...],
    *,
    now: datetime,
    result_timeout: int,
) -> State:
    """The state of an attempt. `pods` and `warnings` are those of its Job; `result_timeout` is in seconds."""
    for pod in pods:
        result = _result_in(pod, job_id, attempt)
        if result is not None:
            return Succeeded(result) if result.outcome == "Succeeded" else _told(result, pod)
    for pod in pods:
        if pod.is_over:
            return _untold(pod, now, result_timeout)
    live = pods[0] if pods else None
    if live is not None and live.hook.running_since is not None:
        return Running(live.hook.running_since)
    if job is None:
        return why_waiting(None, live, warnings) if live is not None else Missing()
    if live is None and job.failed is not None:
        return _failed_job(job)
    if live is None and job.complete:
        return Failed("Infra", Reason.RESULTS_LOST, "the pod ended and went before its result was seen")
    return why_waiting(job, live, warnings)


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
        return Failed("User", Reason.USER_ERROR, "the hook failed without a reason", result)
    class_: ErrorClass = error.class_
    if class_ == "Preempted" and pod.disruption is None and not pod.deleting:
        class_ = "Infra"
    if class_ in ("User", "Infra") and pod.hook.exit_reason == "OOMKilled":
        class_ = "OutOfMemory"
    words = f"{error.type}: {error.message}" if error.type and error.type not in error.message else error.message
    return Failed(class_, REASON_OF[class_], words, result)


def _untold(pod: PodFact, now: datetime, result_timeout: int) -> State:
    """A pod that ended without a word of ours."""
    container = pod.hook
    words = plain_text(container.termination_message, 600) or pod.message
    if container.exit_code == 0:
        if since(container.finished_at, now) < result_timeout:
            return Running(None)  # the Job may yet be told more; nothing is decided before the time is over
        return Failed("Infra", Reason.RESULTS_LOST, f"the hook ended without a result. {words}".strip())
    if container.exit_reason == "OOMKilled":
        return Failed(
            "OutOfMemory", Reason.OUT_OF_MEMORY, "the hook was killed because it needed more memory than its limit"
        )
    if pod.disruption is not None:
        return Failed("Preempted", Reason.PREEMPTED, f"the pod was ended by others: {pod.disruption}")
    if container.exit_code is None:
        return Failed(
            "Infra", Reason.INFRA_ERROR, f"the pod failed before the hook ran: {pod.reason} {pod.message}".strip()
        )
    if container.exit_code == 143:
        class_: ErrorClass = "Preempted" if pod.deleting else "Infra"
        return Failed(class_, REASON_OF[class_], f"the hook was ended from outside (exit code 143). {words}".strip())
    if pod.reason == "Evicted":
        return Failed("Infra", Reason.INFRA_ERROR, f"the node evicted the pod: {pod.message}")
    class_ = _CLASS_OF_EXIT.get(container.exit_code, "User")
    return Failed(class_, REASON_OF[class_], f"the hook ended with exit code {container.exit_code}. {words}".strip())


def _failed_job(job: JobFact) -> Failed:
    """The pod is gone; only the Job knows how it ended."""
    if job.failed == "DeadlineExceeded":
        return Failed("Timeout", Reason.TIMEOUT, "the hook ran longer than its time limit")
    if job.failed == "PodFailurePolicy":
        return Failed("Preempted", Reason.PREEMPTED, f"the pod was ended by others: {job.failed_message}")
    return Failed(
        "Preempted", Reason.PREEMPTED, f"the pod was deleted before its result was seen: {job.failed_message}"
    )
