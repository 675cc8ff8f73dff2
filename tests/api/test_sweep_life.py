# SPDX-License-Identifier: Apache-2.0
"""The life of a sweep on the real API server: trials made, counted, suspended, ended; more of them asked for; deleted."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest
from tests.api.conftest import Operators, Plane
from tests.api.lab import OperatorProcess
from tests.api.played import Gate, fails
from tests.api.sweep_lab import METRIC, MIN_RATIO, SweepLab, a_sweep, bowl, hits, measures, sweep_lab, template


@pytest.fixture
async def lab(plane: Plane) -> AsyncIterator[SweepLab]:
    async with sweep_lab(plane) as made:
        yield made


def uids(lab: SweepLab) -> set[str]:
    return {item["metadata"]["uid"] for item in lab.experiments.store.values()}


@pytest.fixture
def operator(plane: Plane, lab: SweepLab, warm_operators: Operators) -> OperatorProcess:
    return warm_operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)


async def test_a_random_sweep_of_six_three_at_a_time(lab: SweepLab, operator: OperatorProcess) -> None:
    await lab.apply_sweep("demo", a_sweep())
    await lab.sweep_ends("demo", limit=60)
    status = lab.sweep("demo")
    assert (status["outcome"], status["progress"]) == ("Succeeded", "6/6"), lab.told()
    assert status["counts"] == {"total": 6, "running": 0, "succeeded": 6, "failed": 0, "pruned": 0}
    lab.assert_none_lost_none_twice("demo", 6)
    lab.assert_never_more_at_a_time("demo", 3)
    assert lab.verified("demo") == ()
    values = {row["number"]: row["value"] for row in status["trials"]}
    assert all(row["value"] == (row["parameters"][MIN_RATIO] - 30) ** 2 for row in status["trials"])
    best = status["best"]
    assert best["value"] == min(values.values()) == values[best["trial"]]
    assert {item["spec"]["workspace"]["claimName"] for item in lab.trials("demo").values()} == {"demo-workspace"}
    assert lab.sweep_condition("demo")["status"] == "True"
    await lab.event("demo", "SweepStarted")
    await lab.event("demo", "Succeeded")
    assert operator.code is None


async def test_a_bayes_sweep_records_what_each_suggestion_saw(lab: SweepLab, operator: OperatorProcess) -> None:
    """The first ten are drawn at random; numbers come back from the API server bit for bit."""
    await lab.apply_sweep("demo", a_sweep(method="bayes", maxTrials=16, parallelism=2))
    await lab.sweep_ends("demo", limit=90)
    lab.assert_none_lost_none_twice("demo", 16)
    assert lab.verified("demo") == ()
    observed = {number: item["spec"]["trial"].get("observed", "") for number, item in lab.trials("demo").items()}
    assert {number: len(line.split()) for number, line in observed.items()} == {number: number for number in range(16)}
    assert any("=running" in line for line in observed.values())
    assert operator.code is None


async def test_suspended_its_trials_wait_and_go_on_when_told(lab: SweepLab, operator: OperatorProcess) -> None:
    gate = lab.kubelet.table[("demo-0000", "process")] = Gate(measures(bowl))
    await lab.apply_sweep("demo", a_sweep(maxTrials=3, parallelism=1))
    await lab.reached(gate, "the first trial runs")
    await lab.change_sweep("demo", {"suspend": True})
    await lab.sweep_reason("demo", "Suspended")
    await lab.until(lambda: lab.trials("demo")[0]["spec"].get("suspend"), "the trial is suspended too")
    gate.opened.set()  # the hook that runs ends, and the trial with it
    await lab.finished("demo-0000")
    await lab.until(lambda: lab.sweep("demo")["counts"]["succeeded"] == 1, "its result counts")
    assert len(lab.trials("demo")) == 1
    assert lab.sweep_condition("demo", "Suspended")["status"] == "True"
    await lab.change_sweep("demo", {"suspend": False})
    await lab.sweep_ends("demo")
    assert lab.sweep("demo")["outcome"] == "Succeeded"
    assert not lab.sweep_condition("demo", "Suspended")
    assert lab.verified("demo") == ()
    assert operator.code is None


async def test_a_trial_suspended_with_its_sweep_between_two_jobs_goes_on_with_it(
    lab: SweepLab, operator: OperatorProcess
) -> None:
    gate = lab.kubelet.table[("process",)] = Gate(measures(bowl))
    after = {"hook": "ProbeViaAnalyzerHook", "metaName": "after", "djConfigs": {"dataset_path": "data/demo.jsonl"}}
    await lab.apply_sweep("demo", a_sweep(maxTrials=1, template=template(evaluationJobConfigs=[after])))
    await lab.reached(gate, "the first job runs")
    await lab.change_sweep("demo", {"suspend": True})
    await lab.until(lambda: lab.trials("demo")[0]["spec"].get("suspend"), "the trial is suspended too")
    gate.opened.set()
    await lab.reason("demo-0000", "Suspended")
    await lab.change_sweep("demo", {"suspend": False})
    await lab.sweep_ends("demo")
    assert lab.status("demo-0000")["outcome"] == "Succeeded"
    assert lab.trials("demo")[0]["spec"]["suspend"] is False
    assert operator.code is None


async def test_more_trials_are_asked_for_after_the_end(lab: SweepLab, operator: OperatorProcess) -> None:
    await lab.apply_sweep("demo", a_sweep(maxTrials=2))
    await lab.sweep_ends("demo")
    first = {number: item["metadata"]["uid"] for number, item in lab.trials("demo").items()}
    await lab.change_sweep("demo", {"maxTrials": 4})
    await lab.until(lambda: lab.sweep("demo").get("progress") == "4/4", "two more end")
    await lab.sweep_ends("demo")
    assert {n: lab.trials("demo")[n]["metadata"]["uid"] for n in first} == first
    lab.assert_none_lost_none_twice("demo", 4)
    assert operator.code is None


async def test_a_target_reached_ends_it_early(lab: SweepLab, operator: OperatorProcess) -> None:
    lab.kubelet.table[("process",)] = measures(lambda _: 1.0)
    lab.kubelet.table[("demo-0002", "process")] = measures(lambda _: 0.25)
    metric = {"name": METRIC, "goal": "minimize", "target": 0.5}
    await lab.apply_sweep("demo", a_sweep(maxTrials=20, parallelism=1, metric=metric))
    await lab.sweep_ends("demo")
    status = lab.sweep("demo")
    assert (status["outcome"], status["counts"]["total"], status["best"]["trial"]) == ("Succeeded", 3, 2)
    assert lab.sweep_condition("demo")["reason"] == "TargetReached"
    await lab.event("demo", "TargetReached")
    assert operator.code is None


async def test_trials_that_fail_or_tell_no_figure_end_it_when_they_are_too_many(
    lab: SweepLab, operator: OperatorProcess
) -> None:
    lab.kubelet.table[("process",)] = measures(lambda _: None)
    lab.kubelet.table[("demo-0001", "process")] = fails("User", "ValueError", "row 17")
    lab.kubelet.table[("demo-0002", "process")] = measures(lambda _: math.nan)
    lab.kubelet.table[("demo-0003", "process")] = measures(bowl)
    await lab.apply_sweep("demo", a_sweep(maxTrials=20, parallelism=1, maxFailedTrials=3))
    await lab.sweep_ends("demo")
    status = lab.sweep("demo")
    assert status["outcome"] == "Failed", lab.told()
    assert lab.sweep_condition("demo")["reason"] == "TooManyFailedTrials"
    assert lab.sweep_condition("demo", "Stalled")["status"] == "True"
    assert status["counts"] == {"total": 5, "running": 0, "succeeded": 1, "failed": 4, "pruned": 0}
    reasons = {row["number"]: row.get("reason") for row in status["trials"]}
    assert reasons == {0: "MetricMissing", 1: "UserError", 2: "MetricNotFinite", 3: None, 4: "MetricMissing"}
    assert status["best"]["trial"] == 3
    assert lab.status("demo-0001")["outcome"] == "Failed"
    await lab.event("demo", "TrialFailed", "trial 1 (demo-0001): UserError: ")
    await lab.event("demo", "TrialFailed", "MetricNotFinite: 'rows_out' of anonymous/1/execution/0 is no finite")
    await lab.event("demo", "TooManyFailedTrials", "the last was trial 4 (demo-0004): MetricMissing")
    assert operator.code is None


async def test_what_is_wrong_with_it_is_told_at_once_and_no_trial_begins(
    lab: SweepLab, operator: OperatorProcess
) -> None:
    spec = a_sweep(
        metric={"name": "process.rows_uot"},
        parameters={"text_lengt_filter.min_len": {"min": 1, "max": 9}},
        template=template(suspend=True),
    )
    await lab.apply_sweep("demo", spec)
    message = await lab.sweep_reason("demo", "InvalidSpec")
    assert lab.sweep_condition("demo", "Stalled")["status"] == "True"
    assert message.startswith("3 problems: ")
    for words in (
        "spec.metric.name: ",
        "rows_out",
        'spec.parameters["text_lengt_filter.min_len"]: ',
        "spec.template.suspend: ",
    ):
        assert words in message
    assert not lab.trials("demo")
    right = {"parameters": {"text_lengt_filter.min_len": None, **a_sweep()["parameters"]}, "metric": {"name": METRIC}}
    await lab.change_sweep("demo", {**right, "template": {"suspend": None}, "maxTrials": 1})
    await lab.sweep_ends("demo")
    assert lab.sweep("demo")["outcome"] == "Succeeded"
    assert operator.code is None


async def test_deleted_while_it_runs_its_trials_go_and_the_retained_claim_stays(
    lab: SweepLab, operator: OperatorProcess
) -> None:
    gate = lab.kubelet.table[("process",)] = Gate(measures(bowl))
    await lab.apply_sweep("demo", a_sweep())
    await lab.reached(gate, "a trial runs")
    await lab.until(lambda: len(lab.trials("demo")) == 3, "three trials are there")
    await lab.delete_sweep("demo")
    await lab.apply_sweep("demo", a_sweep(maxTrials=2))  # at once: the old trials are still in the way
    await lab.until(lambda: not lab.begun["demo-0002"] & uids(lab), "the old trials go", limit=90)
    gate.opened.set()
    await lab.sweep_ends("demo", limit=90)
    assert list(lab.trials("demo")) == [0, 1]
    claim = await lab.claim("demo-workspace")
    assert claim is not None
    assert not claim["metadata"].get("ownerReferences")
    assert operator.code is None


async def test_a_trial_deleted_by_somebody_is_not_made_again_and_the_claim_may_go_with_the_sweep(
    lab: SweepLab, operator: OperatorProcess
) -> None:
    workspace = {"claim": {"size": "1Gi"}, "retention": "Delete"}
    await lab.apply_sweep("demo", a_sweep(maxTrials=3, parallelism=1, template=template(workspace=workspace)))
    await lab.until(lambda: lab.sweep("demo").get("counts", {}).get("succeeded"), "the first trial has ended")
    await lab.delete("demo-0000")
    await lab.sweep_ends("demo")
    await lab.until(lambda: lab.sweep("demo")["warnings"], "it is told that one is gone")
    assert list(lab.trials("demo")) == [1, 2]
    assert lab.sweep("demo")["progress"] == "3/3"
    assert "1 trial deleted by somebody" in lab.sweep("demo")["warnings"][0]
    await lab.owned("demo-workspace")
    assert operator.code is None


async def test_six_trials_make_one_probe(lab: SweepLab, operator: OperatorProcess) -> None:
    """What no parameter touches is done once: the other trials wait for it and take its result."""
    probe = {"hook": "ProbeViaAnalyzerHook", "metaName": "before", "djConfigs": {"dataset_path": "data/demo.jsonl"}}
    lab.kubelet.table[("before", "check")] = hits
    await lab.apply_sweep("demo", a_sweep(template=template(probeJobConfigs=[probe])))
    await lab.sweep_ends("demo", limit=90)
    assert lab.sweep("demo")["counts"]["succeeded"] == 6, lab.told()
    probes = [job for _, job, _, _ in lab.kubelet.pods if "/probe/" in job]
    assert len(probes) == 1
    assert len([job for _, job, _, _ in lab.kubelet.pods if "/execution/" in job]) == 6
    assert operator.code is None
