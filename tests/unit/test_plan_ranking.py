# SPDX-License-Identifier: Apache-2.0
"""Items of a forEach ranked by a figure, as far as repeats can tell."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from tests.unit.builders import Play
from tests.unit.test_plan_repeats import trained
from tests.unit.test_plan_spread import LOOK, TRAIN, split_into
from tests.unit.test_plan_spread import pools as made_pools

from sandbox_api.status import JobStatus, RankRow
from sandbox_operator.plan.compile import Compiled, compile_spec
from sandbox_operator.plan.job import references_in
from sandbox_operator.plan.ranking import ranking
from sandbox_operator.plan.spread import spread

POOLS = ["pools/low.jsonl", "pools/high.jsonl", "pools/random.jsonl"]


def pools(**more: Any) -> dict[str, Any]:
    """Train on each pool, infer, judge; two repeats."""
    spec = trained(**{"rank": {"metric": "judge.accuracy", "baseline": "random"}, **more})
    execution, evaluation = spec.pop("executionJobConfigs"), spec.pop("evaluationJobConfigs")
    execution[1]["input"] = {"extraConfigs.train_dataset": "item.pool"}
    execution[2]["input"] = {"extraConfigs.model": "each.train.model"}
    evaluation[0]["input"] = {"extraConfigs.predicted_dataset_path": "each.infer.dataset"}
    each = {
        "name": "each", "forEach": {"item": "pool", "in": POOLS},
        "executionJobConfigs": execution[1:], "evaluationJobConfigs": evaluation[:1],
    }  # fmt: skip
    return {**spec, "pipelines": [{"name": "first", "executionJobConfigs": execution[:1]}, each]}


def ranked(figures: Mapping[str, Sequence[float | None]], **more: Any) -> list[RankRow]:
    """By item, the accuracy of each repeat; None: not there yet."""
    compiled = compile_spec(pools(repeats=max(map(len, figures.values())), **more))
    assert compiled.problems == ()
    assert compiled.spec is not None
    jobs = spread(compiled.jobs, {})
    committed = {
        job.id: JobStatus(
            id=job.id, hook=job.hook.name, meta_name=job.meta_name,
            state="Pending" if (value := figures[job.label][job.repeat or 0]) is None else "Succeeded",
            metrics={} if value is None else {"judge.accuracy": value},
        )
        for job in jobs if job.meta_name == "judge"
    }  # fmt: skip
    return ranking(compiled.spec.rank, compiled.ranked, jobs, committed)


def test_the_best_is_first_and_told_against_the_baseline() -> None:
    rows = ranked({"low": [0.50, 0.52], "high": [0.80, 0.82], "random": [0.60, 0.62]})

    assert [row.item for row in rows] == ["high", "random", "low"]
    assert [row.tied for row in rows] == [False, False, False]
    assert rows[0].mean == pytest.approx(0.81)
    assert rows[0].std == pytest.approx(0.02 / 2**0.5)
    assert (rows[0].change, rows[0].relative) == pytest.approx((0.2, 0.2 / 0.61))
    assert rows[0].interval == pytest.approx([0.2, 0.2])
    assert (rows[1].change, rows[1].interval) == (None, None)


def test_what_repeats_cant_tell_apart_is_tied() -> None:
    rows = ranked({"low": [0.50, 0.61, 0.55], "high": [0.56, 0.52, 0.60], "random": [0.10, 0.12, 0.11]})

    assert [(row.item, row.tied) for row in rows] == [("high", True), ("low", True), ("random", False)]


def test_a_low_loss_can_be_the_goal_and_one_run_tells_no_noise() -> None:
    rows = ranked(
        {"low": [0.5], "high": [0.8], "random": [0.6]}, rank={"metric": "each.judge.accuracy", "goal": "minimize"}
    )

    assert [row.item for row in rows] == ["low", "random", "high"]
    assert [(row.tied, row.std, row.repeats) for row in rows] == [(None, None, 1)] * 3


def test_an_item_is_ranked_when_all_its_repeats_are_there() -> None:
    assert [row.item for row in ranked({"low": [0.5, 0.5], "high": [0.8, None], "random": [None, 0.6]})] == ["low"]


def test_rounds_of_the_same_job_are_in_one_ranking_against_one_baseline() -> None:
    spec = pools(repeats=1)
    again = json.loads(json.dumps(spec["pipelines"][1]).replace("each.", "again.").replace("pools/high", "pools/best"))
    spec["pipelines"].append({**again, "name": "again"})
    compiled = compile_spec(spec)
    assert (compiled.problems, len(compiled.ranked)) == ((), 2)
    assert compiled.spec is not None
    jobs = spread(compiled.jobs, {})
    judges = [job for job in jobs if job.meta_name == "judge"]
    committed = {
        job.id: JobStatus(id=job.id, hook=job.hook.name, meta_name="judge", state="Succeeded", metrics={"judge.accuracy": n / 10})
        for n, job in enumerate(judges, 1)
    }  # fmt: skip

    rows = ranking(compiled.spec.rank, compiled.ranked, jobs, committed)
    assert [(row.item, row.mean) for row in rows] == [
        ("again.random", 0.6), ("best", 0.5), ("again.low", 0.4), ("random", 0.3), ("high", 0.2), ("low", 0.1),
    ]  # fmt: skip
    assert rows[1].change == pytest.approx(0.2)
    one = compile_spec({**spec, "rank": {"metric": "again.judge.accuracy"}})
    assert [reference.job_id.partition("[")[0] for reference in one.ranked] == ["again"]


def problems(**rank: Any) -> tuple[str, ...]:
    compiled: Compiled = compile_spec(pools(rank={"metric": "judge.accuracy", **rank}))
    return compiled.problems


def test_what_cant_be_ranked_is_told() -> None:
    assert problems(baseline="randon") == ("spec.rank.baseline: no item is named 'randon'; did you mean 'random'?",)
    assert problems(metric="each.judge.acuracy") == (
        "spec.rank.metric: no job named 'judge' has a figure 'acuracy'; did you mean 'each.judge.accuracy'?",
    )
    assert problems(metric="base.bytes") == (
        "spec.rank.metric: 'first.base.bytes' is the figure of a single job; name one of a job inside a forEach",
    )


def test_the_ranks_own_repeats_count_in_its_pipeline() -> None:
    compiled = compile_spec(pools(repeats=1, rank={"metric": "judge.accuracy", "repeats": 3}))

    assert compiled.problems == ()
    assert sum(job.meta_name == "judge" for job in compiled.jobs) == 3


def test_a_baseline_that_is_none_of_the_items_is_told_where_the_list_is_known_only_then() -> None:
    play = Play({**made_pools(), "rank": {"metric": "look.rows", "baseline": "randon"}})
    split_into(play, ["pools/random.jsonl", "pools/high.jsonl"])
    play.succeed_in(*(TRAIN.format(number) for number in range(2)))
    play.succeed_in(*(LOOK.format(number) for number in range(2)), metrics={"look.rows": 7.0})
    play.succeed()

    assert play.status.outcome == "Succeeded"
    assert [row.item for row in play.status.ranking or ()] == ["random", "high"]
    ready = next(each for each in play.status.conditions if each.type == "Ready")
    assert ready.message.endswith("; spec.rank.baseline: no item is named 'randon'; did you mean 'random'?")


def test_who_reads_all_items_in_all_repeats_gets_repeat_after_repeat() -> None:
    """As `data_pool_ranking` takes them: figures of one repeat stand together, in the items' order."""
    spec = pools(repeats=2)
    extra = {"dataset_path": ["a", "b", "c"]}
    best = {"hook": "GeneralProbeHook", "type": "data_pool_ranking", "metaName": "best", "extraConfigs": extra}
    best["input"] = {"extraConfigs.metrics": "each.judge.value"}
    spec["pipelines"].append({"name": "end", "probeJobConfigs": [best]})
    compiled = compile_spec(spec)

    assert compiled.problems == ()
    (job,) = (job for job in spread(compiled.jobs, {}) if job.meta_name == "best")
    read = [reference.job_id for reference in references_in(job.inputs["extraConfigs.metrics"])]
    assert read == [f"each[{item}]/1/evaluation/0~{repeat}" for repeat in range(2) for item in range(3)]
