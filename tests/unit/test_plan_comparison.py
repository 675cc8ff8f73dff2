# SPDX-License-Identifier: Apache-2.0
"""The table before and after."""

from typing import Any

import pytest
from tests.unit.builders import a_spec, four_jobs, probe, process
from tests.unit.test_plan_repeats import trained

from sandbox_api.status import ExperimentStatus, JobStatus
from sandbox_operator.plan.comparison import between, compare, pairs
from sandbox_operator.plan.compile import compile_spec


def pairs_of(spec: dict[str, Any]) -> list[tuple[str, str]]:
    compiled = compile_spec(spec)
    assert compiled.spec is not None
    assert compiled.problems == ()
    return [
        (before.id.split("1/")[1], after.id.split("1/")[1])
        for (before,), (after,) in pairs(compiled.spec, compiled.jobs)
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (four_jobs(), [("probe/0", "evaluation/0")]),
        (a_spec(), []),
        (a_spec(probes=[probe(), probe()], evaluations=[probe(), probe()]), [("probe/1", "evaluation/1")]),
        (a_spec(probes=[probe()], evaluations=[process()]), []),
        (a_spec(executions=[probe()], evaluations=[probe()]), []),
        (
            four_jobs(comparison=[{"before": "after", "after": "analysis"}, {"before": "process", "after": "process"}]),
            [("evaluation/0", "probe/0"), ("execution/0", "execution/0")],
        ),
        (four_jobs(comparison=[]), []),
    ],
)
def test_the_same_hook_is_compared_last_probe_with_last_evaluation_or_as_the_spec_says(
    spec: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert pairs_of(spec) == expected


def rows(
    before: dict[str, float] | None, after: dict[str, float] | None
) -> list[tuple[str, float | None, float | None]]:
    compiled = compile_spec(four_jobs())
    assert compiled.spec is not None
    measured = {"anonymous/1/probe/0": before, "anonymous/1/evaluation/0": after}
    committed = {
        job.id: JobStatus(
            id=job.id, hook=job.hook.name, meta_name=job.meta_name, state="Succeeded", metrics=measured.get(job.id)
        )
        for job in compiled.jobs
    }
    table = compare(compiled.spec, compiled.jobs, committed)
    assert {(row.before_job, row.after_job) for row in table} <= {("analysis", "after")}
    return [(row.metric, row.before, row.after) for row in table]


def test_figures_are_compared_by_their_names_without_the_jobs() -> None:
    before = {"analysis.rows": 300.0, "analysis.text_len.mean": 307.9, "analysis.only_here": 1.0}
    after = {"after.text_len.mean": 280.0, "after.rows": 250.0}

    assert rows(before, after) == [("rows", 300.0, 250.0), ("text_len.mean", 307.9, 280.0)]


def test_a_statistics_figures_stand_together_in_the_order_in_which_people_read_them() -> None:
    figures = ["max", "50%", "mean", "25%", "std", "99%", "min", "75%", "count"]
    before = {f"analysis.{stat}.{figure}": 1.0 for stat in ("words", "chars") for figure in figures}
    after = {name.replace("analysis", "after"): value for name, value in before.items()}

    order = ["count", "mean", "std", "min", "25%", "50%", "75%", "max", "99%"]
    assert [row[0] for row in rows(before, after)] == [f"{s}.{f}" for s in ("chars", "words") for f in order]


def test_nothing_is_compared_before_both_are_there() -> None:
    assert rows({"analysis.rows": 1.0}, None) == []
    assert rows(None, None) == []


def test_the_table_has_at_most_fifty_rows() -> None:
    many = {f"x{n:03d}.mean": 1.0 for n in range(60)}

    table = rows({f"analysis.{name}": v for name, v in many.items()}, {f"after.{name}": v for name, v in many.items()})
    assert len(table) == 50


def test_repeats_are_compared_by_their_means_and_the_change_has_an_interval() -> None:
    judged = {
        "hook": "EvaluateDataHook", "metaName": "before", "type": "accuracy",
        "extraConfigs": {"predicted_dataset_path": "inputs/raw/a.jsonl", "predicted_label_key": "x", "ground_truth_label_key": "y"},
    }  # fmt: skip
    compiled = compile_spec(
        trained(repeats=3, probeJobConfigs=[judged], comparison=[{"before": "before", "after": "judge"}])
    )
    assert compiled.spec is not None
    assert compiled.problems == ()
    figures = {"before": [0.5], "judge": [0.6, 0.7, 0.65]}
    committed = {
        job.id: JobStatus(
            id=job.id, hook=job.hook.name, meta_name=job.meta_name, state="Succeeded",
            metrics={f"{job.meta_name}.accuracy": figures[job.meta_name][job.repeat or 0]} if job.meta_name in figures else {},
        )
        for job in compiled.jobs
    }  # fmt: skip

    (row,) = compare(compiled.spec, compiled.jobs, committed)

    assert (row.before, row.after, row.change, row.relative) == pytest.approx((0.5, 0.65, 0.15, 0.3))
    assert (row.before_job, row.after_job, row.repeats) == ("before", "judge", 3)
    assert row.interval == pytest.approx([0.15 - 4.303 * 0.05 / 3**0.5, 0.15 + 4.303 * 0.05 / 3**0.5])


@pytest.mark.parametrize(
    ("first", "second", "interval"), [(1, 1, False), (1, 3, False), (3, 1, False), (3, 3, True), (2, 3, True)]
)
def test_between_experiments_a_single_run_is_not_taken_for_exact(first: int, second: int, interval: bool) -> None:
    """It may have drawn by a seed as those of the other did."""

    def status(count: int, value: float) -> ExperimentStatus:
        jobs = [
            JobStatus(
                id=f"anonymous/1/execution/0{f'~{number}' if count > 1 else ''}", hook="TrainModelHook", meta_name="train",
                state="Succeeded", metrics={"train.loss": value * (1 + number / 10)},
            )
            for number in range(count)
        ]  # fmt: skip
        return ExperimentStatus(jobs=jobs)

    (row,) = between(status(first, 1.0), status(second, 2.0))
    assert (row.interval is not None) == interval
