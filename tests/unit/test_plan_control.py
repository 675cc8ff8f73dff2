# SPDX-License-Identifier: Apache-2.0
"""Control over time: suspend at the boundary or at once, resume, stop now or after the evaluation."""

import pytest
from tests.unit.builders import Play, a_spec, condition, contract_of, created, four_jobs, process

from sandbox_operator.plan.actions import DeleteJob

A, R, P, E = (f"anonymous/1/{place}" for place in ("probe/0", "refine/0", "execution/0", "evaluation/0"))


def suspended_now() -> Play:
    play = Play(four_jobs(timeouts={"active": "1h"}))
    play.step()
    play.run_in(A)
    play.now = play.now.replace(minute=20)
    play.change_spec(suspend=True, suspendPolicy="Now")
    play.step()
    return play


def test_suspending_now_ends_the_running_attempt_without_counting_it() -> None:
    play = suspended_now()

    assert play.plans[-1].actions == (DeleteJob(play.snapshot.jobs[0].name),)
    assert play.states()[A] == "Pending: Suspended"
    assert play.status.jobs[0].failures is None
    assert condition(play.status, "Suspended") == "True: Suspended"
    assert condition(play.status, "Reconciling") is None


def test_a_delete_that_was_lost_is_asked_for_again() -> None:
    play = suspended_now()

    assert play.step(after=1).actions == (DeleteJob(play.snapshot.jobs[0].name),)


def test_resuming_goes_on_with_the_time_that_is_left_as_soon_as_the_old_pod_is_gone() -> None:
    play = suspended_now()
    play.change_spec(suspend=False)
    play.step(after=1)
    assert play.states()[A] == "Pending: WaitingForOldPod"
    play.change(pods=(), jobs=())
    (job,) = created(play.step(after=1))

    assert contract_of(job).attempt == 2
    assert contract_of(job).active_seconds_left == 3600 - 1205
    assert play.status.jobs[0].failures is None
    assert condition(play.status, "Suspended") is None
    deadline = job.manifest["spec"]["activeDeadlineSeconds"]
    assert deadline == 3600 + 2395 + 60


def test_a_job_that_was_ended_before_it_had_a_pod_is_followed_when_it_can_get_none_any_more() -> None:
    """The Job controller may be about to make that pod while the Job is there, and a moment longer."""
    play = Play(four_jobs())
    play.step()
    (first,) = play.snapshot.jobs
    play.change(pods=())
    play.change_spec(suspend=True, suspendPolicy="Now")
    assert play.step(after=1).actions == (DeleteJob(first.name),)
    play.change_spec(suspend=False)
    assert play.step().actions == (DeleteJob(first.name),)
    assert play.states()[A] == "Pending: Suspended"
    play.change(jobs=())
    assert play.step().requeue_after == 5
    (second,) = created(play.step(after=5))

    assert contract_of(second).attempt == 2


def test_a_token_right_after_another_does_not_forget_a_pod_that_may_come_yet() -> None:
    play = Play(four_jobs())
    play.step()
    play.change(pods=())
    play.change_spec(rerun={"token": "2"})
    play.step()
    play.change(jobs=())
    play.change_spec(rerun={"token": "3"})
    assert not created(play.step(after=4))

    assert created(play.step(after=1))


def test_a_result_that_came_before_the_suspension_was_seen_is_committed() -> None:
    play = Play(four_jobs())
    play.step()
    play.run_in(A)
    play.change_spec(suspend=True, suspendPolicy="Now")
    play.succeed()

    assert play.states()[A] == "Succeeded: Completed"
    assert play.states()[R] == "Pending"


def test_suspending_at_the_boundary_lets_the_running_hook_end() -> None:
    play = Play(four_jobs())
    play.step()
    play.run_in(A)
    play.change_spec(suspend=True)
    step = play.step(after=1)
    assert not step.actions
    assert play.states()[A] == "Running: Running"
    play.succeed()

    assert play.states()[R] == "Pending"
    assert condition(play.status, "Suspended") == "True: Suspended"


def test_stopping_now_ends_what_runs_and_skips_the_rest() -> None:
    play = Play(four_jobs())
    play.step()
    play.succeed()
    play.run_in(R)
    play.change_spec(stop="Now")
    step = play.step(after=1)

    assert play.states() == {A: "Succeeded: Completed", R: "Skipped: Stopped", P: "Skipped: Stopped",
                             E: "Skipped: Stopped"}  # fmt: skip
    assert (play.status.outcome, play.status.progress) == ("Stopped", "1/4")
    assert condition(play.status, "Succeeded") == "False: Stopped"
    assert condition(play.status, "Stalled") is None
    assert step.actions == (DeleteJob(play.snapshot.jobs[-1].name),)
    assert play.step(after=1).actions == (DeleteJob(play.snapshot.jobs[-1].name),), "until it is gone"


def test_stopping_after_the_evaluation_lets_it_judge_what_is_there() -> None:
    executions = [process(metaName="p"), process(metaName="q")]
    spec = four_jobs()
    play = Play(a_spec(probes=spec["probeJobConfigs"], executions=executions, evaluations=[
        {**spec["evaluationJobConfigs"][0], "input": {"djConfigs.dataset_path": "anonymous.p.dataset"}},
        {**spec["evaluationJobConfigs"][0], "metaName": "of_q", "input": {"djConfigs.dataset_path": "anonymous.q.dataset"}},
    ]))  # fmt: skip
    play.step()
    play.succeed()
    play.run_in(P)
    play.change_spec(stop="AfterEvaluation")
    play.step(after=1)
    assert play.states()[P] == "Running: Running"
    play.succeed_in(P)
    assert play.states()["anonymous/1/execution/1"] == "Skipped: Stopped"
    play.succeed_in(E)

    assert play.states()[E] == "Succeeded: Completed"
    assert play.states()["anonymous/1/evaluation/1"] == "Skipped: InputUnavailable"
    assert play.status.outcome == "Stopped"


def test_a_stopped_experiment_is_run_again_by_a_token_once_stop_is_taken_away() -> None:
    play = Play(four_jobs())
    play.step()
    play.succeed()
    play.change_spec(stop="Now")
    play.step(after=1)
    play.change(pods=(), jobs=())
    play.change_spec(stop=None, rerun={"token": "2"})
    play.step(after=5)
    play.step(after=5)  # its Job may have been deleted a moment ago only

    assert play.states()[A] == "Succeeded: Completed"
    assert play.states()[R] == "Pending: Creating"
    assert play.status.outcome == "Running"


@pytest.mark.parametrize("stop", ["Now", "AfterEvaluation"])
def test_a_stop_that_finds_nothing_left_to_leave_out_is_a_success(stop: str) -> None:
    """It comes with the last result, or while the last job of all runs to its end."""
    play = Play(four_jobs())
    play.step()
    for _ in range(3):
        play.succeed()
    play.run_in(E)
    play.change_spec(stop=stop)
    if stop == "AfterEvaluation":
        play.step(after=1)
    play.succeed_in(E)

    assert (play.status.outcome, play.status.progress) == ("Succeeded", "4/4")
    assert condition(play.status, "Ready") == "True: Succeeded"


@pytest.mark.parametrize(("rows", "outcome"), [(10, "Stopped"), (100, "Succeeded")])
def test_a_stop_that_leaves_out_an_iteration_is_one(rows: int, outcome: str) -> None:
    jobs = [process(metaName="p")]
    play = Play(a_spec(executions=jobs, maxIterNum=3, iterTargets=["anonymous.p.rows_out >= 100"]))
    play.step()
    play.run_in(P)
    play.change_spec(stop="AfterEvaluation")
    play.succeed(metrics={"p.rows_out": rows})

    assert (play.status.outcome, play.status.iteration) == (outcome, 1)


def test_a_job_whose_time_runs_out_after_a_suspension_says_how_long_it_ran_in_all() -> None:
    play = suspended_now()
    play.change_spec(suspend=False)
    play.change(pods=(), jobs=())
    play.step(after=1)
    left = contract_of(created(play.plans[-1])[0]).active_seconds_left
    play.fail("Timeout", words=f"the job's time of {left} s (timeouts.active) ran out")

    assert play.states()[A] == "Failed: Timeout"
    assert (play.status.jobs[0].message or "").removeprefix("ValueError: ") == (
        "the job's time of 2395 s (timeouts.active) ran out; it had 3600 s in all: the 1205 s that it ran before it was"
        " suspended count"
    )
