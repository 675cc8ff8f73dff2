# SPDX-License-Identifier: Apache-2.0
"""Trials that end early: what is decided when they come to a rung, in which order, and what is not looked at again."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_sweep_plan import NOW, a_spec, a_sweep, a_trial

from sandbox_api.status import ExperimentStatus, TrialDecision, TrialStatus
from sandbox_operator.build.defaults import Defaults
from sandbox_operator.kube.informer import Key
from sandbox_operator.plan.sweep import plan_sweep
from sandbox_operator.plan.sweep_definition import CompiledSweep, compile_sweep
from sandbox_operator.plan.sweep_facts import (
    CreateTrial,
    DecideTrial,
    PatchTrial,
    RungArrival,
    SweepPlan,
    SweepSnapshot,
    TrialFact,
)
from sandbox_operator.plan.sweep_stopping import early_terminate_of
from sandbox_operator.plan.sweep_trials import Told, seen_as, trial_fact
from sandbox_operator.reconcile.push import report_in
from sandbox_operator.reconcile.reports import Reports, Teller
from sandbox_operator.search.stopping import Arrival, replay
from sandbox_operator.search.studies import StudyCache
from sandbox_runtime.metrics import MetricsLog
from sandbox_runtime.progress import Followed

TOLD = Defaults(progress_url="http://operator/progress")
TRAIN = {
    "hook": "TrainModelHook", "metaName": "train", "type": "easyanimate",
    "extraConfigs": {"type": "easyanimate", "train_config": {}},
}  # fmt: skip
EARLY = {"type": "hyperband", "min_iter": 10, "eta": 2, "max_iter": 41}


def compiled_of(**more: Any) -> CompiledSweep:
    spec = a_spec(earlyTerminate=EARLY, maxTrials=8, parallelism=4, **more)
    compiled = compile_sweep(spec, name="s", uid="sweep-uid")
    assert compiled.problems == ()
    return compiled


def plan(snapshot: SweepSnapshot, defaults: Defaults = TOLD, **more: Any) -> SweepPlan:
    return plan_sweep(snapshot, compiled_of(**more), StudyCache(), defaults, NOW)


def decided(found: SweepPlan) -> list[DecideTrial]:
    return [action for action in found.actions if isinstance(action, DecideTrial)]


def test_each_trial_is_told_where_its_rungs_are() -> None:
    found = plan(a_sweep())
    trials = [action.manifest["spec"]["trial"] for action in found.actions if isinstance(action, CreateTrial)]
    assert trials[0]["rungs"] == {"metric": "process.rows_out", "resource": "process.step", "at": [10, 20, 40]}


@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_in_every_order_of_arrival_the_decisions_follow_from_what_the_trials_record(goal: str) -> None:
    """Four trials come to a rung in all 24 orders, each round with one of them, and are stopped or go on."""
    metric = {"name": "process.rows_out", "goal": goal}
    compiled = compiled_of(metric=metric)
    assert compiled.spec is not None
    early = early_terminate_of(compiled.spec)
    assert early is not None
    outcomes = set()
    for order in permutations(range(4)):
        trials: dict[int, TrialFact] = {number: a_trial(number) for number in range(4)}
        arrivals: list[RungArrival] = []
        for number in order:
            arrivals.append(RungArrival(number, 10, float(number)))
            snapshot = replace(a_sweep(*trials.values()), arrivals=tuple(arrivals))
            (made,) = decided(plan(snapshot, metric=metric))
            assert made.name == f"s-{number:04d}"
            state = "Pruned" if made.decision.decision == "Stop" else "Running"
            trials[number] = a_trial(number, state, is_over=False, decisions=(made.decision,))
        assert not decided(plan(replace(a_sweep(*trials.values()), arrivals=tuple(arrivals)), metric=metric))
        record = [
            Arrival(t.number, d.rung, d.value, d.seen or 0, d.decision) for t in trials.values() for d in t.decisions
        ]
        assert replay(early, goal, record) == ()  # type: ignore[arg-type]  # one of both
        assert sorted(each.seen for each in record) == [0, 1, 2, 3]
        outcomes.add(tuple(trial.state for trial in trials.values()))
    assert len(outcomes) > 1  # who came first matters


def test_several_that_come_at_once_are_decided_on_one_after_the_other() -> None:
    arrivals = tuple(RungArrival(number, 10, float(number)) for number in (2, 0, 1))
    made = decided(plan(replace(a_sweep(*(a_trial(n) for n in range(3))), arrivals=arrivals)))
    assert [(each.name, each.decision.seen, each.decision.decision) for each in made] == [
        ("s-0002", 0, "Continue"), ("s-0000", 1, "Continue"), ("s-0001", 2, "Stop"),
    ]  # fmt: skip


def test_a_rung_that_was_decided_on_is_not_decided_on_again() -> None:
    past = TrialDecision(rung=20, value=1.0, seen=0, decision="Continue")
    trial = a_trial(0, decisions=(past,))
    arrivals = (RungArrival(0, 10, 5.0), RungArrival(0, 20, 7.0), RungArrival(0, 40, 0.5))
    made = decided(plan(replace(a_sweep(trial), arrivals=arrivals)))
    assert [(each.decision.rung, each.decision.value) for each in made] == [(40, 0.5)]


def test_a_rung_that_the_sweep_does_not_have_is_not_decided_on_and_keeps_no_other_from_it() -> None:
    arrivals = (RungArrival(0, 2**53 - 1, 0.0), RungArrival(0, 11, 0.0), RungArrival(0, 10, 5.0))
    made = decided(plan(replace(a_sweep(a_trial(0)), arrivals=arrivals)))
    assert [(each.decision.rung, each.decision.value) for each in made] == [(10, 5.0)]


def test_a_loss_that_becomes_nan_ends_its_trial_at_the_next_rung(tmp_path: Path) -> None:
    """From the hook's line to the trial's record, through what each side sends and stores."""
    log, rungs = MetricsLog(tmp_path / "metrics.jsonl", "process"), [10, 20, 40]
    for step in range(1, 50):
        log.log({"rows_out": 1.0 if step < 15 else float("nan")}, step=step)
    log.close()
    followed = Followed("process", {"metric": "process.rows_out", "resource": "process.step", "at": rungs})
    for line in (tmp_path / "metrics.jsonl").read_bytes().splitlines():
        followed.take(line)
    told = json.dumps([{"rung": rung, "value": value} for rung, value in followed.reached.items()])
    report = report_in(f'{{"pod": "p", "job": "j", "attempt": 1, "rungs": {told}}}'.encode())
    came: list[Key] = []
    reports = Reports(lambda _: None, came.append)
    reports.take(Teller(("lab", "s-0000"), "u", "j", 1, "p", frozenset(rungs)), report, NOW)
    assert came == [("lab", "s-0000")]
    arrivals = tuple(RungArrival(0, each.rung, each.value) for each in reports.rungs(("lab", "s-0000")))

    made = decided(plan(replace(a_sweep(a_trial(0)), arrivals=arrivals)))
    assert [(each.decision.rung, each.decision.value, each.decision.decision) for each in made] == [
        (10, 1.0, "Continue"), (20, None, "Stop"),
    ]  # fmt: skip
    trial = TrialStatus(decisions=[each.decision for each in made], pruned=True)
    stored = ExperimentStatus(outcome="Running", trial=trial).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert stored["trial"]["decisions"][1] == {"rung": 20, "seen": 0, "decision": "Stop"}
    read = ExperimentStatus.model_validate(stored)
    fact = trial_fact("s-0000", Told("s", "u", 0, {}, (0.5,), False, False), read, compiled_of().first)  # type: ignore[arg-type]
    assert (fact.state, fact.value, fact.reason) == ("Pruned", None, "MetricNotFinite")
    assert seen_as(fact) == ("failed", None)
    after = plan(a_sweep(fact, a_trial(1), a_trial(2), a_trial(3)))
    assert PatchTrial("s-0000", {"stop": "Now"}) in after.actions
    assert (after.status.counts.pruned, after.status.counts.failed) == (1, 0)


def test_what_was_stopped_is_told_so_and_keeps_its_place_until_it_has_ended() -> None:
    stop = TrialDecision(rung=10, value=3.0, seen=2, decision="Stop")
    pruned = a_trial(0, "Pruned", 3.0, is_over=False, decisions=(stop,))
    found = plan(a_sweep(pruned, a_trial(1), a_trial(2), a_trial(3)))
    assert found.actions == (PatchTrial("s-0000", {"stop": "Now"}),)
    told = plan(a_sweep(replace(pruned, stopping=True), a_trial(1), a_trial(2), a_trial(3)))
    assert told.actions == ()
    over = plan(a_sweep(replace(pruned, stopping=True, is_over=True), a_trial(1), a_trial(2), a_trial(3)))
    assert [action.manifest["metadata"]["name"] for action in over.actions if isinstance(action, CreateTrial)] == [
        "s-0004"
    ]
    assert (over.status.counts.pruned, over.status.counts.failed) == (1, 0)


def test_a_pruned_trial_counts_with_its_last_rung_whatever_its_experiment_says() -> None:
    compiled = compiled_of()
    assert compiled.first is not None
    decisions = [
        TrialDecision(rung=10, value=4.0, seen=0, decision="Continue"), TrialDecision(rung=20, value=3.5, seen=1, decision="Stop"),
    ]  # fmt: skip
    status = ExperimentStatus(
        outcome="Stopped", completion_time="2026-01-31T12:00:00Z", trial=TrialStatus(decisions=decisions, pruned=True)
    )
    fact = trial_fact("s-0000", Told("s", "u", 0, {}, (0.5,), False, True), status, compiled.first)
    assert (fact.state, fact.value, fact.is_over, fact.reason) == ("Pruned", 3.5, True, None)
    seen = plan(a_sweep(fact, *(a_trial(n, "Succeeded", float(n)) for n in range(1, 8))), method="bayes")
    assert seen.status.best is not None
    assert seen.status.best.trial == 1


def test_it_is_told_when_no_trial_will_be_stopped() -> None:
    once = plan(a_sweep()).status.warnings
    assert any("tells its figures once, at its end" in words for words in once)
    silent = plan(a_sweep(), Defaults()).status.warnings
    assert any("turn progress on" in words for words in silent)


def test_an_early_stop_without_a_rung_is_refused() -> None:
    spec = a_spec(earlyTerminate={"type": "hyperband"})
    (problem,) = compile_sweep(spec, name="s", uid="u").problems
    assert problem.startswith("spec.earlyTerminate: does not say where the rungs are")
