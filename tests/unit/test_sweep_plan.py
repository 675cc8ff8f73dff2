# SPDX-License-Identifier: Apache-2.0
"""What a sweep does next, as a function of what is known: trials begun, suspended, counted, and the end."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.progress import DEEP

from sandbox_api.experiment import Trial
from sandbox_api.status import Reason
from sandbox_api.sweep import MAX_TABLE, SweepStatus
from sandbox_operator.build.defaults import Defaults
from sandbox_operator.plan.actions import CreateClaim
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.facts import ClaimFact, Refusal
from sandbox_operator.plan.sweep import plan_sweep
from sandbox_operator.plan.sweep_definition import CompiledSweep, compile_sweep
from sandbox_operator.plan.sweep_facts import (
    AT_ONCE,
    CreateTrial,
    PatchTrial,
    Stranger,
    SweepPlan,
    SweepSnapshot,
    TrialFact,
    unseen,
)
from sandbox_operator.search.studies import StudyCache
from sandbox_operator.search.verify import Recorded, verify

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
MIN_RATIO = "alphanumeric_filter.min_ratio"
CLAIM = ClaimFact("s-workspace", "claim-uid", "Bound", "ReadWriteMany", sweep="s")


def template(**more: Any) -> dict[str, Any]:
    job = {
        "hook": "ProcessDataHook", "metaName": "process",
        "djConfigs": {"dataset_path": "d.jsonl", "process": [{"text_length_filter": {"min_len": 10}}, {"alphanumeric_filter": None}]},
    }  # fmt: skip
    return {"executionJobConfigs": [job], **more}


def a_spec(**more: Any) -> dict[str, Any]:
    return {
        "method": "random",
        "metric": {"name": "process.rows_out"},
        "parameters": {MIN_RATIO: {"distribution": "uniform", "min": 0.0, "max": 100.0}},
        "template": template(),
        "maxTrials": 6,
        "parallelism": 3,
        **more,
    }


def compiled_of(**more: Any) -> CompiledSweep:
    compiled = compile_sweep(a_spec(**more), name="s", uid="sweep-uid")
    assert compiled.problems == ()
    return compiled


def a_sweep(*trials: TrialFact, **known: Any) -> SweepSnapshot:
    status = SweepStatus.model_validate({"counts": {"total": len(trials)}})
    facts: dict[str, Any] = {"status": status, "claims": {CLAIM.name: CLAIM}, **known}
    return SweepSnapshot("s", "lab", "sweep-uid", 1, "1", {}, trials=trials, **facts)


def a_trial(number: int, state: Any = "Running", value: float | None = None, **more: Any) -> TrialFact:
    over = state != "Running"
    return TrialFact(number, f"s-{number:04d}", state, value, point=(0.5,), **{"is_over": over, **more})


def plan(snapshot: SweepSnapshot, **more: Any) -> SweepPlan:
    return plan_sweep(snapshot, compiled_of(**more), StudyCache(), Defaults(), NOW)


def made(plan: SweepPlan) -> list[int]:
    return [a.manifest["spec"]["trial"]["number"] for a in plan.actions if isinstance(a, CreateTrial)]


def told(plan: SweepPlan, kind: str = "Ready") -> tuple[str, str]:
    found = next(c for c in plan.status.conditions if c.type == kind)
    return found.status, found.reason


# the world


@dataclass
class World:
    """Trials as the API server holds them, and an operator that may die anywhere and whose watch may be late."""

    compiled: CompiledSweep
    random: random.Random
    study: StudyCache = field(default_factory=StudyCache)
    status: SweepStatus = field(default_factory=SweepStatus)
    stored: dict[int, Trial] = field(default_factory=dict)
    ended: dict[int, float | None] = field(default_factory=dict)
    most: int = 0

    def facts(self, late: bool) -> tuple[TrialFact, ...]:
        """What a watch tells: perhaps not yet that a trial was made, or has ended."""
        found = []
        for number, trial in self.stored.items():
            if late and self.random.random() < 0.3:
                if self.random.random() < 0.5:
                    continue
                state, value = "Running", None
            else:
                state, value = self.state(number)
            assert trial.point is not None
            found.append(a_trial(number, state, value, parameters=trial.parameters))
            found[-1] = replace(found[-1], point=tuple(trial.point))
        return tuple(found)

    def state(self, number: int) -> tuple[str, float | None]:
        if number not in self.ended:
            return "Running", None
        return ("Failed", None) if self.ended[number] is None else ("Succeeded", self.ended[number])

    def step(self, *, late: bool, dies: bool) -> None:
        """One look at the sweep, as the reconciler takes it."""
        facts = {trial.number: trial for trial in self.facts(late)}
        for number in unseen(self.status, set(facts)):  # asked for
            if number in self.stored:
                trial = self.stored[number]
                assert trial.point is not None
                facts[number] = replace(
                    a_trial(number, *self.state(number), parameters=trial.parameters), point=tuple(trial.point)
                )
        trials = tuple(facts[number] for number in sorted(facts))
        snapshot = replace(a_sweep(status=self.status), trials=trials)
        found = plan_sweep(snapshot, self.compiled, self.study, Defaults(), NOW)
        actions = [action for action in found.actions if isinstance(action, CreateTrial)]
        cut = self.random.randrange(len(actions) + 2) if dies else len(actions) + 2
        if cut == 0:
            return
        self.status = found.status
        for action in actions[: cut - 1]:
            trial = Trial.model_validate(action.manifest["spec"]["trial"])
            if trial.number in self.stored:
                return  # AlreadyExists: it is looked at again
            assert compile_spec(action.manifest["spec"]).problems == ()
            self.stored[trial.number] = trial
        self.most = max(self.most, sum(number not in self.ended for number in self.stored))

    def end_some(self) -> None:
        for number in list(self.stored):
            if number not in self.ended and self.random.random() < 0.5:
                value = self.stored[number].parameters[MIN_RATIO]
                self.ended[number] = None if self.random.random() < 0.05 else abs(value - 30.0)

    def records(self) -> list[Recorded]:
        found = []
        for number, trial in sorted(self.stored.items()):
            state, value = self.state(number)
            assert trial.point is not None
            found.append(
                Recorded(number, f"s-{number:04d}", tuple(trial.point), trial.parameters, trial.observed or "",
                         state.lower(), value)  # type: ignore[arg-type]
            )  # fmt: skip
        return found


def live(compiled: CompiledSweep, seed: int, *, trouble: bool) -> World:
    world = World(compiled, random.Random(seed))
    for _ in range(400):
        world.step(late=trouble, dies=trouble and world.random.random() < 0.4)
        if world.status.completion_time is not None:
            return world
        world.end_some()
    raise AssertionError(f"it does not end: {world.status}")


@pytest.mark.parametrize("method", ["random", "bayes", "sobol", "grid"])
@pytest.mark.parametrize("seed", range(20 if DEEP else 2))
def test_whatever_dies_and_however_late_the_watch_none_is_lost_none_made_twice_and_all_are_verified(
    method: str, seed: int
) -> None:
    parameters = {MIN_RATIO: {"values": [float(n) for n in range(40)]}} if method == "grid" else None
    more = {"parameters": parameters} if parameters else {}
    compiled = compiled_of(method=method, maxTrials=25, maxFailedTrials=25, seed=3, **more)
    world = live(compiled, seed, trouble=True)
    assert sorted(world.stored) == list(range(25))
    assert world.most <= 3
    assert compiled.settings is not None
    assert verify(compiled.settings, world.records()) == ()
    calm = live(compiled, seed + 100, trouble=False)
    if method != "bayes":
        assert [t.parameters for _, t in sorted(world.stored.items())] == [
            t.parameters for _, t in sorted(calm.stored.items())
        ]


def test_one_at_a_time_ends_the_same_whatever_happens() -> None:
    compiled = compiled_of(method="bayes", maxTrials=20, parallelism=1, maxFailedTrials=20, seed=3)
    outcomes = []
    for seed, trouble in ((1, False), (2, True), (3, True)):
        world = World(compiled, random.Random(seed))
        while world.status.completion_time is None:
            world.step(late=trouble, dies=trouble and world.random.random() < 0.4)
            for number, trial in world.stored.items():
                world.ended.setdefault(number, abs(trial.parameters[MIN_RATIO] - 30.0))
        outcomes.append([(trial.point, trial.observed) for _, trial in sorted(world.stored.items())])
    assert outcomes[0] == outcomes[1] == outcomes[2]


# what is begun


def test_the_first_trials_are_named_before_they_are_made() -> None:
    first = plan(a_sweep(claims={}))
    assert isinstance(first.actions[0], CreateClaim)
    assert first.actions[0].manifest["metadata"]["name"] == "s-workspace"
    assert made(first) == [0, 1, 2]
    assert [(row.number, row.state) for row in first.status.trials] == [(0, "Pending"), (1, "Pending"), (2, "Pending")]
    assert first.status.counts.total == 3
    assert first.urgent
    manifest = first.actions[1].manifest  # type: ignore[union-attr]
    assert manifest["metadata"]["name"] == "s-0000"
    assert manifest["metadata"]["ownerReferences"][0]["uid"] == "sweep-uid"
    assert manifest["spec"]["workspace"] == {"claimName": "s-workspace"}
    assert manifest["spec"]["projectName"] == "s"
    assert manifest["spec"]["trial"]["parameters"] == first.status.trials[0].parameters


def test_a_second_trial_sees_the_first_as_running() -> None:
    ended = tuple(a_trial(n, "Succeeded", float(n), parameters={MIN_RATIO: float(n)}) for n in range(12))
    found = plan(a_sweep(*ended), method="bayes", maxTrials=20)
    observed = [a.manifest["spec"]["trial"]["observed"] for a in found.actions if isinstance(a, CreateTrial)]
    assert observed[0] == " ".join(f"{n}={float(n)}" for n in range(12))
    assert observed[1] == f"{observed[0]} 12=running"
    assert observed[2] == f"{observed[1]} 13=running"


def test_a_trial_that_was_named_and_never_made_is_made_and_one_that_somebody_deleted_is_not() -> None:
    rows = [{"number": 0, "experiment": "s-0000", "state": "Succeeded"},
            {"number": 2, "experiment": "s-0002", "state": "Pending"}]  # fmt: skip
    status = SweepStatus.model_validate({"counts": {"total": 3}, "trials": rows, "startTime": "2026-01-31T11:00:00Z"})
    found = plan(a_sweep(a_trial(1, "Succeeded", 1.0), status=status), parallelism=1)
    assert made(found) == [2]
    assert found.status.counts.total == 3
    assert "1 trial deleted by somebody" in found.status.warnings[0]
    assert found.status.progress == "2/6"


def test_no_more_than_so_many_at_a_time_and_so_many_a_round() -> None:
    assert made(plan(a_sweep(a_trial(0), a_trial(1, "Succeeded", 1.0), a_trial(2)))) == [3]
    assert made(plan(a_sweep(), parallelism=200, maxTrials=200)) == list(range(AT_ONCE))


@pytest.mark.parametrize(
    ("more", "trials"),
    [
        ({"maxTrials": 6, "runCap": 4}, 4), ({"run_cap": 3, "maxTrials": 6}, 3), ({"sweep_max_count": 5}, 5),
        ({"method": "grid", "maxTrials": 50, "parameters": {MIN_RATIO: {"values": [1, 2, 3]}}}, 3),
        ({"method": "grid", "maxTrials": 2, "parameters": {MIN_RATIO: {"values": [1, 2, 3]}}}, 2),
    ],
)  # fmt: skip
def test_the_smallest_limit_counts_and_of_a_grid_at_most_all_of_it(more: dict[str, Any], trials: int) -> None:
    assert compiled_of(**more).max_trials == trials


def test_without_a_limit_there_are_twenty_trials_or_the_whole_grid() -> None:
    spec = a_spec()
    del spec["maxTrials"]
    assert compile_sweep(spec, name="s", uid="u").max_trials == 20
    grid = {**spec, "method": "grid", "parameters": {MIN_RATIO: {"values": list(range(33))}}}
    assert compile_sweep(grid, name="s", uid="u").max_trials == 33


@pytest.mark.parametrize("limit", [None, 500])
def test_a_grid_larger_than_any_sweep_is_told_unless_somebody_wants_a_part_of_it(limit: int | None) -> None:
    spec = a_spec(method="grid", parameters={MIN_RATIO: {"distribution": "int_uniform", "min": 1, "max": 100_000}})
    del spec["maxTrials"]
    compiled = compile_sweep({**spec, **({"run_cap": limit} if limit else {})}, name="s", uid="u")
    assert compiled.max_trials == (limit or 10_000)
    words = "spec.parameters: the grid has 100000 points, and only the first 10000 are tried"
    assert [words in warning for warning in compiled.warnings] == ([] if limit else [True])
    assert plan_sweep(a_sweep(), compiled, StudyCache(), Defaults(), NOW).status.warnings == list(compiled.warnings)


# suspend and resume


def test_suspended_it_begins_no_trial_and_those_that_run_are_suspended() -> None:
    found = plan(a_sweep(a_trial(0), a_trial(1, "Succeeded", 1.0)), suspend=True)
    assert found.actions == (PatchTrial("s-0000", {"suspend": True}),)
    assert told(found, "Suspended") == ("True", Reason.SUSPENDED)


def test_resumed_it_wakes_its_trials_before_it_says_so() -> None:
    suspended = plan(a_sweep(a_trial(0)), suspend=True).status
    asleep = a_sweep(a_trial(0, suspended=True), status=suspended)
    found = plan(asleep)
    assert PatchTrial("s-0000", {"suspend": False}) in found.actions
    assert told(found, "Suspended")[0] == "True"
    assert found.requeue_after == 0
    awake = plan(a_sweep(a_trial(0), status=found.status))
    assert all(condition.type != "Suspended" for condition in awake.status.conditions)


def test_a_trial_that_a_person_has_suspended_is_left_alone() -> None:
    found = plan(a_sweep(a_trial(0, suspended=True)))
    assert not [action for action in found.actions if isinstance(action, PatchTrial)]


# the end


def test_all_ended_it_has_succeeded_with_the_best() -> None:
    trials = [a_trial(n, "Succeeded", abs(n - 3.5), parameters={MIN_RATIO: n}) for n in range(6)]
    found = plan(a_sweep(*trials))
    assert found.status.outcome == "Succeeded"
    assert found.status.best is not None
    assert (found.status.best.trial, found.status.best.value) == (3, 0.5)  # of equal ones the earlier
    assert told(found) == ("True", Reason.SUCCEEDED)
    assert found.status.completion_time is not None
    best = plan(a_sweep(*trials), metric={"name": "process.rows_out", "goal": "maximize"}).status.best
    assert best is not None
    assert best.trial == 0


def test_more_trials_after_the_end_go_on() -> None:
    trials = [a_trial(n, "Succeeded", float(n)) for n in range(6)]
    ended = plan(a_sweep(*trials)).status
    found = plan(replace(a_sweep(*trials, status=ended), generation=2), maxTrials=8)
    assert made(found) == [6, 7]
    assert found.status.completion_time is None
    assert found.status.outcome == "Running"


def test_what_has_ended_stays_so_when_its_spec_could_not_be_run_any_more() -> None:
    """Its template's SandboxHook was deleted, or an operator came that is stricter."""
    trials = [a_trial(n, "Succeeded", float(n)) for n in range(6)]
    ended = plan(a_sweep(*trials)).status
    broken = CompiledSweep(None, ("spec.template.executionJobConfigs[0].hook: there is no hook 'own'",))
    kept = plan_sweep(a_sweep(*trials, status=ended), broken, StudyCache(), Defaults(), NOW)
    assert kept == SweepPlan(ended)
    more = replace(a_sweep(*trials, status=ended), generation=2)
    refused = plan_sweep(more, broken, StudyCache(), Defaults(), NOW)
    assert told(refused, "Stalled") == ("True", Reason.INVALID_SPEC)
    assert told(refused, "Succeeded") == ("True", Reason.SUCCEEDED)
    mended = plan(replace(more, status=refused.status), maxTrials=8)
    assert made(mended) == [6, 7]
    running = plan(a_sweep(*trials[:5], a_trial(5))).status
    stalled = plan_sweep(a_sweep(*trials[:5], a_trial(5), status=running), broken, StudyCache(), Defaults(), NOW)
    assert told(stalled, "Stalled") == ("True", Reason.INVALID_SPEC)


def test_too_many_failures_end_it_when_those_that_run_have_ended() -> None:
    failed = [a_trial(n, "Failed", reason="UserError", message="row 17") for n in range(4)]
    waits = plan(a_sweep(*failed, a_trial(4)))
    assert waits.actions == ()
    assert (waits.status.outcome, waits.status.completion_time) == ("Running", None)
    assert "more than spec.maxFailedTrials failed" in waits.status.conditions[0].message
    over = plan(a_sweep(*failed, a_trial(4, "Succeeded", 1.0)))
    assert over.status.outcome == "Failed"
    assert told(over) == ("False", Reason.TOO_MANY_FAILED_TRIALS)
    assert told(over, "Stalled") == ("True", Reason.TOO_MANY_FAILED_TRIALS)
    assert "trial 3 (s-0003): UserError: row 17" in over.status.conditions[0].message
    again = plan(
        replace(a_sweep(*failed, a_trial(4, "Succeeded", 1.0), status=over.status), generation=2), maxFailedTrials=4
    )
    assert made(again) == [5]


def test_a_trial_that_a_person_has_stopped_is_no_failure_of_the_search() -> None:
    stopped = [a_trial(n, "Failed", reason=Reason.STOPPED) for n in range(5)]
    assert made(plan(a_sweep(*stopped))) == [5]


def test_a_target_reached_begins_no_further_trial() -> None:
    metric = {"name": "process.rows_out", "target": 1.0}
    waits = plan(a_sweep(a_trial(0, "Succeeded", 0.5), a_trial(1)), metric=metric)
    assert made(waits) == []
    assert "metric.target is reached" in waits.status.conditions[0].message
    over = plan(a_sweep(a_trial(0, "Succeeded", 0.5), a_trial(1, "Failed")), metric=metric)
    assert (over.status.outcome, *told(over)) == ("Succeeded", "True", Reason.TARGET_REACHED)
    upwards = {"name": "process.rows_out", "target": 1.0, "goal": "maximize"}
    assert made(plan(a_sweep(a_trial(0, "Succeeded", 0.5)), metric=upwards)) == [1, 2, 3]


def test_without_any_value_it_has_failed() -> None:
    found = plan(a_sweep(*(a_trial(n, "Failed", reason="MetricMissing") for n in range(6))), maxFailedTrials=6)
    assert found.status.outcome == "Failed"
    assert told(found) == ("False", Reason.FAILED)


# what is in the way


def test_a_stranger_with_a_trials_name_is_named_and_waited_for() -> None:
    leaving = plan(a_sweep(strangers={"s-0000": Stranger(is_leaving=True)}))
    assert made(leaving) == []
    assert told(leaving) == ("False", Reason.NAME_TAKEN)
    assert leaving.requeue_after
    assert all(condition.type != "Stalled" for condition in leaving.status.conditions)
    staying = plan(a_sweep(strangers={"s-0000": Stranger(is_leaving=False)}))
    assert told(staying, "Stalled") == ("True", Reason.NAME_TAKEN)
    assert "s-0000" in staying.status.conditions[0].message


def test_a_trial_that_the_api_server_refuses_for_good_is_told_and_not_tried_again() -> None:
    refusal = Refusal(Reason.CONFIG_ERROR, "spec.foo: unknown field", final=True)
    found = plan(a_sweep(refusals={"s-0000": refusal}))
    assert made(found) == []
    assert told(found, "Stalled") == ("True", Reason.CONFIG_ERROR)
    quota = plan(a_sweep(refusals={"s-0000": replace(refusal, final=False)}))
    assert made(quota) == [0, 1, 2]
    assert "spec.foo: unknown field" in quota.status.conditions[0].message


def test_a_claim_that_is_missing_is_told_and_nothing_begins() -> None:
    found = plan(a_sweep(claims={}), template=template(workspace={"claimName": "mine"}))
    assert found.actions == ()
    assert told(found, "Stalled") == ("True", Reason.CLAIM_NOT_FOUND)


# what is said


def test_the_table_shows_the_best_the_failed_and_the_newest_and_what_is_named() -> None:
    trials = [a_trial(n, "Succeeded", float(500 - n if n < 5 else n)) for n in range(300)]
    trials[150] = a_trial(150, "Failed", reason="UserError")
    found = plan(a_sweep(*trials), maxTrials=400)
    shown = {row.number for row in found.status.trials}
    assert len(shown) == MAX_TABLE
    assert {5, 6, 7, 150, 299, 300, 301, 302} <= shown
    assert 0 not in shown


def test_long_parameters_are_told_of_the_best_and_the_newest_only() -> None:
    long = {f"op_{n}.arg": "x" * 500 for n in range(10)}
    trials = [a_trial(n, "Succeeded", float(n), parameters=long) for n in range(90)]
    found = plan(a_sweep(*trials), maxTrials=90)
    assert len(found.status.model_dump_json()) < 300_000
    rows = {row.number: row for row in found.status.trials}
    assert rows[0].parameters
    assert rows[89].parameters
    assert not rows[40].parameters


def test_events_tell_the_start_the_best_a_failure_and_the_end() -> None:
    first = plan(a_sweep())
    assert [event.reason for event in first.events] == ["SweepStarted"]
    rows = [{"number": n, "experiment": f"s-{n:04d}", "state": "Running"} for n in range(6)]
    before = SweepStatus.model_validate(
        {"counts": {"total": 6}, "trials": rows, "startTime": "2026-01-31T11:00:00Z", "observedGeneration": 1}
    )
    trials = [a_trial(n, "Succeeded", float(n)) for n in range(5)] + [a_trial(5, "Failed", reason="UserError")]
    last = plan(a_sweep(*trials, status=before))
    assert [event.reason for event in last.events] == ["TrialFailed", "NewBest", "Succeeded"]


# what is wrong


def test_all_that_is_wrong_is_told_at_once_with_its_place_in_the_sweep() -> None:
    spec = a_spec(
        method="grid",
        parameters={MIN_RATIO: {"min": 0.5, "max": 1.5}, "text_lengt_filter.max_len": {"values": [1, 2]}},
        metric={"name": "process.rows_uot"},
        template=template(suspend=True, workspace={"claimName": "a", "claim": {}}),
    )
    problems = compile_sweep(spec, name="s", uid="u").problems
    starts = (
        f'spec.parameters["{MIN_RATIO}"]: a grid needs values', "spec.template.workspace: give either",
        "spec.template.suspend: set spec.suspend", "spec.metric.name: no job here has the figure",
    )  # fmt: skip
    for start in starts:
        assert any(problem.startswith(start) for problem in problems), (start, problems)
    found = plan_sweep(a_sweep(), compile_sweep(spec, name="s", uid="u"), StudyCache(), Defaults(), NOW)
    assert found.actions == ()
    assert told(found, "Stalled") == ("True", Reason.INVALID_SPEC)
    assert found.status.conditions[0].message.startswith(f"{len(problems)} problems: (1) ")


def test_a_parameter_that_goes_nowhere_is_told_as_the_sweeps() -> None:
    spec = a_spec(parameters={"text_lengt_filter.min_len": {"min": 1, "max": 5}})
    (problem,) = compile_sweep(spec, name="s", uid="u").problems
    assert problem.startswith('spec.parameters["text_lengt_filter.min_len"]: ')
    assert "text_length_filter.min_len" in problem


def test_checkpoints_to_keep_are_each_trials_own_and_the_template_may_say_the_rest() -> None:
    found = plan(a_sweep(), keep={"checkpoints": 2})
    specs = [action.manifest["spec"] for action in found.actions if isinstance(action, CreateTrial)]
    assert {spec["keep"]["checkpoints"] for spec in specs} == {2}
    assert any(words.startswith("spec.keep.checkpoints: has no effect") for words in found.status.warnings)
    own = plan(a_sweep(), template=template(keep={"checkpoints": 3}))
    assert any(words.startswith("spec.template.keep.checkpoints: ") for words in own.status.warnings)


OF_WANDB: dict[str, Any] = {
    "apiVersion": "1", "kind": "sweep", "controller": {"type": "local"}, "program": "train.py", "job": "e/p/job:v1",
    "image_uri": "train:1", "entity": "e", "project": "p", "command": ["${env}", "python", 3], "name": "mine",
    "scheduler": {"engine": "wandb"}, "launch": {"queue": "q"}, "sweep_name": "x", "description": "for people",
}  # fmt: skip
"""Keys of a W&B definition, and of Data-Juicer's, beside those that say what is searched."""


def test_keys_of_other_tools_are_accepted_and_named_as_ignored() -> None:
    metric = {**a_spec()["metric"], "impute": "worst", "impute_while_running": False}
    compiled = compiled_of(**OF_WANDB, metric=metric)
    assert compiled.problems == ()
    inside = {"metric.impute", "metric.impute_while_running"}
    assert set(compiled.ignored) == set(OF_WANDB) - {"description"} | inside
    assert compiled_of(program="train.py").ignored == ("program",)


@pytest.mark.parametrize("method", ["bayes", "random", "grid", "sobol"])
def test_a_definition_without_a_metric_is_told_why_it_needs_one_and_what_to_write(method: str) -> None:
    raw = a_spec(method=method)
    del raw["metric"]
    told = [words for words in compile_sweep(raw, name="s", uid="u").problems if words.startswith("spec.metric: ")]
    assert len(told) == 1
    assert "every method needs a metric, random and grid too" in told[0]
    assert "as in `metric: {name: quality_score, goal: maximize}`" in told[0]
    misspelt = compile_sweep({**raw, "metrc": {"name": "x"}}, name="s", uid="u").problems
    assert "spec.metrc: there is no such field; did you mean 'metric'?" in misspelt
    assert not any(words.startswith("spec.metric: ") for words in misspelt)


def test_the_seed_is_the_specs_or_follows_from_the_uid() -> None:
    assert compiled_of(seed=0).seed == 0
    spec = a_spec()
    one, same, other = (compile_sweep(spec, name="s", uid=uid).seed for uid in ("a", "a", "b"))
    assert one == same != other
    assert 0 <= one < 2**53


def test_bayes_may_not_have_more_trials_than_it_can_record_to_have_seen() -> None:
    (problem,) = compile_sweep(a_spec(method="bayes", maxTrials=5000), name="s", uid="u").problems
    assert problem.startswith("spec.maxTrials: bayes looks back on all trials")
    assert compiled_of(method="random", maxTrials=5000).max_trials == 5000
