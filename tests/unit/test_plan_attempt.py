# SPDX-License-Identifier: Apache-2.0
"""What has become of an attempt: the order of truth, the classes of failures, and whose word counts."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.builders import NOW, a_message, ended, failure, later, running, success, written

from sandbox_api.result import ResultError, encode_message
from sandbox_api.status import Reason
from sandbox_operator.plan.attempt import Failed, Missing, Running, Succeeded, look_at
from sandbox_operator.plan.facts import JobFact, PodFact
from sandbox_operator.plan.waiting import Waiting

ID = "anonymous/1/probe/0"
JOB = JobFact("demo-0123456789-a2", "ju", "eu", ID, 2, "c" * 64)
POD = PodFact("demo-0123456789-a2-abcde", "pu-12345", JOB.name, JOB.contract, "Pending", node="node-1")
KILLED_BY_KUBELET = "TerminationByKubelet: the node was low on memory"
PREEMPTED = "PreemptionByScheduler: for a pod of higher priority"
DRAINED = "EvictionByEvictionAPI: eviction"
TAINTED = "DeletionByTaintManager: deleting due to NoExecute taint"


def look(job: JobFact | None, *pods: PodFact, after: float = 0, **more: Any) -> object:
    return look_at(ID, 2, job, pods, (), now=later(after), result_timeout=120, **more)


def failed(*pods: PodFact, job: JobFact | None = JOB, after: float = 0, **more: Any) -> Failed:
    state = look(job, *pods, after=after, **more)
    assert isinstance(state, Failed)
    return state


def dead(code: int, *, exit_reason: str = "", message: str = "", **pod: Any) -> PodFact:
    return replace(POD, **(ended(code, reason=exit_reason, message=message) | pod))


# The order of truth


def test_a_valid_result_is_enough_before_the_job_says_anything() -> None:
    state = look(JOB, success(JOB, POD))

    assert isinstance(state, Succeeded)
    assert state.result.outcome == "Succeeded"


@pytest.mark.parametrize(
    "job",
    [
        None,
        replace(JOB, deleting=True),
        replace(JOB, failed="DeadlineExceeded"),
        replace(JOB, failed="PodFailurePolicy"),
    ],
)
def test_a_success_counts_whatever_became_of_its_job(job: JobFact | None) -> None:
    assert isinstance(look(job, success(JOB, POD)), Succeeded)


def test_a_success_counts_even_if_the_pod_was_told_to_go() -> None:
    assert isinstance(look(JOB, replace(success(JOB, POD), deleting=True, disruption=DRAINED)), Succeeded)


def test_a_deadline_is_a_timeout_whatever_the_pod_it_ended_says() -> None:
    ended_by_it = failure(JOB, replace(POD, deleting=True), "Preempted", 143)

    state = failed(ended_by_it, job=replace(JOB, failed="DeadlineExceeded"))
    assert (state.error, state.reason) == ("Timeout", Reason.TIMEOUT)


def test_the_job_is_asked_when_its_pod_has_gone() -> None:
    assert failed(job=replace(JOB, failed="PodFailurePolicy", failed_message="DisruptionTarget")).error == "Preempted"
    gone = failed(job=replace(JOB, failed="BackoffLimitExceeded", failed_message="limit reached"))
    assert (gone.error, gone.message) == ("Preempted", "the pod was deleted before its result was seen: limit reached")
    assert failed(job=replace(JOB, failed="DeadlineExceeded")).error == "Timeout"
    assert failed(job=replace(JOB, complete=True)).reason == Reason.RESULTS_LOST


def test_an_attempt_without_job_and_pod_is_missing() -> None:
    assert look(None) == Missing()


def test_a_job_without_a_pod_and_a_pod_without_a_job_wait() -> None:
    assert isinstance(look(JOB), Waiting)
    assert isinstance(look(None, POD), Waiting)


def test_a_running_hook_runs_since_its_container_started() -> None:
    assert look(JOB, replace(POD, **running())) == Running(written(NOW))


# Whose word counts


@pytest.mark.parametrize(
    "foreign",
    [
        {"job": "anonymous/1/probe/1"},
        {"attempt": 1},
        {"pod_uid": "another pod"},
        {"contract": "d" * 64},
        {"version": 99},
    ],
)
def test_a_result_that_names_something_else_is_no_result(foreign: dict[str, Any]) -> None:
    pod = success(JOB, POD, **foreign)

    assert look(JOB, pod, after=119) == Running(written(NOW), is_over=True)
    assert failed(pod, after=120).reason == Reason.RESULTS_LOST


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("sandbox1:", ""),
        ("sandbox1:????", ""),
        ("sandbox1:eJwDAAAAAAE=", ""),
        ("some last words", " some last words"),
    ],
)
def test_somebody_elses_words_are_no_result(text: str, shown: str) -> None:
    state = failed(dead(1, message=text))

    assert (state.error, state.message) == ("User", f"the hook ended with exit code 1.{shown}")


def test_a_success_with_a_failing_exit_code_is_a_failure() -> None:
    told = encode_message(a_message(JOB, POD))

    assert failed(dead(4, message=told)).error == "Infra"


def test_a_failure_with_exit_code_zero_is_awaited_and_then_lost() -> None:
    error = ResultError(class_="User", type="ValueError", message="it broke")
    pod = dead(0, message=encode_message(a_message(JOB, POD, error=error)))

    assert look(JOB, pod) == Running(written(NOW), is_over=True)
    assert failed(pod, after=121).reason == Reason.RESULTS_LOST


def test_another_container_says_nothing() -> None:
    """Only the hook's container is a fact; a pod that is over without it failed before the hook ran."""
    state = failed(replace(POD, phase="Failed", reason="UnexpectedAdmissionError", message="no device"))

    assert state.error == "Infra"
    assert "failed before the hook ran: UnexpectedAdmissionError no device" in state.message


# Classes


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        ("User", 1, Reason.USER_ERROR),
        ("Config", 2, Reason.CONFIG_ERROR),
        ("Input", 3, Reason.INPUT_LOST),
        ("Infra", 4, Reason.INFRA_ERROR),
        ("OutOfMemory", 1, Reason.OUT_OF_MEMORY),
        ("Timeout", 1, Reason.TIMEOUT),
    ],
)
def test_the_hooks_own_words_and_class_are_told(error: str, code: int, reason: Reason) -> None:
    state = failed(failure(JOB, POD, error, code, "column 'text' is missing"))

    assert (state.error, state.reason) == (error, reason)
    assert state.message == "ValueError: column 'text' is missing"


@pytest.mark.parametrize(
    ("code", "pod", "class_"),
    [
        (1, {}, "User"),
        (2, {}, "Config"),
        (3, {}, "Input"),
        (4, {}, "Infra"),
        (139, {}, "User"),
        (137, {}, "User"),
        (143, {}, "Infra"),
        (143, {"deleting": True}, "Preempted"),
        (143, {"disruption": PREEMPTED}, "Preempted"),
        (143, {"disruption": DRAINED, "deleting": True}, "Preempted"),
        (1, {"disruption": PREEMPTED}, "Preempted"),
        (137, {"disruption": TAINTED, "deleting": True}, "Infra"),
        (143, {"disruption": KILLED_BY_KUBELET, "reason": "Evicted"}, "Infra"),
        (137, {"disruption": KILLED_BY_KUBELET, "reason": "Evicted"}, "Infra"),
        (143, {"disruption": "TerminationByKubelet: node shutdown", "reason": "Terminated"}, "Preempted"),
    ],
)
def test_the_class_of_an_end_without_a_word(code: int, pod: dict[str, Any], class_: str) -> None:
    assert failed(dead(code, **pod)).error == class_


@pytest.mark.parametrize(
    ("pod", "class_"),
    [
        ({}, "Infra"),
        ({"deleting": True}, "Preempted"),
        ({"disruption": DRAINED}, "Preempted"),
        ({"disruption": KILLED_BY_KUBELET, "reason": "Evicted", "deleting": True}, "Infra"),
        ({"disruption": TAINTED, "deleting": True}, "Infra"),
    ],
)
def test_who_sent_the_signal_decides_whether_the_hook_was_preempted(pod: dict[str, Any], class_: str) -> None:
    assert failed(failure(JOB, POD, "Preempted", 143, **pod)).error == class_


def test_a_pod_evicted_before_its_hook_ran_is_the_nodes_trouble() -> None:
    state = failed(replace(POD, phase="Failed", reason="Evicted", message="disk", disruption=KILLED_BY_KUBELET))

    assert (state.error, state.message) == ("Infra", "the node evicted the pod: disk")


@pytest.mark.parametrize(("reason", "code"), [("Unknown", 255), ("ContainerStatusUnknown", 137)])
def test_an_end_that_nobody_saw_is_the_nodes(reason: str, code: int) -> None:
    """A reboot, or a restart of the container runtime: the exit code is made up."""
    state = failed(dead(code, exit_reason=reason))
    assert (state.error, state.reason) == ("Infra", Reason.INFRA_ERROR)
    assert failed(dead(255, exit_reason="Error")).error == "User"


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        ({"disruption": DRAINED}, DRAINED),
        ({"disruption": KILLED_BY_KUBELET, "reason": "Evicted", "message": "disk"}, "the node evicted the pod: disk"),
    ],
)
def test_kubernetes_knows_better_than_the_hook_why_it_was_ended(pod: dict[str, Any], words: str) -> None:
    assert words in failed(replace(failure(JOB, POD, "Preempted", 143), **pod)).message


@pytest.mark.parametrize("code", [1, 137, 143])
def test_out_of_memory_is_named_with_the_limit_whatever_the_code(code: int) -> None:
    state = failed(dead(code, exit_reason="OOMKilled"), memory_limit="4Gi")

    assert (state.error, state.reason) == ("OutOfMemory", Reason.OUT_OF_MEMORY)
    assert "limit of 4Gi (its peak is unknown)" in state.message


def test_out_of_memory_is_named_where_the_hook_only_saw_its_child_die() -> None:
    told = failure(JOB, POD, "User", 1)

    assert failed(replace(told, hook=replace(told.hook, exit_reason="OOMKilled"))).error == "OutOfMemory"


def test_the_kubelets_words_about_a_failed_start_are_told() -> None:
    state = failed(dead(128, exit_reason="StartError", message="exec: sandbox-runtime: not found"))

    assert state.message == "the hook ended with exit code 128. exec: sandbox-runtime: not found"


@pytest.mark.parametrize(
    ("kind", "words", "told"),
    [
        ("ValueError", "it broke", "ValueError: it broke"),
        ("ValueError", "ValueError in row 5", "ValueError in row 5"),
        ("UserError", "it broke", "it broke"),
        ("", "it broke", "it broke"),
    ],
)
def test_the_kind_of_an_error_is_told_where_it_says_something_new(kind: str, words: str, told: str) -> None:
    error = ResultError(class_="User", type=kind, message=words)

    assert failed(dead(1, message=encode_message(a_message(JOB, POD, error=error)))).message == told


def test_a_pod_that_succeeded_without_a_trace_of_its_hook_has_lost_its_result() -> None:
    assert failed(replace(POD, phase="Succeeded")).reason == Reason.RESULTS_LOST


# Nodes that fall silent


def silent(since: float) -> PodFact:
    return replace(POD, **running(), deleting=True, disruption=TAINTED, deleting_since=written(later(since)))


def test_a_pod_that_does_not_end_on_a_silent_node_is_given_up_after_a_while() -> None:
    assert look(JOB, silent(0), after=599, node_lost=600) == Running(
        written(NOW), late=599, ends_if_lost=1, node="node-1"
    )
    state = failed(silent(0), after=600, node_lost=600)
    assert (state.error, state.reason) == ("Infra", Reason.INFRA_ERROR)
    assert "node-1" in state.message


def test_where_no_other_node_can_have_the_volume_a_silent_node_is_waited_for() -> None:
    assert look(JOB, silent(0), after=10**6, node_lost=None) == Running(written(NOW), late=10**6, node="node-1")
