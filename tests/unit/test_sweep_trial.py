# SPDX-License-Identifier: Apache-2.0
"""A sweep's trial: which jobs its parameters go to, what of them is refused, and the figure it is judged by."""

from typing import Any

import pytest
from tests.unit.builders import OWN_HOOKS, a_spec, probe, process, refine

from sandbox_api.contract import Configs
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.configs import given_configs
from sandbox_operator.plan.job import PlannedJob

RECIPE: list[dict[str, Any]] = [
    {"character_repetition_filter": {"rep_len": 10, "max_ratio": 0.5}},
    {"text_length_filter": {"min_len": 10, "max_len": 10000}},
    {"text_length_filter": None},
]
DJ = {"dataset_path": "inputs/raw/demo.jsonl", "process": RECIPE}
QUALITY = {
    "hook": "EvaluateDataHook", "metaName": "quality", "type": "dj_text_quality_classifier",
    "input": {"extraConfigs.dataset_path": "anonymous.process.dataset"},
}  # fmt: skip


def a_trial(parameters: dict[str, Any], *, metric: str = "quality_score", **more: Any) -> dict[str, Any]:
    return {"sweep": "hpo", "number": 3, "metric": metric, "parameters": parameters, **more}


def a_search(parameters: dict[str, Any], **trial: Any) -> dict[str, Any]:
    """Probe, process, judge."""
    return a_spec(
        probes=[probe(metaName="look", djConfigs=DJ)],
        executions=[process(metaName="process", djConfigs=DJ)],
        evaluations=[QUALITY],
        trial=a_trial(parameters, **trial),
    )


def refined(parameters: dict[str, Any], **trial: Any) -> dict[str, Any]:
    """The same with a refine job between, whose recipe is processed."""
    return a_search(parameters, **trial) | {
        "refineRecipeJobConfigs": [refine(metaName="look", djConfigs=DJ)],
        "executionJobConfigs": [process(metaName="process", input={"djConfigs": "anonymous.look.recipe"})],
    }


def jobs_of(spec: dict[str, Any]) -> dict[str, PlannedJob]:
    found = compile_spec(spec, OWN_HOOKS)
    assert found.problems == ()
    return {job.id.removeprefix("anonymous/1/"): job for job in found.jobs}


def told(spec: dict[str, Any]) -> str:
    (problem,) = compile_spec(spec, OWN_HOOKS).problems
    return problem


def test_an_operators_argument_goes_to_the_recipes_that_are_processed_and_not_to_the_probes() -> None:
    values = {"text_length_filter.min_len": 256, "character_repetition_filter.max_ratio": 0.3, "np": 2}

    dealt = {where: job.parameters for where, job in jobs_of(a_search(values)).items()}

    assert dealt == {"probe/0": {}, "execution/0": values, "evaluation/0": {}}


def test_a_jobs_name_leads_to_that_job_whatever_its_hook() -> None:
    values = {
        "look.text_length_filter.min_len": 5,
        "anonymous.process.text_length_filter#2.max_len": 99,
        "quality.extraConfigs.text_key": "a.b",
        "process.djConfigs.np": 3,
    }

    dealt = {where: dict(job.parameters) for where, job in jobs_of(a_search(values)).items()}

    assert dealt == {
        "probe/0": {"text_length_filter.min_len": 5},
        "execution/0": {"text_length_filter#2.max_len": 99, "djConfigs.np": 3},
        "evaluation/0": {"extraConfigs.text_key": "a.b"},
    }


def test_a_job_that_no_parameter_concerns_is_the_same_job_in_every_trial() -> None:
    """What its cache key and its digest are made of."""
    one, other = (jobs_of(a_search({"text_length_filter.min_len": value})) for value in (10, 20))
    plain = jobs_of({key: value for key, value in a_search({}).items() if key != "trial"})

    assert one["probe/0"].digest == other["probe/0"].digest == plain["probe/0"].digest
    assert given_configs(one["probe/0"]) == given_configs(plain["probe/0"])
    assert len({found["execution/0"].digest for found in (one, other, plain)}) == 3
    assert given_configs(one["execution/0"]).parameters == {"text_length_filter.min_len": 10}
    assert Configs().model_dump(exclude_defaults=True) == {}


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("text_lenght_filter.min_len", 5, "; did you mean 'text_length_filter.min_len'?"),
        ("text_length_filter#3.min_len", 5, "; did you mean 'text_length_filter#2.min_len'?"),
        ("dataset_pth", "x", "; did you mean 'dataset_path'?"),
        ("qualiti.extraConfigs.text_key", "x", "; did you mean 'quality.extraConfigs.text_key'?"),
        ("quality.text_key", "x", "; did you mean 'quality.extraConfigs.text_key'?"),
        ("process.text_lenght_filter.min_len", 5, "; did you mean"),
        ("other.process.np", 5, "no operator of a ProcessDataHook job and no job here has this name"),
        ("", 5, "no operator of a ProcessDataHook job and no job here has this name"),
        (
            "text_length_filter.min_lenn", 5,
            "spec.executionJobConfigs[0].djConfigs.process[1].text_length_filter.min_lenn: the operator has no such"
            " argument; did you mean 'min_len'?",
        ),
        (
            "quality.extraConfigs.keep_method", "best",
            "spec.evaluationJobConfigs[0].extraConfigs.keep_method: input should be 'label', 'pareto' or 'gpt3'",
        ),
        (
            "quality.djConfigs.np", 3,
            "spec.evaluationJobConfigs[0].djConfigs: EvaluateDataHook reads no Data-Juicer configuration; leave it out",
        ),
        ("process.djConfigs.process.7.text_length_filter.min_len", 3, "the list there has 3 elements, from 0"),
        ("np.deep", 3, "no operator of a ProcessDataHook job"),
        ("process.djConfigs.dataset_path.deep", 3, "djConfigs.dataset_path holds no keys"),
        ("dataset_path", "/etc/passwd", "lies outside the workspace"),
    ],
)  # fmt: skip
def test_a_parameter_that_can_not_be_is_refused_by_its_name(name: str, value: Any, sentence: str) -> None:
    said = told(a_search({name: value}))

    assert said.startswith(f'spec.trial.parameters["{name}"]: ')
    assert sentence in said


def test_the_recipe_of_a_refine_job_is_looked_at_where_it_is_known() -> None:
    assert "did you mean" in told(refined({"text_lenght_filter.min_len": 5}))
    assert "no such argument" in told(refined({"text_length_filter.min_lenn": 5}))
    assert jobs_of(refined({"np": 5}))["execution/0"].parameters == {"np": 5}


def test_a_recipe_that_only_the_pod_can_see_is_left_to_the_pod() -> None:
    spec = a_search({"my_own_filter.min_len": 5, "np": 3})
    spec["executionJobConfigs"] = [process(metaName="process", djConfigs="inputs/raw/recipe.yaml")]

    assert jobs_of(spec)["execution/0"].parameters == {"my_own_filter.min_len": 5, "np": 3}


def test_what_a_refine_job_may_set_is_refused_unless_it_stands_in_overrides() -> None:
    said = told(refined({"text_length_filter.min_len": 5}))

    assert said.startswith('spec.trial.parameters["text_length_filter.min_len"]: RefineRecipeViaKSigmaHook (')
    assert "spec.refineRecipeJobConfigs[0]" in said
    assert "overrides" in said
    kept = jobs_of(refined({"text_length_filter.min_len": 5}, overrides=["text_length_filter.min_len"]))
    assert kept["execution/0"].parameters == {"text_length_filter.min_len": 5}


@pytest.mark.parametrize("name", ["character_repetition_filter.rep_len", "text_length_filter.text_key", "np"])
def test_what_no_refine_job_sets_needs_no_override(name: str) -> None:
    assert jobs_of(refined({name: 5}))["execution/0"].parameters == {name: 5}


@pytest.mark.parametrize(
    "name",
    ["process.djConfigs.process.1.text_length_filter.min_len", "process.text_length_filter#2.max_len", "process"],
)
def test_a_bound_is_refined_however_it_is_written(name: str) -> None:
    value = RECIPE if name == "process" else 5
    assert "RefineRecipeViaKSigmaHook" in told(refined({name: value}))


def test_an_iteration_that_gets_a_refined_recipe_is_no_way_around() -> None:
    spec = a_search({"text_length_filter.min_len": 5}) | {
        "refineRecipeJobConfigs": [refine(metaName="look", djConfigs=DJ)],
        "maxIterNum": 2,
        "iterUpdater": {"anonymous.look.recipe": "anonymous.process.djConfigs"},
    }

    assert "RefineRecipeViaKSigmaHook" in told(spec)


def test_an_override_of_nothing_is_told() -> None:
    said = told(a_search({"text_length_filter.min_len": 5}, overrides=["text_length_filter.min_le"]))
    assert said.startswith("spec.trial.overrides[0]: there is no parameter 'text_length_filter.min_le'; did you mean")


def test_two_names_for_one_place_are_one_too_many() -> None:
    said = told(a_search({"text_length_filter.min_len": 5, "process.text_length_filter#1.min_len": 6}))
    assert "leave one of them out" in said


def test_a_name_that_may_be_meant_for_another_operator_is_a_warning() -> None:
    found = compile_spec(a_search({"text_length_filter.min_len": 5}))
    assert any("goes to the first of 2 text_length_filter" in warning for warning in found.warnings)
    assert not compile_spec(a_search({"text_length_filter#2.min_len": 5})).warnings


def test_settings_that_fit_together_only_are_looked_at_together() -> None:
    """A parameter may bring what a template lacks, and two may be right only with each other."""
    spec = a_search({"quality.extraConfigs.dataset_path": "inputs/raw/a.jsonl"})
    spec["evaluationJobConfigs"] = [{key: value for key, value in QUALITY.items() if key != "input"}]

    assert "quality.extraConfigs.dataset_path" in spec["trial"]["parameters"]
    assert jobs_of(spec)["evaluation/0"].parameters == {"extraConfigs.dataset_path": "inputs/raw/a.jsonl"}
