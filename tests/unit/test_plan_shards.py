# SPDX-License-Identifier: Apache-2.0
"""Independent pieces of one job (`shards`): only those that are left are tried again, then one pod merges them all."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.builders import a_message, a_spec, contract_of, created, ended, job_of, later, process, workers, written
from tests.unit.several import SeveralPods

from sandbox_api.result import ResultError, encode_message
from sandbox_operator.plan.actions import DeleteJob


def play(retry: dict[str, Any] | None = None, **more: Any) -> SeveralPods:
    """An experiment of one job in four pieces, asked for, and one after it."""
    jobs = [workers(metaName="w", shards=4, **more), process(metaName="p")]
    found = SeveralPods(a_spec(executions=jobs, retry={"backoff": "1s", "infra": 3, **(retry or {})}))
    found.step()
    return found


def reason(found: SeveralPods) -> str:
    job = job_of(found.status)
    return f"{job.state}: {job.reason}"


def counts(found: SeveralPods) -> tuple[int, int, str | None]:
    shards = job_of(found.status).shards
    assert shards is not None
    assert shards.total == 4
    return shards.succeeded, shards.failed, shards.done


def merge_ends(found: SeveralPods, **message: Any) -> None:
    assert found.job.name.endswith("-merge")
    found.succeed(**message)


def test_pieces_end_one_by_one_and_are_merged_to_the_jobs_result() -> None:
    found = play()
    found.begin(0, 1, 2, 3)
    assert reason(found) == "Running: Running"
    found.end_well(2)
    assert counts(found) == (1, 0, "2")
    found.end_well(0, 1)
    assert counts(found) == (3, 0, "0-2")
    assert job_of(found.status).message == "3 of 4 pieces done, 1 running"
    found.end_well(3)

    assert reason(found) == "Running: Merging"
    merge = found.manifests[found.job.name]
    assert found.job.name.endswith("-a1-merge")
    assert "completions" not in merge["spec"]
    assert "nvidia.com/gpu" not in str(merge["spec"]["template"]["spec"]["containers"][0]["resources"])
    merge_ends(found)
    assert reason(found) == "Succeeded: Completed"
    assert counts(found) == (4, 0, "0-3")
    assert job_of(found.status, 1).attempts == 1, "what comes after it begins"


def test_only_unfinished_pieces_are_tried_again() -> None:
    found = play(retry={"user": 1})
    found.begin(0, 1, 2, 3)
    found.end_badly(1)
    assert reason(found) == "Running: Running", "the others go on"
    assert counts(found) == (0, 1, None)
    found.end_well(0, 2)
    found.exits(3, 143, disruption="EvictionByEvictionAPI: drained")

    job = job_of(found.status)
    assert reason(found) == "Pending: Backoff"
    assert "2 of 4 pieces failed; piece 1: " in (job.message or "")
    assert counts(found) == (2, 2, "0,2")
    assert job.failures is not None
    assert (job.failures.user, job.failures.preempted) == (1, 0), "the worst of them counts"
    found.step(after=5)
    second = found.manifests[found.job.name]
    assert found.job.name.endswith("-a2")
    assert second["spec"]["completions"] == 2
    assert contract_of(created(found.plans[-1])[0]).pieces == "1,3"
    assert [pod.number for pod in found.snapshot.pods if pod.job_name == found.job.name] == [1, 3]
    found.begin(1, 3)
    found.end_well(1, 3)
    assert found.job.name.endswith("-a2-merge")
    merge_ends(found)
    assert reason(found) == "Succeeded: Completed"


@pytest.mark.parametrize(("code", "said"), [(1, "UserError"), (2, "ConfigError")])
def test_a_piece_that_nothing_can_save_ends_the_others_at_once(code: int, said: str) -> None:
    found = play()
    found.begin(0, 1, 2, 3)
    found.put(replace(found.number(1), **ended(code)))
    step = found.step(after=1)

    assert reason(found) == f"Failed: {said}"
    assert DeleteJob(found.job.name) in step.actions


def test_pieces_wait_for_places_as_long_as_others_run_and_no_longer_than_pending_alone() -> None:
    found = play(timeouts={"pending": "10m"})
    found.put(*(replace(found.number(n), node=None, unschedulable="0/2 nodes: Insufficient gpu") for n in (2, 3)))
    found.begin(0, 1)
    found.step(after=3600)
    assert reason(found) == "Running: Running"
    assert job_of(found.status).message == "0 of 4 pieces done, 2 running, 2 waiting"
    found.end_well(0, 1)
    found.step(after=500)
    assert reason(found) == "Running: Running"

    found.step(after=200)

    assert reason(found) == "Failed: PendingTimeout"


def test_none_of_the_pieces_starts() -> None:
    found = play(timeouts={"pending": "10m"})
    found.put(*(replace(found.number(n), node=None, unschedulable="no room") for n in range(4)))
    found.step(after=20)
    assert reason(found) == "Pending: Unschedulable"
    assert (job_of(found.status).message or "").startswith("4 pieces wait: ")
    found.step(after=600)
    assert reason(found) == "Failed: PendingTimeout"


def test_a_piece_is_done_by_the_word_of_its_job_when_its_pod_has_gone() -> None:
    found = play()
    found.begin(0, 1, 2, 3)
    found.goes(0, 1)
    found.job_says(done_indexes="0-1")

    assert counts(found) == (2, 0, "0-1")
    found.change(jobs=(), pods=())  # whatever becomes of the Job, it stays done
    found.step(after=1)
    assert counts(found) == (2, 0, "0-1")
    assert reason(found) == "Pending: Backoff"


def test_a_pod_that_was_deleted_is_a_preempted_piece() -> None:
    found = play()
    found.begin(0, 1, 2, 3)
    found.goes(1)
    found.job_says(failed_indexes="1")
    found.end_well(0, 2, 3)

    failures = job_of(found.status).failures
    assert failures is not None
    assert failures.preempted == 1
    assert counts(found) == (3, 1, "0,2-3")


def test_a_merge_that_fails_is_merged_again_and_no_piece_is_run() -> None:
    found = play()
    found.begin(0, 1, 2, 3)
    found.end_well(0, 1, 2, 3)
    found.fail("Infra", 4, "the volume went")
    assert reason(found) == "Pending: Backoff"
    found.step(after=5)

    assert found.job.name.endswith("-a2-merge")
    assert job_of(found.status).attempts == 2
    assert not any(name.endswith("-a2") for name in found.manifests)
    merge_ends(found)
    assert reason(found) == "Succeeded: Completed"


def test_pieces_that_the_volume_has_lost_are_run_again() -> None:
    found = play()
    found.begin(0, 1, 2, 3)
    found.end_well(0, 1, 2, 3)
    job, pod = found.newest
    told = ResultError(class_="Input", type="InputError", message="piece 2 of 4: none", job=job.job_id)  # type: ignore[call-arg]
    found.pod(**ended(3, message=encode_message(a_message(job, pod, error=told))))
    found.step(after=1)

    assert reason(found) == "Pending: Backoff"
    assert counts(found) == (0, 0, None)
    failures = job_of(found.status).failures
    assert failures is not None
    assert failures.infra == 1
    found.step(after=5)
    assert found.manifests[found.job.name]["spec"]["completions"] == 4


def test_a_merge_that_does_not_start_is_given_up_on_the_infra_budget() -> None:
    found = play(retry={"infra": 0}, timeouts={"pending": "10m"})
    found.begin(0, 1, 2, 3)
    found.end_well(0, 1, 2, 3)
    found.step(after=700)

    assert reason(found) == "Failed: InfraError"
    assert "the pieces are done and could not be merged" in (job_of(found.status).message or "")


def test_suspended_now_the_pieces_that_are_done_stay_done() -> None:
    found = play()
    found.begin(0, 1, 2, 3)
    found.end_well(1, 2)
    found.change_spec(suspend=True, suspendPolicy="Now")
    step = found.step(after=5)
    assert reason(found) == "Pending: Suspended"
    assert DeleteJob(found.job.name) in step.actions
    found.change(jobs=(), pods=())
    found.change_spec(suspend=False)
    found.step(after=10)

    assert found.manifests[found.job.name]["spec"]["completions"] == 2
    assert contract_of(created(found.plans[-1])[0]).pieces == "0,3"


def test_a_rerun_begins_with_all_pieces() -> None:
    found = play()
    found.begin(0, 1, 2, 3)
    found.end_well(0, 1, 2, 3)
    merge_ends(found)
    found.change_spec(rerun={"token": "2", "from": "w"})
    found.step(after=5)
    found.step(after=5)

    assert job_of(found.status).generation == 2
    assert found.job.name.endswith("-a2")
    assert found.manifests[found.job.name]["spec"]["completions"] == 4


def test_a_piece_has_its_own_time() -> None:
    """Pieces may wait for each other's places: the Job has no deadline, each pod has."""
    found = play(timeouts={"pending": "10m", "active": "1h"}, retry={})
    spec = found.manifests[found.job.name]["spec"]
    assert "activeDeadlineSeconds" not in spec
    assert spec["template"]["spec"]["activeDeadlineSeconds"] == 600 + 3600 + 60
    found.begin(0, 1, 2, 3)
    found.exits(1, 143, reason="DeadlineExceeded")

    assert reason(found) == "Failed: Timeout"


def test_a_silent_node_costs_its_piece_alone() -> None:
    found = play(timeouts={"nodeLost": "5m"})
    found.begin(0, 1, 2, 3)
    found.put(replace(found.number(1), deleting=True, deleting_since=written(found.now)))
    found.end_well(0, 2, 3)
    assert reason(found) == "Running: Running"
    found.step(after=301)

    assert reason(found) == "Pending: Backoff"
    assert "is silent" in (job_of(found.status).message or "")
    found.step(after=10)
    assert contract_of(created(found.plans[-1])[0]).pieces == "1"


def test_when_the_experiment_is_ending_a_failed_piece_is_not_waited_for() -> None:
    found = play(retry={"user": 5})
    found.begin(0, 1, 2, 3)
    found.change_spec(stop="AfterEvaluation")
    found.end_badly(1)

    assert reason(found) == "Failed: UserError"
    assert job_of(found.status).completion_time == written(later((found.now - later(0)).total_seconds()))
