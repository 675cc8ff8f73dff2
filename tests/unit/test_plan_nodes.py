# SPDX-License-Identifier: Apache-2.0
"""Pods that work as one (`nodes`): one Indexed Job, all or nothing, and the failure that the others followed from."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.builders import (
    DEFAULTS,
    OWN_HOOKS,
    a_claim,
    a_message,
    a_spec,
    an_experiment,
    created,
    ended,
    failure,
    job_of,
    later,
    success,
    workers,
    written,
)
from tests.unit.several import SeveralPods

from sandbox_api.result import ResultError, encode_message
from sandbox_operator.plan.actions import CreateJob, DeleteJob
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.experiment import plan_experiment


def play(**more: Any) -> SeveralPods:
    """An experiment of one job with three pods, asked for."""
    found = SeveralPods(a_spec(executions=[workers(metaName="w", nodes=3, **more)]))
    found.step()
    return found


def reason(found: SeveralPods) -> str:
    job = job_of(found.status)
    return f"{job.state}: {job.reason}"


def test_it_runs_only_when_all_of_its_pods_do() -> None:
    found = play()
    found.begin(0, 2)
    found.step(after=5)

    assert reason(found) == "Pending: Starting"
    assert (job_of(found.status).message or "").startswith("2 of 3 pods run, and wait for the others: ")
    found.begin(1)
    assert reason(found) == "Running: Running"


def test_all_or_nothing_a_pod_without_a_place_ends_the_wait_of_all() -> None:
    found = play(timeouts={"pending": "10m"})
    found.put(replace(found.number(2), node=None, unschedulable="0/2 nodes: 2 Insufficient nvidia.com/gpu"))
    found.begin(0, 1)
    found.step(after=20)
    assert reason(found) == "Pending: InsufficientGPU"

    step = found.step(after=600)

    assert reason(found) == "Failed: PendingTimeout"
    assert DeleteJob(found.job.name) in step.actions, "those that run wait for nobody any more"


def test_rank_0s_result_counts_when_all_have_ended_well() -> None:
    found = play()
    found.begin(0, 1, 2)
    found.end_well(0)
    assert reason(found) == "Running: Running"
    found.end_well(1)
    assert reason(found) == "Running: Running"
    found.end_well(2)

    job = job_of(found.status)
    assert reason(found) == "Succeeded: Completed"
    assert job.result is not None
    assert job.result.path.endswith("/attempts/1/0-of-dem/result.json")


def test_a_pod_that_went_after_it_had_ended_well_counts_by_its_jobs_word() -> None:
    found = play()
    found.begin(0, 1, 2)
    found.end_well(0, 1)
    found.goes(1, 2)
    found.job_says(done_indexes="0-2")

    assert reason(found) == "Succeeded: Completed"


def test_a_lost_word_of_rank_0_is_asked_of_the_volume() -> None:
    found = play(timeouts={"result": "1m"})
    found.begin(0, 1, 2)
    found.end_well(1, 2)
    found.exits(0, 0)
    assert reason(found) == "Running: Running"

    found.step(after=70)

    assert reason(found) == "Running: ReadingResult"
    assert found.job.name.endswith("-a1-read")
    assert found.job.size == 1


def test_the_first_failure_decides_and_is_told_when_all_pods_have_ended() -> None:
    found = play()
    found.begin(0, 1, 2)
    found.end_badly(1, words="row 17 has no text")
    assert reason(found) == "Running: Running", "the others still end"
    found.job_says(failed="BackoffLimitExceeded")
    told = failure(found.job, found.number(0), "Preempted", 143, "ended by SIGTERM")
    found.put(replace(told, deleting=True))
    found.goes(2)
    found.step(after=1)

    job = job_of(found.status)
    assert reason(found) == "Failed: UserError"
    assert job.message == "ValueError: row 17 has no text (pod 1)"
    assert job.failures is not None
    assert (job.failures.user, job.failures.preempted) == (1, 0)


def left_alone(found: SeveralPods, number: int) -> None:
    """It can't reach another pod any more."""
    told = ResultError(class_="Infra", type="PeerLost", message="Connection closed by peer")  # type: ignore[call-arg]
    message = encode_message(a_message(found.job, found.number(number), error=told))
    found.put(replace(found.number(number), **ended(4, message=message, at=found.now)))


@pytest.mark.parametrize("code", [1, 143])
def test_a_drained_training_is_preempted_whatever_its_other_pods_say(code: int) -> None:
    """The eviction goes to one pod; what the others return (torchrun's 1) only follows from it."""
    found = play()
    found.begin(0, 1, 2)
    found.exits(1, 143, disruption="EvictionByEvictionAPI: drained", deleting=True)
    found.exits(0, code)
    found.exits(2, code)

    job = job_of(found.status)
    assert reason(found) == "Pending: Backoff"
    assert job.failures is not None
    assert (job.failures.user, job.failures.infra, job.failures.preempted) == (0, 0, 1)


def test_a_drained_pod_that_has_gone_is_known_by_its_job() -> None:
    found = play()
    found.begin(0, 1, 2)
    found.goes(1)
    found.exits(0, 1)
    found.exits(2, 1)
    found.job_says(failed="PodFailurePolicy", failed_message="Pod demo-1 matching FailJob rule")

    failures = job_of(found.status).failures
    assert failures is not None
    assert (failures.user, failures.preempted) == (0, 1)


def test_a_deleted_pod_is_preempted_where_the_others_say_that_they_were_left_alone() -> None:
    found = play()
    found.begin(0, 1, 2)
    left_alone(found, 0)
    left_alone(found, 2)
    found.goes(1)
    found.job_says(failed="BackoffLimitExceeded")

    failures = job_of(found.status).failures
    assert failures is not None
    assert (failures.infra, failures.preempted) == (0, 1)


def test_a_pod_that_needed_too_much_memory_is_the_cause_not_those_that_it_left_alone() -> None:
    found = play(retry={"user": 1})
    found.begin(0, 1, 2)
    left_alone(found, 0)
    found.exits(
        1,
        137,
        hook=replace(found.number(1).hook, exit_code=137, exit_reason="OOMKilled", finished_at=written(later(60))),
    )
    left_alone(found, 2)
    found.job_says(failed="BackoffLimitExceeded")

    job = job_of(found.status)
    assert "OutOfMemory" in (job.message or "")
    assert job.failures is not None
    assert (job.failures.user, job.failures.infra) == (1, 0)


def test_a_silent_node_is_given_up_and_all_begin_again() -> None:
    found = play(timeouts={"nodeLost": "5m"})
    found.begin(0, 1, 2)
    found.put(replace(found.number(1), deleting=True, deleting_since=written(found.now)))
    left_alone(found, 0)
    left_alone(found, 2)
    found.step(after=60)
    assert reason(found) == "Running: Running"

    found.step(after=300)

    job = job_of(found.status)
    assert reason(found) == "Pending: Backoff"
    assert "is silent" in (job.message or "")
    found.step(after=30)
    assert (job_of(found.status).attempts, found.job.name[-3:]) == (2, "-a2")


def test_a_further_attempt_waits_until_no_pod_of_the_last_one_is_left() -> None:
    found = play(retry={"user": 1, "backoff": "1s"})
    found.begin(0, 1, 2)
    found.end_badly(1)
    found.exits(0, 143, deleting=True)
    found.exits(2, 143, deleting=True)
    assert reason(found) == "Pending: Backoff"
    late = replace(
        found.number(0), name="late", uid="late", phase="Running", hook=replace(found.number(0).hook, exit_code=None)
    )
    found.change(pods=(*found.snapshot.pods, late))
    found.step(after=10)
    assert reason(found) == "Pending: WaitingForOldPod"


def test_its_job_that_others_deleted_is_a_preemption() -> None:
    found = play()
    found.begin(0, 1, 2)
    found.change(jobs=(), pods=())
    found.step(after=1)

    failures = job_of(found.status).failures
    assert failures is not None
    assert failures.preempted == 1


def test_pods_on_a_claim_of_one_node_share_it_and_a_claim_of_one_pod_is_refused() -> None:
    spec = a_spec(executions=[workers(metaName="w", nodes=2)])
    spec["workspace"] = {"claimName": "theirs"}

    def with_mode(mode: str) -> SeveralPods:
        found = SeveralPods(spec)
        found.change(claims={"theirs": a_claim("theirs", access_mode=mode, experiment=None)})
        found.step()
        return found

    pod = next(iter(with_mode("ReadWriteOnce").manifests.values()))["spec"]["template"]["spec"]
    assert pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    job = job_of(with_mode("ReadWriteOncePod").status)
    assert (job.state, job.reason) == ("Failed", "ConfigError")
    assert "one pod at a time" in (job.message or "")


def test_one_service_serves_every_attempt() -> None:
    step = plan_experiment(
        an_experiment(a_spec(executions=[workers(nodes=2)])),
        compile_spec(a_spec(executions=[workers(nodes=2)]), OWN_HOOKS),
        DEFAULTS,
        later(0),
    )
    (job,) = created(step)
    assert isinstance(job, CreateJob)
    assert job.service is not None
    spec = job.service["spec"]
    assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)
    assert spec["selector"].items() <= job.manifest["spec"]["template"]["metadata"]["labels"].items()
    assert job.manifest["spec"]["template"]["spec"]["subdomain"] == job.service["metadata"]["name"]
    assert (
        created(plan_experiment(an_experiment(a_spec()), compile_spec(a_spec()), DEFAULTS, later(0)))[0].service is None
    )


def test_nobody_elses_success_stands_for_rank_0() -> None:
    """Another rank's word is not the job's result, however well it fits."""
    found = play()
    found.begin(0, 1, 2)
    found.put(success(found.job, found.number(1)), success(found.job, found.number(2)))
    found.exits(0, 0)
    found.step(after=130)

    assert reason(found) == "Running: ReadingResult"
