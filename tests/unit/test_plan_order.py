# SPDX-License-Identifier: Apache-2.0
"""What comes after what: lists, dependsOn, pipelines, stages of one's own, and what a failure means for others."""

from typing import Any

import pytest
from tests.unit.builders import Play, a_spec, created, four_jobs, lists, pipelines, probe, process

from sandbox_operator.plan.compile import compile_spec

DATA = {"djConfigs.dataset_path": "anonymous.y.dataset"}


def after(spec: dict[str, Any]) -> dict[str, list[str]]:
    compiled = compile_spec(spec)
    assert compiled.problems == ()
    names = {job.id: f"{job.pipeline}.{job.meta_name}" for job in compiled.jobs}
    return {names[job.id]: [names[other] for other in job.after] for job in compiled.jobs}


def named(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [process(metaName=name, **more) for name in names]


def test_jobs_of_a_list_and_lists_follow_one_another() -> None:
    spec = a_spec(probes=[probe(metaName="a")], executions=named("b", "c"), evaluations=[probe(metaName="d")])

    assert after(spec) == {
        "anonymous.a": [], "anonymous.b": ["anonymous.a"], "anonymous.c": ["anonymous.b"],
        "anonymous.d": ["anonymous.c"],
    }  # fmt: skip


def test_jobs_that_depend_on_nothing_in_their_list_run_side_by_side_and_the_next_list_waits_for_all() -> None:
    spec = a_spec(
        probes=[probe(metaName="a")], executions=named("b", "c", "d", dependsOn=[]), evaluations=[probe(metaName="e")]
    )

    assert after(spec) == {
        "anonymous.a": [], "anonymous.b": ["anonymous.a"], "anonymous.c": ["anonymous.a"],
        "anonymous.d": ["anonymous.a"], "anonymous.e": ["anonymous.b", "anonymous.c", "anonymous.d"],
    }  # fmt: skip


def test_a_job_without_depends_on_comes_after_all_that_are_written_before_it_in_its_list() -> None:
    spec = a_spec(executions=[*named("a"), *named("b", dependsOn=[]), *named("c"), *named("d", dependsOn=["a"])])

    assert after(spec)["anonymous.c"] == ["anonymous.a", "anonymous.b"]
    assert after(spec)["anonymous.d"] == ["anonymous.a"]


def test_an_input_is_waited_for_whatever_depends_on_says() -> None:
    spec = a_spec(executions=[*named("y", dependsOn=[]), *named("z", dependsOn=[], input=DATA)])

    assert after(spec)["anonymous.z"] == ["anonymous.y"]


def test_pipelines_follow_one_another_and_so_do_stages_of_ones_own() -> None:
    spec = pipelines(
        {"name": "one", **lists(executions=named("a"))},
        {"name": "two", "stages": [{"name": "collect", "jobConfigs": named("b", "c", dependsOn=[])},
                                   {"name": "clean", "jobConfigs": named("d")}]},
    )  # fmt: skip

    assert after(spec) == {
        "one.a": [], "two.b": ["one.a"], "two.c": ["one.a"], "two.d": ["two.b", "two.c"],
    }  # fmt: skip
    assert [job.id for job in compile_spec(spec).jobs] == [
        "one/1/execution/0", "two/1/collect/0", "two/1/collect/1", "two/1/clean/0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (
            a_spec(executions=[*named("first"), *named("z", dependsOn=["frist"])]),
            "spec.executionJobConfigs[1].dependsOn[0]: no job before this one in the pipeline has the metaName or id"
            " 'frist'; did you mean 'first'?",
        ),
        (
            a_spec(executions=[*named("a", dependsOn=["b"]), *named("b", dependsOn=["a"])]),
            "spec.executionJobConfigs[0].dependsOn[0]: 'b' (spec.executionJobConfigs[1]) stands after this job; put it"
            " first, or leave it out",
        ),
        (
            a_spec(probes=[probe(dependsOn=["anonymous/1/execution/0"])], executions=named("a")),
            "spec.probeJobConfigs[0].dependsOn[0]: 'anonymous/1/execution/0' (spec.executionJobConfigs[0]) stands after"
            " this job; put it first, or leave it out",
        ),
        (
            a_spec(executions=named("a", dependsOn=["a"])),
            "spec.executionJobConfigs[0].dependsOn[0]: 'a' is this job itself; leave it out",
        ),
        (
            a_spec(executions=[*named("y"), *named("z", dependsOn=[], input={"djConfigs": "-1.dataset"})]),
            "spec.executionJobConfigs[1].input[\"djConfigs\"]: '-1.dataset' means the job before this one, which"
            " dependsOn leaves open; write <pipeline>.<metaName>.<output>",
        ),
        (
            pipelines({"name": "a", **lists(executions=named("x"))}, {"name": "a", **lists(executions=named("x"))}),
            "spec.pipelines[1].name: 'a' is already another pipeline; take another",
        ),
        (
            pipelines(
                {"name": "a", **lists(executions=named("x")), "stages": [{"name": "s", "jobConfigs": named("y")}]}
            ),
            "spec.pipelines[0].stages: give either the four job lists or stages, not both;"
            " there is executionJobConfigs",
        ),
    ],
)
def test_an_order_that_can_not_be_is_told(spec: dict[str, Any], sentence: str) -> None:
    assert sentence in compile_spec(spec).problems


def side_by_side(**more: Any) -> dict[str, Any]:
    executions = [*named("x", dependsOn=[], **more), *named("y", dependsOn=[])]
    return a_spec(
        probes=[probe(metaName="a")],
        executions=executions,
        evaluations=[
            probe(metaName="of_x", input={"djConfigs.dataset_path": "anonymous.x.dataset"}),
            probe(metaName="of_y", input={"djConfigs.dataset_path": "anonymous.y.dataset"}),
        ],
    )


X, Y = "anonymous/1/execution/0", "anonymous/1/execution/1"
OF_X, OF_Y = "anonymous/1/evaluation/0", "anonymous/1/evaluation/1"


def test_independent_jobs_start_in_one_round() -> None:
    play = Play(side_by_side())
    play.step()
    step = play.succeed()

    assert len(created(step)) == 2
    play.run_in(X, Y)
    ready = next(c for c in play.status.conditions if c.type == "Ready")
    assert ready.message.startswith("2 jobs are running: anonymous/1/execution/0 (ProcessDataHook, x), ")
    assert play.status.workspace is not None
    assert play.status.workspace.placement == "ReadWriteMany: jobs may run at the same time on any nodes"


def test_a_failure_starts_nothing_more_and_lets_what_runs_go_on() -> None:
    play = Play(side_by_side())
    play.step()
    play.succeed()
    play.run_in(X, Y)
    play.fail_in(X)
    assert play.states()[Y] == "Running: Running"
    assert play.status.completion_time is None
    ready = next(c for c in play.status.conditions if c.type == "Ready")
    assert "it ends after that, because anonymous/1/execution/0 (ProcessDataHook, x) failed" in ready.message

    play.succeed_in(Y)
    assert play.states() == {
        "anonymous/1/probe/0": "Succeeded: Completed", X: "Failed: UserError", Y: "Succeeded: Completed",
        OF_X: "Skipped: EarlierJobFailed", OF_Y: "Skipped: EarlierJobFailed",
    }  # fmt: skip
    assert play.status.outcome == "Failed"


def test_what_fails_beside_a_failure_is_not_tried_again() -> None:
    play = Play(side_by_side(retry={"user": 3}) | {"retry": {"user": 3}})
    play.step()
    play.succeed()
    play.run_in(X, Y)
    play.fail_in(X, "Config", 2)
    play.fail_in(Y)

    assert play.states()[Y] == "Failed: UserError"
    assert play.status.outcome == "Failed"


def test_a_job_that_may_fail_lets_the_others_go_on_but_those_that_read_its_results() -> None:
    play = Play(side_by_side(onFailure="Continue"))
    play.step()
    play.succeed()
    play.fail_in(X)
    play.succeed_in(Y)
    play.succeed_in(OF_Y)

    assert play.states()[OF_X] == "Skipped: InputUnavailable"
    assert play.states()[OF_Y] == "Succeeded: Completed"
    assert play.status.outcome == "Succeeded"
    ready = next(c for c in play.status.conditions if c.type == "Ready")
    assert ready.message.startswith("3 jobs done in ")
    assert ready.message.endswith("; 1 failed and passed over; 1 skipped")


def test_where_nothing_was_done_passing_over_is_no_success() -> None:
    play = Play(a_spec(probes=[probe(onFailure="Continue")]))
    play.step()
    play.fail()

    assert play.status.progress == "0/1"
    assert play.status.outcome == "Failed"
    assert "no job was done: 0 jobs done" in next(c.message for c in play.status.conditions if c.type == "Ready")


def test_a_policy_of_a_stage_holds_for_its_jobs_that_do_not_say_otherwise() -> None:
    for job, outcome in (({}, "Succeeded"), ({"onFailure": "Fail"}, "Failed")):
        spec = four_jobs(onFailure={"evaluation": "Continue"})
        spec["evaluationJobConfigs"][0] |= job
        play = Play(spec)
        play.step()
        for _ in range(3):
            play.succeed()
        play.fail()

        assert play.status.outcome == outcome
