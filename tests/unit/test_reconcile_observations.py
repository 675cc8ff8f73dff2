# SPDX-License-Identifier: Apache-2.0
"""What two statuses in a row say has happened: the figures behind `jobs`, `attempts`, pending time and GPU-seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.builders import NOW, UID, later, written

from sandbox_api.experiment import Resources
from sandbox_api.status import ExperimentStatus, Failures, JobStatus
from sandbox_operator.plan.facts import ContainerFact, PodFact, Snapshot
from sandbox_operator.reconcile.observations import Step, gpus_of, planned_id, stage_of, step_between

JOB = "anonymous/1/execution/0"
EIGHT = Resources(limits={"nvidia.com/gpu": 8, "memory": "4Gi"})


def entry(**fields: Any) -> JobStatus:
    return JobStatus(**{"id": JOB, "hook": "TrainModelHook", "meta_name": "train", **fields})


PENDING = entry(state="Pending", attempts=1, job_name="demo-a1", waiting_since=written(NOW))
RUNNING = entry(state="Running", attempts=1, job_name="demo-a1", start_time=written(later(30)))
DONE = entry(state="Succeeded", attempts=1, job_name="demo-a1", start_time=written(later(30)), completion_time=written(later(90)))  # fmt: skip


def failed(**failures: int) -> JobStatus:
    return RUNNING.model_copy(
        update={"state": "Pending", "retry_at": written(later(100)), "failures": Failures(**failures)}
    )


def pod(began: float, ended: float | None = None, name: str = "demo-a1-x") -> PodFact:
    hook = ContainerFact(running_since=written(later(began)), finished_at=None if ended is None else written(later(ended)))  # fmt: skip
    return PodFact(name=name, uid=name, job_name="demo-a1", contract="", phase="Running", hook=hook)


def step(before: JobStatus | None, after: JobStatus, *pods: PodFact, at: float = 90, **status: Any) -> Step:
    snapshot = Snapshot(
        name="demo", namespace="lab", uid=UID, generation=1, resource_version="1", spec={},
        status=ExperimentStatus(jobs=[before] if before else []), pods=pods,
    )  # fmt: skip
    new = ExperimentStatus(jobs=[after], **status)
    return step_between(snapshot, new, {JOB: EIGHT}, later(at))


def test_an_attempt_that_is_named_is_nothing_yet() -> None:
    assert step(None, PENDING) == step(PENDING, PENDING) == Step()


def test_time_pending_ends_with_the_start_of_the_container() -> None:
    (started,) = step(PENDING, RUNNING).started
    assert (started.waited, started.attempt, started.stage) == (30, 1, "execution")
    assert step(PENDING, RUNNING, pod(12)).started[0].waited == 12
    assert not step(RUNNING, RUNNING.model_copy(update={"message": "x"})).started, "counted once"


def test_a_hook_that_was_never_seen_running_is_counted_as_well() -> None:
    seen = step(PENDING, DONE)
    assert [s.waited for s in seen.started] == [30]
    assert [(a.outcome, a.gpu_seconds) for a in seen.attempts] == [("succeeded", 8 * 60)]


@pytest.mark.parametrize(
    ("after", "outcome"),
    [
        (failed(infra=1), "infra"),
        (failed(user=1), "user"),
        (failed(preempted=1), "preempted"),
        (RUNNING.model_copy(update={"state": "Failed", "failures": Failures(final=1)}), "final"),
        (RUNNING.model_copy(update={"state": "Failed", "failures": Failures(user=1)}), "user"),
        (RUNNING.model_copy(update={"state": "Pending", "retry_at": written(later(90))}), "other"),
        (RUNNING.model_copy(update={"state": "Skipped"}), "other"),
    ],
)
def test_what_gives_no_result_is_wasted_whoever_is_to_blame(after: JobStatus, outcome: str) -> None:
    (attempt,) = step(RUNNING, after, at=90).attempts
    assert (attempt.outcome, attempt.gpu_seconds, attempt.job_name) == (outcome, 8 * 60, "demo-a1")


def test_gpu_seconds_are_those_of_all_pods_of_the_attempt() -> None:
    two = (pod(10, 40, "demo-a1-0"), pod(20, None, "demo-a1-1"))
    (attempt,) = step(RUNNING, failed(infra=1), *two, replace(pod(0, 50), job_name="demo-a0"), at=60).attempts
    assert attempt.gpu_seconds == 8 * (30 + 40)


def test_a_pod_that_never_ran_wastes_nothing() -> None:
    (attempt,) = step(PENDING, PENDING.model_copy(update={"state": "Failed"})).attempts
    assert (attempt.outcome, attempt.gpu_seconds) == ("other", 0)


def test_a_cached_result_is_a_job_and_no_attempt() -> None:
    seen = step(entry(), entry(state="Cached"))
    assert [(j.state, j.stage) for j in seen.jobs] == [("Cached", "execution")]
    assert not seen.attempts


def test_the_next_attempt_and_the_result_before_it_are_not_counted_twice() -> None:
    backoff = failed(infra=1)
    again = backoff.model_copy(update={"attempts": 2, "job_name": "demo-a2", "retry_at": None})
    assert not step(backoff, again).attempts
    assert not step(DONE, DONE.model_copy(update={"message": "x"})).attempts
    rerun = DONE.model_copy(update={"state": "Pending", "generation": 2, "retry_at": written(NOW)})
    assert step(DONE, rerun) == Step()


def test_the_end_of_the_experiment_is_told_once() -> None:
    ended = {"outcome": "Succeeded", "completion_time": written(later(90))}
    assert step(RUNNING, DONE, **ended).finished == "Succeeded"
    before = ExperimentStatus(jobs=[DONE], **ended)
    snapshot = Snapshot(name="demo", namespace="lab", uid=UID, generation=1, resource_version="1", spec={}, status=before)  # fmt: skip
    assert step_between(snapshot, before, {}, later(100)) == Step()


def test_ids_of_items_iterations_and_repeats_lead_to_the_planned_job() -> None:
    assert planned_id("exps[3]/2/execution/1[12]~4") == "exps[*]/1/execution/1[*]"
    assert planned_id(JOB) == JOB


def test_a_stage_of_ones_own_is_no_label_of_its_own() -> None:
    assert stage_of("curation/1/collect/0") == stage_of("odd") == "other"
    assert stage_of("exps[3]/2/evaluation/1[12]") == "evaluation"


def test_gpus_of_any_maker_count() -> None:
    assert gpus_of(Resources(limits={"amd.com/gpu": "2", "cpu": 4})) == 2
    assert gpus_of(None) == 0
