# SPDX-License-Identifier: Apache-2.0
"""The whole decision, step by step: what the status says, what is made, and what is never done twice."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.builders import (
    NOW,
    Play,
    a_claim,
    a_spec,
    an_experiment,
    condition,
    created,
    ended,
    four_jobs,
    later,
    lister,
    plan,
    probe,
    process,
    running,
    written,
)

from sandbox_api.contract import CONTRACT_ENV, CONTRACT_VERSION, decode_contract
from sandbox_api.hooks import HOOKS
from sandbox_api.status import FINISHED_STATES, ExperimentStatus, Reason
from sandbox_operator.build.defaults import Defaults
from sandbox_operator.plan.actions import CreateClaim, CreateJob, DeleteFinishedJobs, DeleteJob, PatchClaim
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.experiment import plan_experiment
from sandbox_operator.plan.facts import ContainerFact, Refusal, WarningFact


def two_jobs(**more: Any) -> dict[str, Any]:
    return a_spec(probes=[probe(**more)], executions=[process()])


def played(spec: dict[str, Any], *outcomes: str) -> Play:
    """An experiment whose hooks ended like this, one after another."""
    play = Play(spec)
    play.step()
    for outcome in outcomes:
        if outcome == "succeed":
            play.succeed()
        else:
            play.fail()
    return play


# The beginning


def test_the_first_step_names_the_job_in_the_status_and_makes_the_claim_and_the_job() -> None:
    step = plan(an_experiment(four_jobs()))

    claim, job = step.actions
    assert isinstance(claim, CreateClaim)
    assert isinstance(job, CreateJob)
    first = step.status.jobs[0]
    assert (first.state, first.attempts, first.reason) == ("Pending", 1, "Creating")
    assert job.manifest["metadata"]["name"] == first.job_name
    assert [later.job_name for later in step.status.jobs[1:]] == [None, None, None]
    assert step.urgent


def test_the_first_status_says_where_everything_is() -> None:
    status = plan(an_experiment(four_jobs())).status

    assert (status.outcome, status.stage, status.progress, status.hook) == (
        "Running", "probe", "0/4", "ProbeViaAnalyzerHook",
    )  # fmt: skip
    assert status.start_time == written(NOW)
    assert status.observed_generation == 1
    assert status.workspace is not None
    assert status.workspace.claim_name == "demo-workspace"
    assert status.workspace.path == "experiments/demo-1f2e3d4c"
    assert status.resolved is not None
    assert status.resolved.images == {"data": "registry.example.com/data:1"}
    assert condition(status, "Reconciling") == "True: Creating"
    assert condition(status, "StorageReady") == "False: ClaimPending"


def test_a_crash_between_status_and_create_is_made_good_under_the_same_name() -> None:
    snapshot = an_experiment(four_jobs())
    first = plan(snapshot)
    again = plan(replace(snapshot, status=first.status), later(30))

    assert again.status.jobs == first.status.jobs
    assert created(again) == created(first)


def test_planning_twice_changes_nothing() -> None:
    play = Play(four_jobs())
    play.step()
    settled = play.step(after=3)

    assert plan(play.snapshot, later(6)).status == settled.status
    assert not settled.actions
    assert not settled.urgent


def test_nothing_starts_on_a_claim_that_does_not_exist() -> None:
    step = plan(an_experiment(a_spec(workspace={"claimName": "mine"})))

    assert not step.actions
    assert step.status.jobs[0].attempts == 0
    assert (step.status.outcome, step.status.start_time) == ("Pending", None)
    assert condition(step.status, "Ready") == "False: ClaimNotFound"
    assert condition(step.status, "Stalled") == "True: ClaimNotFound"
    assert [(event.type, event.reason) for event in step.events] == [("Warning", "ClaimNotFound")]


def test_an_experiment_goes_on_when_its_claim_appears() -> None:
    play = Play(a_spec(workspace={"claimName": "mine"}))
    play.step()
    play.change(claims={"mine": a_claim("mine", experiment=None)})

    assert len(created(play.step())) == 1
    assert condition(play.status, "Stalled") is None


def test_a_terminating_claim_is_waited_for_without_alarm() -> None:
    step = plan(an_experiment(claims={"demo-workspace": a_claim(deleting=True)}))

    assert not step.actions
    assert not step.events
    assert condition(step.status, "Reconciling") == "True: ClaimTerminating"


# The road


def test_a_result_is_committed_and_the_next_job_made_in_one_step() -> None:
    play = Play(four_jobs())
    play.step()
    step = play.succeed(metrics={"analysis.rows": 300.0}, outputs={"overall": "x/overall.csv"}, cache_key="k")

    first, second = play.status.jobs[:2]
    assert (first.state, first.reason, first.message) == ("Succeeded", "Completed", "300 rows analysed")
    assert first.metrics == {"analysis.rows": 300.0}
    assert first.outputs == {"overall": "x/overall.csv"}
    assert first.result is not None
    assert first.result.cache_key == "k"
    assert (first.start_time, first.completion_time) == (written(NOW), written(later(5)))
    assert (second.state, second.attempts) == ("Pending", 1)
    assert [job.manifest["metadata"]["name"] for job in created(step)] == [second.job_name]
    assert step.urgent
    assert (play.status.stage, play.status.progress) == ("refine", "1/4")


def test_the_next_job_is_told_where_its_inputs_are() -> None:
    play = Play(four_jobs())
    play.step()
    step = play.succeed()

    (job,) = created(step)
    result = play.status.jobs[0].result
    assert result is not None
    env = {e["name"]: e.get("value") for e in job.manifest["spec"]["template"]["spec"]["containers"][0]["env"]}
    contract = decode_contract(env[CONTRACT_ENV])
    assert contract.inputs["probe"].result_path == result.path
    assert contract.inputs["probe"].sha256 == result.sha256
    assert contract.inputs["probe"].output == "overall"


def test_four_successes_end_the_experiment() -> None:
    play = played(four_jobs(), "succeed", "succeed", "succeed", "succeed")

    status = play.status
    assert play.jobs == ["Succeeded: Completed"] * 4
    assert (status.outcome, status.progress, status.retries) == ("Succeeded", "4/4", 0)
    assert status.completion_time == written(play.now)
    assert condition(status, "Ready") == condition(status, "Succeeded") == "True: Succeeded"
    assert condition(status, "Reconciling") is condition(status, "Stalled") is None
    assert [event.type for event in play.plans[-1].events] == ["Normal"]
    assert len(play.snapshot.jobs) == 4


def test_a_run_takes_few_urgent_writes() -> None:
    """One for each hook's start or commit, one for the end; the others may be coalesced."""
    play = Play(four_jobs())
    for _ in range(4):
        play.step()
        play.pod(**running(play.now))
        play.step(after=1)
        play.succeed()

    assert sum(step.urgent for step in play.plans) == 5


def test_before_and_after_are_compared_once_both_are_known() -> None:
    play = Play(a_spec(probes=[probe(metaName="a")], evaluations=[probe(metaName="b")]))
    play.step()
    play.succeed(metrics={"a.rows": 300.0})
    assert play.status.comparison == []
    play.succeed(metrics={"b.rows": 250.0})

    assert [(row.metric, row.before, row.after) for row in play.status.comparison] == [("rows", 300.0, 250.0)]


def test_a_running_hook_is_seen() -> None:
    play = Play(two_jobs())
    play.step()
    play.pod(**running(later(2)))
    step = play.step(after=3)

    first = play.status.jobs[0]
    assert (first.state, first.reason, first.start_time) == ("Running", "Running", written(later(2)))
    assert first.waiting_since is None
    assert condition(play.status, "Ready") == "False: Running"
    assert not step.urgent


def test_a_pod_that_starts_at_once_is_not_said_to_wait() -> None:
    """Most do; each would cost a write."""
    play = Play(two_jobs())
    first = play.step()
    at_once = play.step(after=1)

    assert at_once.status == first.status.model_copy(update={"conditions": at_once.status.conditions})
    assert at_once.requeue_after is not None
    assert at_once.requeue_after <= 1


def test_why_a_pod_waits_stands_in_the_status_and_soon_in_an_event() -> None:
    play = Play(two_jobs())
    play.step()
    play.pod(unschedulable="0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", node=None)
    early = play.step(after=3)
    late = play.step(after=8)

    assert play.status.jobs[0].reason == "InsufficientGPU"
    assert condition(play.status, "Ready") == "False: InsufficientGPU"
    assert not early.events
    assert [event.reason for event in late.events] == ["InsufficientGPU"]


def test_warnings_about_the_job_and_its_pod_are_heard_and_others_are_not() -> None:
    play = Play(two_jobs())
    play.step()
    job, pod = play.newest
    about = [("Job", job.name, "FailedCreate"), ("Pod", "another", "FailedMount"), ("Pod", pod.name, "FailedMount")]
    play.change(warnings=tuple(WarningFact(kind, name, reason, f"about {name}") for kind, name, reason in about))
    play.step(after=3)

    assert play.status.jobs[0].reason == "VolumeMountFailed"
    assert play.status.jobs[0].message == f"a volume can't be mounted: about {pod.name}"


def test_metrics_are_kept_up_to_a_number_and_their_order_decides() -> None:
    play = Play(a_spec())
    play.step()
    play.succeed(metrics={f"probe.m{n:03d}": float(n) for n in range(100)}, message="done")

    assert list(play.status.jobs[0].metrics or {}) == [f"probe.m{n:03d}" for n in range(32)]


def test_the_status_of_the_greatest_experiment_stays_small() -> None:
    """256 jobs with all the figures and outputs they may have: never more than 2 000 figures and 300 KB."""
    lists = {
        name: [probe(metaName=f"{name[:2]}{n}", djConfigs={"dataset_path": "inputs/raw/a.jsonl"}) for n in range(64)]
        for name in ("probes", "refines", "executions", "evaluations")
    }
    play = Play(a_spec(**lists))
    figures = {f"x.a_statistic_of_some_length_{n}.mean": n + 0.123456789 for n in range(32)}
    folder = "experiments/demo-1f2e3d4c/jobs/anonymous/1/evaluation/63/attempts/1/12345678/out"
    play.step()
    while play.status.completion_time is None:
        play.succeed(metrics=figures, outputs={n: f"{folder}/{n}.jsonl" for n in ("stats", "overall", "histograms")})

    assert len(play.status.jobs[0].metrics or {}) == 32
    assert sum(len(job.metrics or {}) for job in play.status.jobs) <= 2000
    assert len(play.status.model_dump_json(by_alias=True, exclude_none=True)) < 300_000


def test_a_hostile_message_can_not_break_the_status() -> None:
    play = Play(a_spec())
    play.step()
    play.succeed(message="x" * 5000 + "\x1b[31m")

    message = play.status.jobs[0].message
    assert message is not None
    assert len(message) <= 1024
    assert "\x1b" not in message


# Failures


def test_a_failed_hook_fails_the_experiment_in_its_own_words_and_the_later_jobs_are_skipped() -> None:
    play = played(four_jobs(), "succeed", "fail")

    status = play.status
    assert play.jobs == [
        "Succeeded: Completed",
        "Failed: UserError",
        "Skipped: EarlierJobFailed",
        "Skipped: EarlierJobFailed",
    ]
    assert status.jobs[1].message == "ValueError: it broke"
    assert status.jobs[3].message == "anonymous/1/refine/0 (analysis) failed"
    assert (status.outcome, status.progress) == ("Failed", "1/4")
    assert condition(status, "Ready") == "False: UserError"
    assert condition(status, "Stalled") == "True: UserError"
    ready = next(c for c in status.conditions if c.type == "Ready")
    assert ready.message == (
        "anonymous/1/refine/0 (RefineRecipeViaKSigmaHook, analysis) failed: ValueError: it broke; 2 later jobs skipped"
    )
    assert not created(play.plans[-1])
    assert play.plans[-1].urgent
    assert [(event.type, event.reason) for event in play.plans[-1].events] == [("Warning", "UserError")]


def test_a_failure_within_its_budget_is_tried_again_after_the_wait() -> None:
    play = Play(two_jobs(retry={"user": 1}))
    play.step()
    failing = play.fail()
    first = play.status.jobs[0]
    assert (first.state, first.reason, first.attempts) == ("Pending", "Backoff", 1)
    assert first.failures is not None
    assert first.failures.user == 1
    assert "it broke" in (first.message or "")
    assert not created(failing)
    assert failing.urgent
    assert [event.reason for event in failing.events] == ["UserError"]

    assert not created(play.step(after=1))
    (second,) = created(play.step(after=15))
    assert second.manifest["metadata"]["name"].endswith("-a2")
    assert play.status.jobs[0].attempts == 2
    assert play.status.jobs[0].retry_at is None

    play.fail()
    assert play.jobs == ["Failed: UserError", "Skipped: EarlierJobFailed"]
    assert play.status.retries == 1


def test_the_plan_comes_back_when_the_wait_is_over() -> None:
    play = Play(two_jobs(retry={"user": 1, "backoff": "1m"}))
    play.step()
    wait = play.fail().requeue_after
    assert wait is not None
    assert 48 <= wait <= 72
    left = play.step(after=20).requeue_after
    assert left is not None
    assert wait - 21 <= left <= wait - 20


def test_a_failure_counts_once_however_often_it_is_seen() -> None:
    play = Play(two_jobs(retry={"infra": 2}))
    play.step()
    play.fail("Infra", 4)
    failures = [play.step(after=1) and play.status.jobs[0].failures for _ in range(3)]

    assert [f.infra for f in failures if f] == [1, 1, 1]


def test_the_next_attempt_waits_for_the_old_pod() -> None:
    """No two pods of a job at a time: a pod that is only told to go may still write."""
    play = Play(two_jobs(retry={"preempted": 1}))
    play.step()
    job, pod = play.newest
    play.change(jobs=(replace(job, failed="PodFailurePolicy"),), pods=())
    play.step(after=1)
    assert play.status.jobs[0].reason == "Backoff"
    play.change(pods=(replace(pod, **running(), deleting=True),))
    waiting = play.step(after=60)

    assert not created(waiting)
    assert play.status.jobs[0].reason == "WaitingForOldPod"
    play.change(pods=())
    assert len(created(play.step(after=1))) == 1


def test_a_pod_on_a_lost_node_is_not_waited_for_for_ever() -> None:
    play = Play(two_jobs(timeouts={"nodeLost": "5m"}))
    play.step()
    play.step()
    play.pod(**running(), deleting=True, deleting_since=written(NOW))
    play.step(after=200)
    assert play.status.jobs[0].state == "Running"
    told = "its pod was told to end and has not; the node node-1 does not answer; after timeouts.nodeLost"
    assert play.status.jobs[0].message == f"{told} the attempt is given up"
    assert told in play.status.conditions[0].message
    assert 99 <= (play.plans[-1].requeue_after or 0) <= 100

    play.step(after=100)
    assert play.jobs[0] == "Pending: Backoff"
    assert len(created(play.step(after=30))) == 1


def test_a_hook_that_does_not_end_when_its_time_is_over_is_ended_from_outside() -> None:
    """It holds the interpreter's lock, say, or is a program that never looks at its time."""
    play = Play(two_jobs(timeouts={"active": "10s", "pending": "1h"}, retry={"user": 1}))
    play.step()
    play.pod(**running(play.now))
    play.step(after=1)
    assert 98 <= (play.plans[-1].requeue_after or 0) <= 100
    play.step(after=98)
    assert play.status.jobs[0].state == "Running"
    step = play.step(after=2)

    assert play.jobs[0] == "Pending: Backoff"
    assert "(timeouts.active: 10 s) and did not end" in str(play.status.jobs[0].message)
    assert play.status.jobs[0].failures is not None
    assert play.status.jobs[0].failures.user == 1
    assert step.actions == (DeleteJob(play.snapshot.jobs[0].name),)
    play.step(after=30)
    assert created(play.plans[-1]) == [], "its pod has not gone"
    play.change(jobs=(), pods=())
    assert len(created(play.step(after=1))) == 1


def test_a_result_that_comes_in_time_after_all_counts() -> None:
    play = Play(two_jobs(timeouts={"active": "10s"}))
    play.step()
    play.pod(**running(play.now))
    play.step(after=1)
    play.succeed()

    assert play.jobs[0] == "Succeeded: Completed"


def test_pods_that_have_ended_do_not_keep_a_deleted_claim() -> None:
    """Kubernetes keeps a claim while a pod that names it is there, ended or not."""
    play = Play(two_jobs())
    play.step()
    play.succeed()
    first, second = (job.name for job in play.snapshot.jobs)
    done = tuple(replace(job, complete=job.name == first) for job in play.snapshot.jobs)
    play.pod(**running(play.now))
    play.change(jobs=done, claims={"demo-workspace": a_claim(deleting=True)})
    assert play.step(after=1).actions == (DeleteJob(first),), "the hook that runs is left alone"

    play.change(jobs=tuple(job for job in play.snapshot.jobs if job.name == second), pods=play.snapshot.pods[-1:])
    play.succeed()
    play.change(jobs=tuple(replace(job, complete=True) for job in play.snapshot.jobs))
    assert DeleteJob(second) in play.step(after=1).actions, "and after the end as well"


def test_a_deleted_job_is_a_preemption_and_not_the_end() -> None:
    play = Play(two_jobs())
    play.step()
    play.pod(**running())
    play.step(after=1)
    play.change(jobs=(), pods=())
    play.step(after=1)

    assert play.jobs[0] == "Pending: Backoff"
    assert play.status.jobs[0].failures is not None
    assert play.status.jobs[0].failures.preempted == 1


def test_a_pod_that_vanishes_after_hours_of_work_is_no_pending_timeout() -> None:
    """The Job says how it ended a moment later; until then nothing is decided, and nothing goes backwards."""
    play = Play(two_jobs())
    play.step()
    play.pod(**running())
    play.step(after=1)
    play.change(pods=())
    step = play.step(after=5 * 3600)

    assert play.status.jobs[0].state == "Running"
    assert not step.actions
    job, _ = play.snapshot.jobs[0], play.change(jobs=(replace(play.snapshot.jobs[0], failed="BackoffLimitExceeded"),))
    play.step(after=1)
    assert play.jobs[0] == "Pending: Backoff"
    assert job.name == play.status.jobs[0].job_name


def test_out_of_memory_names_the_jobs_own_limit() -> None:
    play = Play(two_jobs(resources={"limits": {"memory": "3Gi"}}))
    play.step()
    play.pod(**ended(137, reason="OOMKilled"))
    play.step(after=1)

    assert play.jobs[0] == "Failed: OutOfMemory"
    assert "limit of 3Gi" in (play.status.jobs[0].message or "")


def test_a_lost_result_is_tried_again_or_not_as_the_job_says() -> None:
    for policy, state in (("Retry", "Pending: Backoff"), ("Fail", "Failed: ResultsLost")):
        play = Play(two_jobs(resultsLost=policy))
        play.step()
        play.pod(**ended(0))
        awaited = play.step(after=1)
        assert play.jobs[0] == "Running: Running"
        assert awaited.requeue_after is not None
        (reader,) = created(play.step(after=130))
        assert play.jobs[0] == "Running: ReadingResult"
        assert reader.manifest["metadata"]["name"] == f"{play.status.jobs[0].job_name}-read"
        play.fail("Infra", 4, "no attempt has left a result")
        assert play.jobs[0] == state


def test_a_result_whose_word_was_lost_is_read_from_the_volume() -> None:
    play = Play(two_jobs())
    play.step()
    play.pod(**ended(0))
    play.step(after=130)
    play.succeed(message="300 rows analysed")

    assert play.jobs == ["Succeeded: Completed", "Pending: Creating"]
    assert play.status.jobs[0].attempts == 1
    assert play.status.jobs[0].failures is None


def test_a_pod_that_waits_too_long_ends_the_experiment_and_goes() -> None:
    play = Play(two_jobs(timeouts={"pending": "5m"}))
    play.step()
    play.pod(unschedulable="1 Insufficient memory", node=None)
    early = play.step(after=299)
    assert early.requeue_after is not None
    assert early.requeue_after <= 10
    step = play.step(after=10)

    assert play.jobs == ["Failed: PendingTimeout", "Skipped: EarlierJobFailed"]
    assert "1 Insufficient memory" in (play.status.jobs[0].message or "")
    assert step.actions == (DeleteJob(play.snapshot.jobs[0].name),)


def test_a_job_of_which_nothing_is_heard_is_looked_at_again_and_given_up_in_the_end() -> None:
    """Its controller is down: no pod, no Event, nothing that would wake anybody."""
    play = Play(a_spec(timeouts={"pending": "1m"}))
    step = play.step()
    for _ in range(20):
        if play.status.completion_time is not None:
            break
        assert step.requeue_after, "somebody has to look again"
        play.change(pods=())
        step = play.step(after=step.requeue_after)
    assert "Failed: PendingTimeout" in play.jobs


def test_a_job_given_up_is_deleted_even_after_a_crash_before_the_deletion() -> None:
    play = Play(two_jobs(timeouts={"pending": "5m"}))
    play.step()
    play.pod(unschedulable="1 Insufficient memory", node=None)
    play.step(after=301)
    name = play.snapshot.jobs[0].name

    assert plan(play.snapshot, play.now).actions == (DeleteJob(name),)
    forgotten = replace(play.snapshot, spec={})  # a settled experiment's spec is dropped from the cache
    assert plan(forgotten, play.now).actions == (DeleteJob(name),)
    going = replace(play.snapshot, jobs=(replace(play.snapshot.jobs[0], deleting=True),))
    assert plan(going, play.now).actions == ()


# What the API server refuses


def test_a_final_refusal_of_the_job_fails_the_experiment() -> None:
    play = Play(two_jobs())
    step = play.step()
    (name,) = (job.manifest["metadata"]["name"] for job in created(step))
    play.change(jobs=(), pods=(), refusals={name: Refusal(Reason.CONFIG_ERROR, "limits < requests", final=True)})
    after = play.step(after=1)

    assert play.jobs == ["Failed: ConfigError", "Skipped: EarlierJobFailed"]
    assert play.status.jobs[0].message == "limits < requests"
    assert not created(after)


def test_a_refusal_that_may_pass_is_told_and_tried_again_until_the_time_is_over() -> None:
    play = Play(two_jobs(timeouts={"pending": "5m"}))
    (job,) = created(play.step())
    name = job.manifest["metadata"]["name"]
    play.change(jobs=(), pods=(), refusals={name: Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota", final=False)})
    again = play.step(after=20)

    assert [j.manifest["metadata"]["name"] for j in created(again)] == [name]
    assert play.jobs[0] == "Pending: QuotaExceeded"
    assert [event.reason for event in again.events] == ["QuotaExceeded"]
    play.change(jobs=(), pods=())
    play.step(after=300)
    assert play.jobs[0] == "Failed: PendingTimeout"


def test_no_job_starts_while_the_claim_is_refused() -> None:
    play = Play(two_jobs())
    refusal = Refusal(Reason.QUOTA_EXCEEDED, "exceeded quota: storage", final=False)
    play.change(refusals={"demo-workspace": refusal})
    step = play.step()

    assert [type(action) for action in step.actions] == [CreateClaim]
    assert condition(step.status, "Ready") == "False: ClaimRefused"


# Suspension


def test_suspension_lets_the_running_hook_end_and_starts_no_other() -> None:
    play = Play(two_jobs())
    play.step()
    play.pod(**running())
    play.change_spec(suspend=True)
    play.step(after=1)
    assert condition(play.status, "Ready") == "False: Running"
    play.succeed()

    assert play.jobs == ["Succeeded: Completed", "Pending"]
    assert condition(play.status, "Suspended") == "True: Suspended"
    assert condition(play.status, "Reconciling") is None
    assert play.status.outcome == "Running"
    play.change_spec(suspend=False)
    assert len(created(play.step(after=1))) == 1
    assert condition(play.status, "Suspended") is None


def test_an_experiment_that_begins_suspended_starts_nothing() -> None:
    step = plan(an_experiment(two_jobs() | {"suspend": True}))

    assert not created(step)
    assert (step.status.outcome, step.status.start_time) == ("Pending", None)
    assert condition(step.status, "Suspended") == "True: Suspended"


def test_a_retry_waits_while_suspended() -> None:
    play = Play(two_jobs(retry={"user": 1}))
    play.step()
    play.fail()
    play.change_spec(suspend=True)

    assert not created(play.step(after=60))
    assert condition(play.status, "Suspended") == "True: Suspended"
    play.change_spec(suspend=False)
    assert len(created(play.step(after=1))) == 1


def test_suspension_holds_a_job_that_is_named_but_not_made_and_its_wait_counts_anew() -> None:
    play = Play(two_jobs(timeouts={"pending": "5m"}))
    play.step()
    play.change(jobs=(), pods=())
    play.change_spec(suspend=True)
    assert not created(play.step(after=1))
    assert condition(play.status, "Suspended") == "True: Suspended"

    play.change_spec(suspend=False)
    (job,) = created(play.step(after=3600))
    assert job.manifest["metadata"]["name"].endswith("-a1")
    play.step(after=299)
    assert play.jobs[0].startswith("Pending")
    play.step(after=10)
    assert play.jobs[0] == "Failed: PendingTimeout"


# Specs that can't be run


def test_an_invalid_spec_starts_nothing_and_says_everything() -> None:
    spec = a_spec(probes=[probe(hook="Nope"), probe(pod="big")])
    step = plan(an_experiment(spec))

    assert not step.actions
    assert condition(step.status, "Stalled") == "True: InvalidSpec"
    ready = next(c for c in step.status.conditions if c.type == "Ready").message
    assert ready.startswith("2 problems: (1) spec.probeJobConfigs[0].hook: ")
    assert "(2) spec.probeJobConfigs[1].pod: " in ready
    assert (step.status.outcome, step.status.jobs, step.status.start_time) == ("Pending", [], None)
    assert [(event.type, event.reason) for event in step.events] == [("Warning", "InvalidSpec")]


def test_an_invalid_spec_is_told_once() -> None:
    snapshot = an_experiment(a_spec(probes=[probe(hook="Nope")]))
    first = plan(snapshot)
    second = plan(replace(snapshot, status=first.status), later(60))

    assert second.status == first.status
    assert not second.events


def test_a_mended_spec_runs() -> None:
    play = Play(a_spec(probes=[probe(hook="Nope")]))
    play.step()
    play.change_spec(probeJobConfigs=[probe()])

    assert len(created(play.step(after=1))) == 1
    assert condition(play.status, "Stalled") is None
    assert play.status.observed_generation == 2


def test_a_spec_that_becomes_invalid_leaves_the_running_hook_and_loses_nothing() -> None:
    play = Play(two_jobs())
    play.step()
    play.pod(**running())
    play.step(after=1)
    before = play.status.jobs
    play.change_spec(rerun={"token": "2", "from": "nobody"})  # may change while it runs, but names no job
    step = play.step(after=1)
    assert not step.actions
    assert step.status.jobs == before
    assert condition(step.status, "Ready") == "False: InvalidSpec"

    del play.snapshot.spec["rerun"]
    play.change(generation=3)
    play.succeed()
    assert play.jobs[0] == "Succeeded: Completed"


def test_an_image_that_nobody_named_is_a_problem_of_the_spec() -> None:
    step = plan(an_experiment(), defaults=Defaults())

    assert next(c for c in step.status.conditions if c.type == "Ready").message == (
        "spec.images.data: the operator has no such image; set it here, or images.data in the chart's values"
    )


def test_a_program_without_the_runtime_needs_an_image_that_reads_its_results() -> None:
    """Else a result whose message was lost could not be looked for, which would be found out too late."""
    raw = replace(HOOKS["ProbeViaAnalyzerHook"], name="mine", image="mine", image_reference="mine:1", command=("/run",))
    snapshot = an_experiment(a_spec(probes=[probe(hook="mine")]))

    step = plan_experiment(snapshot, compile_spec(snapshot.spec, {"mine": raw}), Defaults(), NOW)
    assert next(c for c in step.status.conditions if c.type == "Ready").message.startswith("spec.images.data: ")
    assert not created(step)


def test_what_an_image_meant_at_the_start_it_means_to_the_end() -> None:
    play = Play(two_jobs())
    play.step()
    upgraded = Defaults(images={"data": "registry.example.com/data:2"})
    play.succeed()
    step = plan(replace(play.snapshot, jobs=play.snapshot.jobs[:1], pods=()), play.now, upgraded)

    (job,) = created(step)
    assert job.manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.com/data:1"


def test_an_experiment_keeps_the_contract_that_its_images_read() -> None:
    play = Play(two_jobs())
    play.step()
    play.succeed()
    snapshot = replace(play.snapshot, jobs=play.snapshot.jobs[:1], pods=())
    assert snapshot.status.resolved is not None
    assert snapshot.status.resolved.contract == CONTRACT_VERSION
    older = snapshot.status.resolved.model_copy(update={"contract": CONTRACT_VERSION - 1})
    step = plan(replace(snapshot, status=snapshot.status.model_copy(update={"resolved": older})), play.now)

    (job,) = created(step)
    environment = job.manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    (told,) = (entry["value"] for entry in environment if entry["name"] == CONTRACT_ENV)
    assert decode_contract(told).version == CONTRACT_VERSION - 1
    assert step.status.resolved == older


def test_an_image_of_the_spec_wins_over_the_operators() -> None:
    (job,) = created(plan(an_experiment(a_spec(images={"data": "mine:1"}))))

    assert job.manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "mine:1"


def test_a_warning_about_the_spec_is_said_when_it_is_new() -> None:
    play = Play(a_spec(executions=[probe()]))
    first, second = play.step(), play.step()

    assert [event.reason for event in first.events] == ["SpecWarning"]
    assert not second.events


# The end


def test_a_finished_experiment_does_nothing_for_ever() -> None:
    play = played(two_jobs(), "succeed", "succeed")
    finished = play.status
    play.change(jobs=(), pods=(), claims={}, warnings=())  # even when everything else has gone
    step = play.step(after=10**8)

    assert step.status == finished
    assert (step.actions, step.events, step.requeue_after) == ((), (), None)


def test_finished_jobs_go_after_their_time_and_not_before() -> None:
    play = played(two_jobs() | {"ttlSecondsAfterFinished": 100}, "succeed", "succeed")
    early = play.step(after=40)
    late = play.step(after=60)

    assert not early.actions
    assert early.requeue_after == 60
    assert late.actions == (DeleteFinishedJobs(),)
    play.change(jobs=(), pods=())
    assert not play.step(after=1).actions


def test_jobs_stay_where_nobody_set_a_time() -> None:
    play = played(two_jobs(), "succeed", "succeed")

    assert not play.step(after=10**8).actions


def test_retention_may_change_after_the_end() -> None:
    play = played(two_jobs(), "succeed", "succeed")
    play.change_spec(workspace={"claim": {"size": "1Gi"}, "retention": "Delete"})
    step = play.step(after=1)

    assert [type(action) for action in step.actions] == [PatchClaim]
    assert step.status.outcome == "Succeeded"
    assert step.status.observed_generation == 2


def test_what_can_not_be_done_to_a_finished_experiment_is_said_and_its_results_stay() -> None:
    play = played(two_jobs(), "succeed", "succeed")
    finished = play.status
    play.change_spec(rerun={"token": "2", "from": "nobody"})
    step = play.step(after=1)

    assert step.status.jobs == finished.jobs
    assert (step.status.outcome, step.status.completion_time) == ("Succeeded", finished.completion_time)
    assert condition(step.status, "Ready") == "False: InvalidSpec", "what the column Reason shows"
    assert condition(step.status, "Stalled") == "True: InvalidSpec"
    assert condition(step.status, "Succeeded") == "True: Succeeded"
    assert [event.reason for event in step.events] == ["InvalidSpec"]
    assert play.step(after=1).status == step.status
    del play.snapshot.spec["rerun"]
    play.change(generation=3)
    play.step(after=1)
    assert [(c.type, c.status, c.reason, c.message) for c in play.status.conditions] == [
        (c.type, c.status, c.reason, c.message) for c in finished.conditions
    ]


def test_a_failed_experiment_says_again_why_it_failed_once_the_wish_for_another_run_is_mended() -> None:
    play = played(two_jobs(), "fail")
    failed = {c.type: (c.status, c.reason, c.message) for c in play.status.conditions}
    play.change_spec(rerun={"token": "2", "from": "nobody"})
    play.step(after=1)
    assert condition(play.status, "Stalled") == "True: InvalidSpec"
    assert condition(play.status, "Succeeded") == "False: UserError"
    del play.snapshot.spec["rerun"]
    play.change(generation=3)
    play.step(after=1)

    assert {c.type: (c.status, c.reason, c.message) for c in play.status.conditions} == failed


def test_what_a_finished_experiment_could_not_do_now_is_of_no_matter_where_nobody_asks_for_it() -> None:
    """Its own hook may have been deleted since, say."""
    play = Play(a_spec(probes=[probe(), lister()]))
    for _ in range(3):
        play.step()
        if play.status.completion_time is None:
            play.succeed()
    play.change_spec(ttlSecondsAfterFinished=10**6)
    play.compiled[2] = compile_spec(play.snapshot.spec)
    assert play.compiled[2].problems
    play.step(after=1)

    assert (condition(play.status, "Ready"), play.status.observed_generation) == ("True: Succeeded", 2)


def test_an_experiment_that_is_being_deleted_is_left_alone() -> None:
    fresh = an_experiment(two_jobs(), deleting=True)
    assert plan(fresh).actions == ()
    assert plan(fresh).status == fresh.status
    assert not plan(fresh).urgent

    play = Play(two_jobs())
    play.step()
    before = play.status
    play.change(deleting=True)
    play.succeed()
    assert play.plans[-1].actions == ()
    assert play.status == before


def test_results_in_the_status_count_when_their_jobs_have_gone() -> None:
    play = played(four_jobs(), "succeed", "succeed")
    play.change(jobs=play.snapshot.jobs[-1:], pods=play.snapshot.pods[-1:])
    step = play.step(after=1)

    assert not created(step)
    assert [job.state for job in step.status.jobs[:2]] == ["Succeeded", "Succeeded"]


def test_a_stored_status_comes_back_the_same() -> None:
    """What is written must be read as it was meant, or every look would write again."""
    for outcomes in ((), ("succeed",), ("succeed", "succeed"), ("fail",)):
        play = played(two_jobs(retry={"user": 1}), *outcomes)
        stored = play.status.model_dump(mode="json", exclude_none=True)
        assert ExperimentStatus.model_validate(stored) == play.status


@pytest.mark.parametrize("waiting", ["ErrImagePull", "ContainerCreating", "CreateContainerConfigError", None])
def test_every_state_of_a_pod_gives_a_plan_that_says_something(waiting: str | None) -> None:
    play = Play(two_jobs())
    play.step()
    play.pod(hook=ContainerFact(waiting_reason=waiting))
    play.step(after=1)

    assert play.status.jobs[0].reason
    assert play.status.jobs[0].state not in FINISHED_STATES
