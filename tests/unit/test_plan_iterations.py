# SPDX-License-Identifier: Apache-2.0
"""Iterations: targets, what one hands to the next, and how they end."""

from typing import Any

import pytest
from tests.unit.builders import Play, a_spec, contract_of, created, probe, process

from sandbox_operator.plan.compile import compile_spec

TARGET = "anonymous.p.rows_out >= 100"


def looping(**more: Any) -> dict[str, Any]:
    return a_spec(
        probes=[probe(metaName="a")],
        executions=[process(metaName="p", input={"djConfigs.dataset_path": "anonymous.a.stats"})],
        **{"maxIterNum": 3, "iterTargets": [TARGET], **more},
    )


def iterate(play: Play, rows: float | None) -> None:
    play.succeed()
    play.succeed(metrics={"p.rows_out": rows} if rows is not None else {})


def message(play: Play) -> str:
    return next(c.message for c in play.status.conditions if c.type == "Ready")


def test_an_iteration_that_misses_its_target_is_followed_by_the_next() -> None:
    play = Play(looping())
    step = play.step()
    assert contract_of(created(step)[0]).publish_under == "iter_1"
    iterate(play, 10)

    assert play.status.iteration == 2
    assert [job.id for job in play.status.jobs] == ["anonymous/2/probe/0", "anonymous/2/execution/0"]
    assert [result.id for result in play.status.history or []] == ["anonymous/1/probe/0", "anonymous/1/execution/0"]
    contract = contract_of(created(play.plans[-1])[0])
    assert (contract.job.id, contract.publish_under) == ("anonymous/2/probe/0", "iter_2")
    assert contract.needs == []
    iterate(play, 100)
    assert play.status.outcome == "Succeeded"
    assert message(play).endswith("; targets met after 2 iterations")


def test_they_end_after_so_many_whatever_the_targets_say() -> None:
    play = Play(looping())
    play.step()
    for rows in (1, None, 3):
        iterate(play, rows)

    assert play.status.outcome == "Succeeded"
    assert play.status.iteration == 3
    assert message(play).endswith("; targets not met after 3 iterations")


def test_without_a_limit_they_go_on_until_the_target_is_met() -> None:
    play = Play(looping(maxIterNum=0))
    play.step()
    for _ in range(6):
        iterate(play, 1)
    assert play.status.iteration == 7
    iterate(play, 500)
    assert play.status.outcome == "Succeeded"


def test_without_a_limit_a_target_that_is_no_number_ends_them_and_is_named() -> None:
    play = Play(looping(maxIterNum=0))
    play.step()
    iterate(play, 1)
    iterate(play, None)

    assert (play.status.outcome, play.status.iteration) == ("Succeeded", 2)
    assert f"anonymous/1/execution/0 gave no number for the target '{TARGET}'" in message(play)


def test_what_reads_a_result_that_the_iteration_before_has_not_got_is_skipped() -> None:
    update = {"anonymous.p.dataset": "anonymous.a.djConfigs.dataset_path"}
    spec = looping(iterUpdater=update, maxIterNum=2, retry={"user": 0})
    spec["executionJobConfigs"][0]["onFailure"] = "Continue"
    play = Play(spec)
    play.step()
    play.succeed()
    play.fail()

    assert play.status.iteration == 2
    assert play.states()["anonymous/2/probe/0"] == "Skipped: InputUnavailable"
    assert "anonymous/1/execution/0, whose result it reads, has none" in (play.status.jobs[0].message or "")
    assert play.status.completion_time is not None


def test_reruns_never_push_out_what_the_iteration_before_hands_over() -> None:
    update = {"anonymous.p.dataset": "anonymous.a.djConfigs.dataset_path"}
    play = Play(looping(iterUpdater=update, maxIterNum=2))
    play.step()
    iterate(play, 1)
    for token in range(140):
        for job in "ap":
            play.succeed(path=f"experiments/x/{job}/{token}.json")
        play.change_spec(rerun={"token": str(token), "from": "a"})
        play.step(after=10)
        assert play.states()["anonymous/2/probe/0"] == "Pending: Creating"
    earlier = [result.id for result in play.status.history or []]

    assert len(earlier) == 256
    assert earlier.count("anonymous/1/execution/0") == 1


@pytest.mark.parametrize(("mode", "iterations"), [("all", 2), ("any", 1)])
def test_all_targets_or_any_of_them(mode: str, iterations: int) -> None:
    play = Play(looping(iterTargets=[TARGET, "anonymous.p.rows_in < 5"], iterTargetsMode=mode, maxIterNum=2))
    play.step()
    iterate(play, 100)

    assert play.status.iteration == iterations


def test_what_one_iteration_made_configures_the_next() -> None:
    update = {"anonymous.p.dataset": "anonymous.a.djConfigs.dataset_path"}
    play = Play(looping(iterUpdater=update))
    first = contract_of(created(play.step())[0])
    assert first.inputs == {}
    play.succeed()
    play.succeed(outputs={"dataset": "experiments/x/d"}, path="experiments/x/result.json")
    second = contract_of(created(play.plans[-1])[0])

    reference = second.inputs["djConfigs.dataset_path"]
    assert not isinstance(reference, list)
    assert (reference.job, reference.output) == ("anonymous/1/execution/0", "dataset")
    assert reference.result_path == "experiments/x/result.json"
    for _ in range(3):
        iterate(play, 1)
    assert play.status.iteration == 3


def test_a_failure_ends_the_iterations() -> None:
    play = Play(looping())
    play.step()
    play.succeed()
    play.fail()

    assert (play.status.outcome, play.status.iteration) == ("Failed", 1)


def test_figures_that_decide_are_kept_first_and_named_to_the_pod() -> None:
    play = Play(looping())
    play.step()
    (job,) = created(play.succeed())
    assert contract_of(job).needs == ["rows_out"]
    assert contract_of(job).needed == ("rows_out", "p.rows_out", "p.refineRecipe.rows_out"), "as the runtime names it"
    play.succeed(metrics={**{f"p.other{n}": 1.0 for n in range(40)}, "p.rows_out": 10.0})

    assert (play.status.history or [])[-1].metrics is not None
    assert "p.rows_out" in ((play.status.history or [])[-1].metrics or {})


def test_the_history_is_bounded_and_never_loses_the_iteration_before() -> None:
    play = Play(looping(maxIterNum=0))
    play.step()
    for _ in range(140):
        iterate(play, 1)

    history = [result.id for result in play.status.history or []]
    assert len(history) == 256
    assert history[-2:] == ["anonymous/140/probe/0", "anonymous/140/execution/0"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"iterTargets": ["anonymous.p.rows_out => 1"]},
            "spec.iterTargets[0]: 'anonymous.p.rows_out => 1' is not a target; write <pipeline>.<metaName>.<figure> <op>"
            " <number>, with one of ==, >=, <=, >, <",
        ),
        (
            {"iterTargets": ["anonymous.p.rows_out >= __import__('os')"]},
            "spec.iterTargets[0]: \"anonymous.p.rows_out >= __import__('os')\" is not a target; write"
            " <pipeline>.<metaName>.<figure> <op> <number>, with one of ==, >=, <=, >, <",
        ),
        (
            {"iterTargets": ["anonymous.p.dataset > 1"]},
            "spec.iterTargets[0]: 'anonymous.p.dataset' is a path, no number; name one of the job's figures; there is:"
            " anonymous.p.rows_in, anonymous.p.rows_out, anonymous.p.ops.*.rows_in, anonymous.p.ops.*.rows_out,"
            " anonymous.p.ops.*.short (* is any"
            " text)",
        ),
        (
            {"iterTargets": ["anonymous.q.rows_out > 1"]},
            "spec.iterTargets[0]: no job has the metaName 'q' in the pipeline 'anonymous'; did you mean 'anonymous.p'?",
        ),
        (
            {"iterTargets": ["anonymous.p.rows > 1"]},
            "spec.iterTargets[0]: no job named 'p' has a figure 'rows'; did you mean 'anonymous.p.rows_in'?",
        ),
        (
            {"iterTargets": ["anonymous.a.text_len.median > 1"]},
            "spec.iterTargets[0]: no job named 'a' has a figure 'text_len.median'; there is: anonymous.a.rows,"
            " anonymous.a.*.count, anonymous.a.*.mean,",
        ),
        (
            {"iterTargets": ["-1.rows_out > 1"]},
            "spec.iterTargets[0]: '-1.rows_out' does not name a job's result; write <pipeline>.<metaName>.<figure>, e.g."
            " anonymous.p.rows_out",
        ),
        (
            {"iterTargets": ["rows_out > 1"]},
            "spec.iterTargets[0]: 'rows_out' does not name a job's result; write <pipeline>.<metaName>.<figure>, e.g."
            " anonymous.p.rows_out",
        ),
        (
            {"iterUpdater": {"-1.dataset": "anonymous.a.djConfigs"}},
            "spec.iterUpdater[\"-1.dataset\"]: '-1.dataset' does not name a job's result; write"
            " <pipeline>.<metaName>.<output>, e.g. anonymous.p.dataset",
        ),
        (
            {"iterUpdater": {"anonymous.p.datset": "anonymous.a.djConfigs"}},
            "spec.iterUpdater[\"anonymous.p.datset\"]: no job named 'p' has an output 'datset'; did you mean"
            " 'anonymous.p.dataset'?",
        ),
        (
            {"maxIterNum": 0, "iterTargets": None},
            "spec.maxIterNum: 0 is without limit and needs iterTargets; set targets, or a number of iterations",
        ),
        (
            {"iterUpdater": {"anonymous.p.dataset": "anonymous.a"}},
            "spec.iterUpdater[\"anonymous.p.dataset\"]: 'anonymous.a' is no place; write"
            " <pipeline>.<metaName>.djConfigs or <pipeline>.<metaName>.extraConfigs.<key>",
        ),
        (
            {"iterUpdater": {"anonymous.p.dataset": "anonymous.b.djConfigs"}},
            'spec.iterUpdater["anonymous.p.dataset"]: no job is named anonymous.b; did you mean',
        ),
        (
            {"iterUpdater": {"anonymous.p.dataset": "anonymous.p.djConfigs.dataset_path"}},
            'spec.iterUpdater["anonymous.p.dataset"]: spec.executionJobConfigs[0].input["djConfigs.dataset_path"] fills'
            " the same place; leave one of them out",
        ),
        (
            {"iterUpdater": {"anonymous.p.dataset": "anonymous.a.djConfigs.process.9"}},
            'spec.iterUpdater["anonymous.p.dataset"]: spec.probeJobConfigs[0].djConfigs.process.9 does not exist; the list',
        ),
        (
            {"iterUpdater": {"anonymous.p.dataset": "anonymous.a.djConfigs.dataset_pat"}},
            'spec.iterUpdater["anonymous.p.dataset"]: spec.probeJobConfigs[0].djConfigs.dataset_pat: Data-Juicer',
        ),
        (
            {"iterUpdater": {"anonymous.a.rows": "anonymous.a.djConfigs"}},
            "spec.iterUpdater[\"anonymous.a.rows\"]: 'rows' is a number; djConfigs needs a configuration",
        ),
    ],
)
def test_what_can_not_be_iterated_is_told_before_anything_starts(more: dict[str, Any], sentence: str) -> None:
    problems = compile_spec(looping(**more)).problems

    assert any(problem.startswith(sentence) for problem in problems), problems
