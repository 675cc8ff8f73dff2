# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a sweep, in sentences: the field, what is wrong, what to do. Before any trial has begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_sweep_plan import MIN_RATIO, NOW, a_spec, a_sweep, template, told
from typer.testing import CliRunner

from sandbox_operator.build.defaults import Defaults
from sandbox_operator.cli.main import app
from sandbox_operator.plan.sweep import plan_sweep
from sandbox_operator.plan.sweep_definition import CompiledSweep, compile_sweep
from sandbox_operator.plan.sweep_values import MAX_CHECKS, MAX_CHOICES, TOLD
from sandbox_operator.reconcile.projections import SweepFact
from sandbox_operator.reconcile.sweeps import compiled_or_told
from sandbox_operator.search.studies import StudyCache

LENGTH = "text_length_filter.min_len"
RANK = "train.extraConfigs.lora_rank"
RATE = "train.extraConfigs.learning_rate"
HALVING = {"type": "hyperband", "min_iter": 10, "max_iter": 100}
TRAIN = {
    "hook": "TrainModelHook", "metaName": "train", "type": "swift",
    "extraConfigs": {"model": "data/m", "dataset": "data/a.jsonl", "val_dataset": "data/b.jsonl"},
}  # fmt: skip
JUDGE = {
    "hook": "EvaluateDataHook", "metaName": "quality", "type": "dj_text_quality_classifier",
    "input": {"extraConfigs.dataset_path": "anonymous.process.dataset"},
}  # fmt: skip


def compiled(**more: Any) -> CompiledSweep:
    return compile_sweep(a_spec(**more), name="s", uid="sweep-uid")


def training(**more: Any) -> CompiledSweep:
    return compiled(**{
        "parameters": {RANK: {"values": [4, 8]}}, "metric": {"name": "train.loss"},
        "template": {"executionJobConfigs": [TRAIN]}, **more,
    })  # fmt: skip


def judging(metric: str, **more: Any) -> CompiledSweep:
    return compiled(metric={"name": metric}, template=template(evaluationJobConfigs=[JUDGE]), **more)


# what counts a trial's way


@pytest.mark.parametrize("resource", [None, "step", "train.step", "anonymous.train.step", "train.lr"])
def test_a_figure_that_the_training_logs_counts_its_way(resource: str | None) -> None:
    found = training(earlyTerminate={**HALVING, **({"resource": resource} if resource else {})})
    assert found.problems == ()
    assert not [words for words in found.warnings if words.startswith("spec.earlyTerminate")]


@pytest.mark.parametrize(
    ("resource", "said"),
    [
        ("!!", "'!!' names no figure; write quality.step, or another figure that counts a trial's way"),
        ("quality", "'quality' names no figure; write quality.step"),
        ("qality.step", "no job here is called 'qality'; did you mean 'quality'?"),
        ("nojob.epoch", "no job here is called 'nojob'; there is: process, quality"),
        ("quality.epoch", "quality (EvaluateDataHook) logs no 'epoch'; write quality.step"),
        ("quality.setp", "quality (EvaluateDataHook) logs no 'setp'; did you mean 'step'?"),
        ("process.step", "'process.step' is a figure of another job than quality"),
    ],
)
def test_a_figure_that_would_never_count_is_refused(resource: str, said: str) -> None:
    (problem,) = judging("quality_score", earlyTerminate={**HALVING, "resource": resource}).problems
    assert problem.startswith(f"spec.earlyTerminate.resource: {said}")


def test_a_figure_that_a_training_may_log_is_a_warning() -> None:
    found = training(earlyTerminate={**HALVING, "resource": "train.epoch"})
    assert found.problems == ()
    (words,) = (words for words in found.warnings if words.startswith("spec.earlyTerminate"))
    assert words.startswith("spec.earlyTerminate.resource: 'epoch' is none of the figures")


def test_a_metric_that_is_told_once_stops_nothing_and_the_compiled_sweep_says_so() -> None:
    found = judging("quality_score", early_terminate=HALVING)
    assert found.problems == ()
    assert any("no trial will be ended early, because quality (EvaluateDataHook)" in words for words in found.warnings)
    assert not judging("quality_score").warnings


# values of later trials


def values(parameters: dict[str, Any]) -> tuple[str, ...]:
    if any(name.startswith("train.") for name in parameters):
        return training(parameters=parameters).problems
    return compiled(parameters=parameters).problems


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        (LENGTH, {"values": [10, "abc", -5]}, ".values[1]: a trial may get 'abc': {} write a whole number, not 'abc'"),
        (LENGTH, {"values": ["abc"]}, ".values[0]: a trial may get 'abc': {} write a whole number, not 'abc'"),
        (LENGTH, {"values": [10, True]}, ".values[1]: a trial may get True: {} write a whole number, not True"),
        (LENGTH, {"distribution": "beta"}, ": a trial may get 0.01 (beta): {} write a whole number, not 0.01"),
        (MIN_RATIO, {"values": [0.1, "1e-3"]}, ".values[1]: a trial may get '1e-3': {} write a number, not '1e-3'; it is text here: write 0.001, without quotes"),
        (RANK, {"values": [4, 0]}, ".values[1]: a trial may get 0: {} input should be greater than or equal to 1"),
        (RANK, {"min": -3, "max": 9}, ": a trial may get -3 (int_uniform): {} input should be greater than"),
        (RANK, {"distribution": "q_uniform", "min": 0, "max": 9, "q": 4}, ": a trial may get 0 (q_uniform): {} input should be"),
    ],
)  # fmt: skip
def test_a_value_that_a_later_trial_would_get_is_told_with_its_parameter(
    name: str, given: dict[str, Any], said: str
) -> None:
    (problem,) = values({name: given})
    before, after = said.split("{}")
    assert problem.startswith(f'spec.parameters["{name}"]{before}spec.template.executionJobConfigs[0].')
    assert after in problem


@pytest.mark.parametrize(
    "parameters",
    [
        {LENGTH: {"values": [10, -5, None, 12.0]}},
        {LENGTH: {"distribution": "q_normal", "mu": 100, "sigma": 10}},
        {MIN_RATIO: {"values": [0, 1, 0.25]}},
        {RATE: {"distribution": "normal", "mu": 0.01, "sigma": 0.003}},  # below 0 once in thousands
        {RANK: {"values": [8, 0], "probabilities": [1, 0]}},
        {RANK: {"min": 1, "max": 64}, RATE: {"distribution": "log_uniform_values", "min": 0.0001, "max": 0.1}},
    ],
)
def test_what_the_pod_would_take_is_taken(parameters: dict[str, Any]) -> None:
    assert values(parameters) == ()


def test_of_many_wrong_values_some_are_named_and_the_rest_are_counted() -> None:
    problems = values({LENGTH: {"values": [1, *(f"text {n}" for n in range(20))]}})
    assert len(problems) == TOLD + 1
    assert problems[-1] == f'spec.parameters["{LENGTH}"]: {20 - TOLD} more of its values are wrong in the same way'


def test_so_many_values_are_looked_at_and_no_more() -> None:
    late = [*range(1, MAX_CHOICES + 1), "abc"]
    assert compiled(parameters={LENGTH: {"values": late}}, method="grid").problems == ()
    names = [f"text_length_filter.{kind}" for kind in ("max_len", "min_len")]
    assert len(names) * MAX_CHOICES < MAX_CHECKS
    both = {name: {"values": [*range(1, MAX_CHOICES), "abc"]} for name in names}
    assert len(compiled(parameters=both, method="grid").problems) == 2


def refining(process: list[Any]) -> dict[str, Any]:
    """A template whose recipe is written by a refine job, from this list of operators."""
    recipe = {"dataset_path": "d.jsonl", "process": process}
    return {
        "probeJobConfigs": [{"hook": "ProbeViaAnalyzerHook", "metaName": "look", "djConfigs": recipe}],
        "refineRecipeJobConfigs": [
            {"hook": "RefineRecipeViaKSigmaHook", "metaName": "sigma", "probe": "look", "djConfigs": recipe}
        ],
        "executionJobConfigs": [
            {"hook": "ProcessDataHook", "metaName": "process", "input": {"djConfigs": "anonymous.sigma.recipe"}}
        ],
    }


def test_a_recipe_that_a_refine_job_writes_is_looked_at_as_well() -> None:
    whole = refining([{"text_length_filter": None}])
    (problem,) = compiled(template=whole, parameters={LENGTH: {"values": [10, "abc"]}}, overrides=[LENGTH]).problems
    assert "a trial may get 'abc'" in problem


# sentences


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"method": "bays"}, "spec.method: there is no 'bays'; did you mean 'bayes'?"),
        ({"method": "genetic"}, "spec.method: there is no 'genetic'; write bayes, random, grid or sobol"),
        ({"metric": {"name": "process.rows_out", "goal": "max"}}, "spec.metric.goal: there is no 'max'; did you mean 'maximize'?"),
        ({"parallelism": 0}, "spec.parallelism: write a number of at least 1, not 0"),
        ({"earlyTerminate": {**HALVING, "eta": 1}}, "spec.earlyTerminate.eta: write a number above 1, not 1"),
        ({"maxTrials": 10**6}, "spec.maxTrials: write a number of at most 10000, not 1000000"),
        ({"metric": {"name": "process.rows_out", "sense": 1}}, "spec.metric.sense: there is no such field; those there are: name, goal, target, impute, impute_while_running"),
        ({"zzz": 1}, "spec.zzz: there is no such field; see kubectl explain sandboxsweep.spec"),
        ({"parameters": {MIN_RATIO: {"min": "1e-3", "max": 1}}}, f'spec.parameters["{MIN_RATIO}"].min: must be a finite number, not \'1e-3\'; it is text here: write 0.001, without quotes'),
        ({"parameters": {MIN_RATIO: None}}, f'spec.parameters["{MIN_RATIO}"]: must be a mapping; it says nothing of its values: give value, values, min and max, or a distribution'),
        ({"parameters": {MIN_RATIO: [1, 2]}}, f'spec.parameters["{MIN_RATIO}"]: must be a mapping; choices are `values: [1, 2]`'),
        ({"parameters": {MIN_RATIO: {"distribution": "uniform", "min": 1}}}, f'spec.parameters["{MIN_RATIO}"].max: is missing; uniform needs it'),
        ({"template": None}, "spec.template: write keys and values"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_that_says_what_to_do(more: dict[str, Any], said: str) -> None:
    assert compiled(**more).problems == (said,)


def test_a_misspelt_quality_score_is_recognised() -> None:
    (problem,) = judging("quality_scor").problems
    assert problem == "spec.metric.name: no job here has the figure 'quality_scor'; did you mean 'quality_score'?"


def test_a_missing_template_is_told_once() -> None:
    spec = a_spec()
    del spec["template"]
    assert compile_sweep(spec, name="s", uid="u").problems == ("spec.template: is missing",)


def test_what_a_refine_job_sets_as_well_is_told_with_the_fields_of_a_sweep() -> None:
    whole = refining([{"text_length_filter": {"min_len": 5}}])
    (problem,) = compiled(template=whole, parameters={LENGTH: {"values": [10, 20]}}).problems
    assert "name the parameter in spec.overrides to replace what it finds" in problem
    assert "RefineRecipeViaKSigmaHook (spec.template.refineRecipeJobConfigs[0])" in problem
    assert "spec.trial" not in problem


def test_a_file_that_is_not_there_is_told_without_the_systems_number(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["plan", str(tmp_path / "nope.yaml")])
    assert result.exit_code != 0
    assert "nope.yaml: there is no such file" in result.output
    assert "Errno" not in result.output


def test_a_converted_search_that_would_stop_nothing_is_told_so() -> None:
    file = Path(__file__).parents[1] / "golden/convert/hpo/in/sandbox.yaml"
    result = CliRunner().invoke(app, ["convert", str(file)])
    assert "warning: spec.earlyTerminate: no trial will be ended early, because quality" in result.stderr


# mistakes of ours


class Unreadable(dict[str, Any]):
    """A spec that we stumble over."""

    def items(self) -> Any:
        raise ValueError("math domain error")


def test_a_spec_that_the_operator_stumbles_over_stalls_the_sweep_with_a_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fact = SweepFact("s", "lab", "sweep-uid", 1, "1", Unreadable(a_spec()), b"{}", deleting=False)
    found = plan_sweep(a_sweep(), compiled_or_told(fact, {}), StudyCache(), Defaults(), NOW)

    assert told(found, "Stalled") == ("True", "InvalidSpec")
    (ready,) = (condition for condition in found.status.conditions if condition.type == "Ready")
    assert ready.message.startswith("spec: this operator made a mistake with it (ValueError: math domain error); ")
    (record,) = caplog.records
    assert record.exc_info is not None
