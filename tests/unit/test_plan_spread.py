# SPDX-License-Identifier: Apache-2.0
"""forEach: how lists become jobs, who reads whose results, and how many are at work at a time."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.builders import Play, a_spec, contract_of, created, lister, lists, pipelines, probe, process, success

from sandbox_operator.plan.compile import compile_spec


def pools(**for_each: Any) -> dict[str, Any]:
    """Train and evaluate each pool, then look at all."""
    return pipelines(
        {"name": "split", **lists(executions=[lister(metaName="pools")])},
        {
            "name": "exps",
            "forEach": {"item": "pool", "in": "split.pools.paths", **for_each},
            **lists(
                executions=[process(metaName="train", input={"djConfigs.dataset_path": "item.pool"})],
                evaluations=[probe(metaName="look", input={"djConfigs.dataset_path": "exps.train.dataset"})],
            ),
        },
        {
            "name": "end",
            **lists(evaluations=[probe(metaName="all", input={"djConfigs.dataset": "exps.train.dataset"})]),
        },
    )


TRAIN = "exps[{}]/1/execution/0"
LOOK = "exps[{}]/1/evaluation/0"


def split_into(play: Play, items: list[str]) -> None:
    play.step()
    play.succeed(outputs={"paths": items})


def test_until_its_list_is_made_one_job_stands_for_all() -> None:
    play = Play(pools())
    play.step()

    assert play.states() == {
        "split/1/execution/0": "Pending: Creating",
        "exps[*]/1/execution/0": "Pending: WaitingForItems",
        "exps[*]/1/evaluation/0": "Pending: WaitingForItems",
        "end/1/evaluation/0": "Pending",
    }
    assert contract_of(created(play.plans[0])[0]).needs == ["paths"]


def test_each_item_runs_its_own_pipeline_and_the_end_waits_for_all() -> None:
    play = Play(pools())
    split_into(play, ["a", "b"])
    assert [job for job in play.states() if "exps" in job] == [
        TRAIN.format(0), LOOK.format(0), TRAIN.format(1), LOOK.format(1),
    ] or set(play.states()) >= {TRAIN.format(0), LOOK.format(1)}  # fmt: skip
    play.succeed_in(TRAIN.format(0))
    assert play.states()[LOOK.format(0)] == "Pending: Creating"
    assert play.states()[TRAIN.format(1)].startswith("Pending")
    assert play.states()["end/1/evaluation/0"] == "Pending"
    play.succeed_in(LOOK.format(0), TRAIN.format(1))
    step = play.succeed_in(LOOK.format(1))

    (last,) = created(step)
    gathered = contract_of(last).inputs["djConfigs.dataset"]
    assert isinstance(gathered, list)
    assert [reference.job for reference in gathered] == [TRAIN.format(0), TRAIN.format(1)]


def test_an_item_of_a_result_is_read_in_the_pod_and_checked_there() -> None:
    play = Play(pools())
    split_into(play, ["a", "b"])
    second = next(action for action in created(play.plans[-1]) if contract_of(action).job.id == TRAIN.format(1))

    reference = contract_of(second).inputs["djConfigs.dataset_path"]
    assert not isinstance(reference, list)
    assert (reference.job, reference.output, reference.element) == ("split/1/execution/0", "paths", 1)
    assert contract_of(second).job.pipeline_item == 1
    assert contract_of(second).publish_under == "item_1"


def test_so_many_items_are_at_work_as_max_parallel_says() -> None:
    play = Play(pools(maxParallel=2))
    split_into(play, ["a", "b", "c"])
    assert play.states()[TRAIN.format(2)] == "Pending"
    play.succeed_in(TRAIN.format(0))  # the item goes on with its evaluation
    assert play.states()[TRAIN.format(2)] == "Pending"
    play.succeed_in(LOOK.format(0))
    assert play.states()[TRAIN.format(2)] == "Pending: Creating"


def test_an_empty_list_makes_no_job_and_the_rest_goes_on() -> None:
    play = Play(pools())
    split_into(play, [])

    assert list(play.states()) == ["split/1/execution/0", "end/1/evaluation/0"]
    (last,) = created(play.plans[-1])
    assert contract_of(last).inputs["djConfigs.dataset"] == []


def test_a_list_that_is_empty_gives_other_pipelines_items_nothing_to_read() -> None:
    each = {"item": "k", "in": ["x", "y"]}
    spec = pools()
    reader = probe(metaName="r", input={"djConfigs.dataset": "exps.train.dataset"})
    spec["pipelines"][2:] = [{"name": "more", "forEach": each, **lists(evaluations=[reader])}]
    play = Play(spec)
    split_into(play, [])

    assert list(play.states()) == ["split/1/execution/0", "more[0]/1/evaluation/0", "more[1]/1/evaluation/0"]
    assert contract_of(created(play.plans[-1])[0]).inputs["djConfigs.dataset"] == []


def test_an_item_whose_own_list_is_empty_reads_nothing_of_other_items() -> None:
    many = process(
        metaName="many", forEach={"item": "k", "in": "exps.split.paths"}, input={"djConfigs.np": "item.k"},
        djConfigs=process()["djConfigs"],
    )  # fmt: skip
    spec = pipelines(
        {
            "name": "exps",
            "forEach": {"item": "pool", "in": ["a", "b"]},
            **lists(
                executions=[lister(metaName="split"), many],
                evaluations=[probe(metaName="look", input={"djConfigs.dataset": "exps.many.dataset"})],
            ),
        }
    )
    play = Play(spec)
    play.step()
    play.succeed_in(TRAIN.format(0), outputs={"paths": []})
    play.succeed_in(TRAIN.format(1), outputs={"paths": [1, 2]})
    (look,) = (job for step in play.plans for job in created(step) if contract_of(job).job.id == LOOK.format(0))

    assert contract_of(look).inputs["djConfigs.dataset"] == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("one", "spec.pipelines[1].forEach.in: 'paths' of split/1/execution/0 is not a list, but 'one'"),
        (["x"] * 257, "spec.pipelines[1].forEach.in: the list has 257 items; at most 256 may stand in a forEach"),
        (["x"] * 200, "spec.pipelines[1].forEach: its items make 402 jobs; at most 256 may stand in an experiment"),
    ],
)
def test_a_list_that_can_not_be_spread_out_fails_its_job_by_name(value: Any, words: str) -> None:
    play = Play(pools())
    play.step()
    play.succeed(outputs={"paths": value})

    assert play.status.outcome == "Failed"
    assert play.states()["exps[*]/1/execution/0"] == "Failed: ConfigError"
    assert next(job.message for job in play.status.jobs if job.state == "Failed") == words


def literal(*items: Any, keys: str = "", **more: Any) -> dict[str, Any]:
    each = {"item": "k", "in": list(items), **more}
    return a_spec(
        executions=[
            process(
                metaName="many", forEach=each, input={"djConfigs.np": f"item.k{keys}"}, djConfigs=process()["djConfigs"]
            )
        ],
        evaluations=[probe(metaName="all", input={"djConfigs.dataset": "anonymous.many.dataset"})],
    )


def test_a_literal_list_is_known_from_the_start_and_its_values_travel_as_data() -> None:
    play = Play(literal(2, 4))
    step = play.step()

    assert list(play.states()) == [
        "anonymous/1/execution/0[0]", "anonymous/1/execution/0[1]", "anonymous/1/evaluation/0",
    ]  # fmt: skip
    assert [contract_of(action).configs.local for action in created(step)] == [{"djConfigs.np": 2}, {"djConfigs.np": 4}]


def test_keys_lead_into_an_item() -> None:
    step = Play(literal({"np": 2}, {"np": 8}, keys=".np")).step()

    assert [contract_of(action).configs.local["djConfigs.np"] for action in created(step)] == [2, 8]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (literal(), "spec.executionJobConfigs[0].forEach.in: the list is empty; write at least one item"),
        (
            a_spec(executions=[process(input={"djConfigs.np": "item.k"})]),
            "spec.executionJobConfigs[0].input[\"djConfigs.np\"]: 'item.k' is the item of a forEach, and there is none"
            " around this job",
        ),
        (
            a_spec(executions=[process(forEach={"item": "k", "in": [1]}, input={"djConfigs.np": "item.q"})]),
            "spec.executionJobConfigs[0].input[\"djConfigs.np\"]: no forEach around this job has the item 'q';"
            " there is: k",
        ),
        (
            a_spec(executions=[process(forEach={"item": "k", "in": "anonymous.no.paths"})]),
            "spec.executionJobConfigs[0].forEach.in: no job before this one has the metaName 'no' in the pipeline"
            " 'anonymous'",
        ),
        (
            a_spec(
                executions=[process(metaName="p", output=["paths"]), process(forEach={"item": "k", "in": "-1.paths"})]
            ),
            "spec.executionJobConfigs[1].forEach.in: '-1.paths' is a path, no list; write the list itself, or the"
            " reference of an output that is one",
        ),
        (
            a_spec(
                probes=[probe(forEach={"item": "k", "in": [1]}, metaName="p")],
                executions=[process(), process(forEach={"item": "k", "in": "anonymous.process.rows_out"})],
            ),
            "spec.executionJobConfigs[1].forEach.in: 'anonymous.process.rows_out' is a number, no list; write the list"
            " itself, or the reference of an output that is one",
        ),
        (
            a_spec(executions=[process(forEach={"item": "k", "in": 5})]),
            "spec.executionJobConfigs[0].forEach.in: write a list, or the reference of an output that is one",
        ),
    ],
)
def test_a_for_each_that_can_not_be_is_told_before_anything_starts(spec: dict[str, Any], sentence: str) -> None:
    assert sentence in compile_spec(spec).problems


def test_an_item_that_vanishes_from_a_list_made_again_keeps_its_attempt_numbers() -> None:
    play = Play(pools())
    split_into(play, ["a", "b"])
    for job in (TRAIN, LOOK):
        play.succeed_in(job.format(0), job.format(1))
    play.succeed_in("end/1/evaluation/0")
    play.change_spec(rerun={"token": "2", "from": "pools"})
    play.step()
    play.succeed_in("split/1/execution/0", outputs={"paths": ["a"]}, content="other")
    assert play.states()[TRAIN.format(1)] == "Skipped: Removed"
    play.succeed_in(TRAIN.format(0))
    play.succeed_in(LOOK.format(0))
    play.succeed_in("end/1/evaluation/0")
    assert play.status.outcome == "Succeeded"

    play.change_spec(rerun={"token": "3", "from": "pools"})
    play.step()
    play.succeed_in("split/1/execution/0", outputs={"paths": ["a", "b"]}, content="third")
    play.step(after=5)
    assert next(job.attempts for job in play.status.jobs if job.id == TRAIN.format(1)) == 2


def test_a_list_too_long_for_one_message_is_read_in_pieces() -> None:
    play = Play(pools())
    play.step()
    (reader,) = created(play.succeed(outputs={}, truncated=True, pieces=2))
    name = reader.manifest["metadata"]["name"]
    assert name.endswith("-a1-pieces")
    assert reader.manifest["spec"]["completions"] == reader.manifest["spec"]["parallelism"] == 2
    assert play.states()["split/1/execution/0"] == "Running: ReadingResult"

    job, first = play.newest
    second = replace(first, name=f"{first.name}-2", uid="second")
    parts = ('{"outputs":{"paths":["a",', '"b"]},"metrics":{}}')
    told = [success(job, pod, outputs={}, pieces=2, piece=n, part=parts[n - 1]) for n, pod in ((2, second), (1, first))]
    play.change(pods=(play.snapshot.pods[0], told[0]))
    play.step(after=1)
    assert play.states()["split/1/execution/0"] == "Running: ReadingResult"
    play.change(pods=(play.snapshot.pods[0], *told))
    play.step(after=1)

    assert (play.status.jobs[0].outputs or {})["paths"] == ["a", "b"]
    assert play.states()[TRAIN.format(1)] == "Pending: Creating"


def test_what_each_item_of_another_for_each_made_is_a_list() -> None:
    each = {"item": "x", "in": "anonymous.first.dataset"}
    spec = a_spec(executions=[process(metaName="first", forEach={"item": "x", "in": [1, 2]}), process(forEach=each)])

    assert compile_spec(spec).problems == ()
