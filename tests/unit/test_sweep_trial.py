# SPDX-License-Identifier: Apache-2.0
"""A sweep's trial: which jobs its parameters go to, what of them is refused, and the figure it is judged by."""

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from tests.hook_pod import job_contract
from tests.unit.builders import (
    OWN_HOOKS,
    Play,
    a_spec,
    condition,
    later,
    lists,
    pipelines,
    probe,
    process,
    refine,
    written,
)

from sandbox_api.contract import Configs, Rungs
from sandbox_api.parameters import in_order, operators_in, place_of
from sandbox_api.status import Condition, ExperimentStatus, JobStatus, TrialDecision, TrialStatus
from sandbox_operator.cli.offline import Experiment
from sandbox_operator.cli.plan_table import plan_table
from sandbox_operator.cli.preview import previewed
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.configs import effective, given_configs, placed, with_parameters
from sandbox_operator.plan.contracts import rungs_for
from sandbox_operator.plan.job import PlannedJob, Reference
from sandbox_operator.plan.objective import Missing, objective_value
from sandbox_operator.reconcile.projections import experiment_fact, rungs_of_job
from sandbox_runtime.configs import resolve_configs
from sandbox_runtime.workspace import Workspace

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


OPERATORS = st.sampled_from(["a_filter", "b_mapper", "text_length_filter"])
ENTRIES = st.builds(lambda op, arguments: {op: arguments}, OPERATORS, st.sampled_from([None, {}, {"x": 1}]))


@given(st.lists(ENTRIES, max_size=6), st.data())
def test_a_name_leads_to_the_operator_that_it_counts_to(recipe: list[dict[str, Any]], data: st.DataObject) -> None:
    """Of each operator of a recipe there is one name, and what is set by it is in that operator alone."""
    dj = {"process": recipe}
    names = operators_in(dj)
    assert len(set(names)) == len(recipe)
    if not recipe:
        return
    index = data.draw(st.integers(0, len(recipe) - 1))
    op = next(iter(recipe[index]))

    place = place_of(f"{names[index]}.arg.deep", dj)

    assert place == f"djConfigs.process.{index}.{op}.arg.deep"
    after = placed({"djConfigs": dj, "extraConfigs": None}, place, "$(HOME)")["djConfigs"]["process"]
    assert after[index] == {op: {**(recipe[index][op] or {}), "arg": {"deep": "$(HOME)"}}}
    assert after[:index] + after[index + 1 :] == recipe[:index] + recipe[index + 1 :]


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.lists(ENTRIES, max_size=3))
def test_any_text_is_a_place_or_is_refused_in_words(name: str, recipe: list[dict[str, Any]]) -> None:
    words, place = "", ""
    try:
        place = place_of(name, {"process": recipe})
    except LookupError as error:
        words = str(error.args[0])
    root, *keys = place.split(".")

    assert words or (root in ("djConfigs", "extraConfigs") and keys and all(keys))


@given(st.dictionaries(st.sampled_from(["process", "np", "a.b", "extraConfigs.a", "extraConfigs.a.b"]), st.integers()))
def test_what_holds_others_is_set_before_what_lies_in_it(values: dict[str, int]) -> None:
    order = [name for name, _ in in_order(values)]
    assert sorted(order) == sorted(values)
    for whole, part in (("process", "a.b"), ("extraConfigs.a", "extraConfigs.a.b")):
        if whole in order and part in order:
            assert order.index(whole) < order.index(part)


ANYWHERE = st.sampled_from(
    [
        "text_length_filter.min_len", "text_length_filter#2.max_len", "text_length_filter#1.min_len", "np", "process",
        "character_repetition_filter.rep_len", "process.djConfigs.process.0.character_repetition_filter.rep_len",
        "process.djConfigs.text_keys", "process.text_length_filter.max_len", "look.text_length_filter.min_len",
        "quality.extraConfigs.text_key", "anonymous.process.djConfigs.np", "dataset_path", "nowhere.x", "a..b", "#", ".",
    ]
)  # fmt: skip
VALUES = st.one_of(st.integers(), st.text(max_size=5), st.none(), st.just(RECIPE[:1]), st.just({"a": [1]}))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parameters=st.dictionaries(ANYWHERE, VALUES, max_size=4))
def test_what_the_planner_accepts_the_pod_applies_to_the_same_places(
    parameters: dict[str, Any], tmp_path: Path
) -> None:
    found = compile_spec(a_search(parameters), OWN_HOOKS)
    assert all(problem.startswith("spec.") for problem in found.problems)
    if found.problems:
        return
    for job in found.jobs:
        contract = job_contract(dj=job.config.dj_configs, extra=job.config.extra_configs)
        contract = contract.model_copy(update={"configs": given_configs(job)})
        (tmp_path / "inputs/raw").mkdir(parents=True, exist_ok=True)
        (tmp_path / "inputs/raw/demo.jsonl").touch()
        volume = tmp_path / "volume" / "experiments" / "demo-1f2e3d4c"
        volume.mkdir(parents=True, exist_ok=True)
        if not (volume / "inputs").exists():
            (volume / "inputs").symlink_to(tmp_path / "inputs")
        workspace = Workspace(tmp_path / "volume", tmp_path / "inputs", contract, "pod-uid")
        seen = effective(with_parameters(job.config, job.parameters))
        applied = resolve_configs(contract, {}, workspace)
        assert (applied.dj, applied.extra) == (seen["djConfigs"], seen["extraConfigs"] or {})


def test_the_plan_shows_the_parameters_of_a_job_after_its_inputs() -> None:
    plan, _ = previewed(Experiment("hpo-3", None, refined({"np": 4, "character_repetition_filter.rep_len": 8})), {}, {})
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(plan_table(plan, 100))
    shown = console.export_text()

    assert [job.parameters for job in plan.jobs if job.parameters] == [
        {"np": 4, "character_repetition_filter.rep_len": 8}
    ]
    assert "character_repetition_filter.rep_len = 8" in shown
    assert shown.index("djConfigs = look.recipe") < shown.index("np = 4")


def objective_of(metric: str, spec: dict[str, Any] | None = None) -> list[str]:
    """The jobs and the figure that a metric's name means, or what is said of it."""
    found = compile_spec((spec or a_search({})) | {"trial": a_trial({}, metric=metric)}, OWN_HOOKS)
    return [*found.problems, *(f"{r.job_id} {r.output}" for r in found.objective)]


@pytest.mark.parametrize(
    ("metric", "figure"),
    [
        ("quality_score", "evaluation/0 mean"),
        ("quality.mean", "evaluation/0 mean"),
        ("anonymous.quality.value", "evaluation/0 value"),
        ("kept_share", "evaluation/0 kept_share"),
        ("process.rows_out", "execution/0 rows_out"),
        ("process.ops.0_text_length_filter.rows_out", "execution/0 ops.0_text_length_filter.rows_out"),
        ("ops.0_text_length_filter.rows_out", "execution/0 ops.0_text_length_filter.rows_out"),
        ("look.text_len.mean", "probe/0 text_len.mean"),
        ("text_len.mean", "probe/0 text_len.mean"),
    ],
)
def test_a_metric_is_a_whole_key_or_the_end_of_one(metric: str, figure: str) -> None:
    assert objective_of(metric) == [f"anonymous/1/{figure}"]


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        ("rows", "may be several figures: anonymous.look.rows, anonymous.quality.rows; write the whole of one"),
        ("quality.meen", "no job here has the figure 'quality.meen'; did you mean 'quality.mean'?"),
        ("train.loss", "no job here has the figure 'train.loss'"),
        ("report", "no job here has the figure 'report'"),
        ("", "no job here has the figure ''"),
    ],
)
def test_a_metric_that_no_job_or_more_than_one_has_is_refused(metric: str, sentence: str) -> None:
    (said,) = objective_of(metric)
    assert said.startswith("spec.trial.metric: ")
    assert sentence in said


def test_the_quality_score_is_that_of_the_only_classifier() -> None:
    spec = a_search({})
    none = spec | {"evaluationJobConfigs": [probe()]}
    two = spec | {"evaluationJobConfigs": [QUALITY, {**QUALITY, "metaName": "other"}]}

    assert "dj_text_quality_classifier, and there is none" in objective_of("quality_score", none)[0]
    assert "anonymous.quality.mean, anonymous.other.mean" in objective_of("quality_score", two)[0]


def test_a_figure_in_several_pipelines_or_of_each_item_is_refused() -> None:
    both = pipelines(*({"name": name, **lists(probes=[probe(metaName="look")])} for name in ("one", "two")))
    each = a_search({}) | {"probeJobConfigs": [probe(metaName="each", forEach={"item": "x", "in": ["a", "b"]})]}

    assert "one.look.rows, two.look.rows" in objective_of("look.rows", both)[0]
    assert objective_of("two.look.rows", both) == ["two/1/probe/0 rows"]
    assert "for each item of a list" in objective_of("each.rows", each)[0]


def test_what_an_own_hook_measures_is_taken_on_trust() -> None:
    spec = a_search({}) | {"evaluationJobConfigs": [{"hook": "workers", "metaName": "own"}]}

    assert objective_of("own.any.thing", spec) == ["anonymous/1/evaluation/0 any.thing"]
    assert objective_of("anonymous.own.any.thing", spec) == ["anonymous/1/evaluation/0 any.thing"]


def test_the_metric_is_needed_and_so_never_cut() -> None:
    assert jobs_of(a_search({}))["evaluation/0"].needs == ("mean",)


def judged(metrics: dict[str, float], state: str = "Succeeded", **status: Any) -> ExperimentStatus:
    entry = JobStatus(
        id="anonymous/1/evaluation/0", hook="EvaluateDataHook", meta_name="quality", state=state, metrics=metrics,  # type: ignore[arg-type]
        message="300 rows",
    )  # fmt: skip
    return ExperimentStatus(**{"outcome": "Succeeded", "jobs": [entry], **status})


def value(status: ExperimentStatus) -> float | tuple[str, str]:
    found = objective_value(compile_spec(a_search({})), status)
    return (found.reason, found.message) if isinstance(found, Missing) else found


def test_the_value_of_a_trial_is_the_metric_of_its_last_iteration() -> None:
    assert value(judged({"quality.mean": 0.25})) == 0.25
    second = judged({"quality.mean": 0.5}).jobs[0].model_copy(update={"id": "anonymous/2/evaluation/0"})
    assert value(judged({"quality.mean": 0.25}, iteration=2, jobs=[*judged({}).jobs, second])) == 0.5


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (judged({"quality.std": 0.25}), "MetricMissing"),
        (judged({}, state="Failed"), "MetricMissing"),
        (judged({}, jobs=[]), "MetricMissing"),
        (judged({"quality.mean": float("nan")}), "MetricNotFinite"),
        (judged({"quality.mean": float("inf")}), "MetricNotFinite"),
        (judged({"quality.mean": 0.25}, outcome="Running"), "Running"),
        (ExperimentStatus(), "Pending"),
    ],
)
def test_a_trial_without_a_number_says_why(status: ExperimentStatus, reason: str) -> None:
    assert value(status)[0] == reason  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"message": None}, "gave no number 'mean'; it has succeeded"),
        ({}, "gave no number 'mean'; it has succeeded: 300 rows"),
        ({"state": "Skipped", "message": None}, "gave no number 'mean'; it was skipped"),
        ({"not_finite": ["quality.mean"]}, "'mean' of anonymous/1/evaluation/0 is no finite number"),
    ],
)
def test_why_there_is_no_number_is_a_sentence(change: dict[str, Any], words: str) -> None:
    status = judged({"quality.std": 0.25})
    status = status.model_copy(update={"jobs": [status.jobs[0].model_copy(update=change)]})
    assert str(value(status)[1]).endswith(words)  # type: ignore[index]


def test_a_trial_that_failed_says_what_failed() -> None:
    said = Condition(
        type="Succeeded", status="False", last_transition_time=written(later(0)), reason="OutOfMemory", message="it did"
    )
    assert value(judged({"quality.mean": 0.25}, outcome="Failed", conditions=[said])) == ("OutOfMemory", "it did")


def trained(**more: Any) -> dict[str, Any]:
    train = {
        "hook": "TrainModelHook", "metaName": "train", "type": "modelscope",
        "extraConfigs": {"model_name": "inputs/raw/bert", "train_dataset": "inputs/raw/a.jsonl"},
    }  # fmt: skip
    return a_spec(executions=[train], probes=[], evaluations=[], **more)


def test_of_repeats_the_mean_counts_and_all_of_them_must_be_there() -> None:
    compiled = compile_spec(trained(repeats=2, trial=a_trial({}, metric="train.loss")))
    assert compiled.problems == ()
    assert compiled.objective == tuple(Reference(f"anonymous/1/execution/0~{n}", "loss") for n in (0, 1))
    assert [job.needs for job in compiled.jobs] == [("loss",), ("loss",)]

    def entry(number: int, loss: float) -> JobStatus:
        name = f"anonymous/1/execution/0~{number}"
        return JobStatus(
            id=name, hook="TrainModelHook", meta_name="train", state="Succeeded", metrics={"train.loss": loss}
        )

    both = ExperimentStatus(outcome="Succeeded", jobs=[entry(0, 1.0), entry(1, 2.0)])
    assert objective_value(compiled, both) == 1.5
    huge = ExperimentStatus(outcome="Succeeded", jobs=[entry(0, 1.7e308), entry(1, 1.7e308)])
    beyond = objective_value(compiled, huge)
    assert isinstance(beyond, Missing)
    assert beyond.reason == "MetricNotFinite"
    one = objective_value(compiled, ExperimentStatus(outcome="Succeeded", jobs=[entry(0, 1.0)]))
    assert isinstance(one, Missing)


def test_the_job_that_logs_the_figure_is_told_the_rungs() -> None:
    rungs = {"metric": "anonymous.train.loss", "resource": "train.step", "at": [3, 9]}
    trial = a_trial({}, metric="train.loss", rungs=rungs)
    compiled = compile_spec(trained(repeats=2, trial=trial))
    assert compiled.spec is not None

    first, second = (rungs_for(compiled.spec, job) for job in compiled.jobs)

    assert first == Rungs(metric="train.loss", resource="train.step", at=[3, 9])
    assert second is None
    others = a_search({}, rungs=rungs)
    assert [rungs_for(compile_spec(others).spec, job) for job in compile_spec(others).jobs] == [None] * 3  # type: ignore[arg-type]


@pytest.mark.parametrize("ended", [False, True])
def test_of_each_job_the_rungs_are_believed_that_its_contract_names(ended: bool) -> None:
    rungs = {"metric": "anonymous.train.loss", "resource": "train.step", "at": [3, 9]}
    spec = trained(repeats=2, trial=a_trial({}, metric="train.loss", rungs=rungs))
    jobs = [
        {"id": job.id, "hook": job.hook.name, "metaName": job.meta_name, "state": "Running"}
        for job in compile_spec(spec).jobs
    ]
    status = {"jobs": jobs, "observedGeneration": 1, **({"completionTime": "2026-01-31T12:00:00Z"} if ended else {})}
    meta = {"name": "hpo-0000", "namespace": "lab", "uid": "u", "generation": 1, "resourceVersion": "1"}
    owner = {"apiVersion": "v1", "kind": "SandboxSweep", "name": "hpo", "uid": "s", "controller": True}
    trial = experiment_fact({"metadata": {**meta, "ownerReferences": [owner]}, "spec": spec, "status": status})
    assert trial.is_settled is ended

    assert [rungs_of_job(trial, job["id"]) for job in jobs] == [{3, 9}, frozenset()], "of repeats the first one decides"
    assert rungs_of_job(trial, "anonymous/1/execution/7") == frozenset()
    alone = experiment_fact({"metadata": meta, "spec": spec, "status": status})
    assert rungs_of_job(alone, jobs[0]["id"]) == frozenset(), "nobody decides on what no sweep has made"


@pytest.mark.parametrize(("value", "words"), [(0.25, "0.25"), (None, "no finite number")])
def test_a_pruned_trial_stops_at_once_and_says_whose_word_it_was(value: float | None, words: str) -> None:
    play = Play(a_search({"text_length_filter.min_len": 5}))
    play.step()
    (first,) = play.snapshot.jobs
    play.run_in("anonymous/1/probe/0")
    decisions = [TrialDecision(rung=3, value=value, seen=4, decision="Stop")]
    decided = play.status.model_copy(update={"trial": TrialStatus(decisions=decisions, pruned=True)})
    play.change(status=decided)
    play.change_spec(stop="Now")

    step = play.step()

    assert [action.name for action in step.actions] == [first.name]  # type: ignore[union-attr]
    assert play.status.outcome == "Stopped"
    assert condition(play.status, "Succeeded") == "False: Pruned"
    said = next(c.message for c in play.status.conditions if c.type == "Succeeded")
    assert said == f"ended early by the sweep hpo at 3, where its value was {words}; 0 of 3 jobs done"
    assert play.status.trial == decided.trial
    found = objective_value(compile_spec(play.spec), play.status)
    assert isinstance(found, Missing)
    assert found.reason == "Pruned"


def test_what_a_sweep_has_written_into_the_status_stays_there() -> None:
    play = Play(a_search({}))
    play.step()
    decided = TrialStatus(decisions=[TrialDecision(rung=1, value=0.5, decision="Continue")])
    play.change(status=play.status.model_copy(update={"trial": decided}))
    play.run_in("anonymous/1/probe/0")
    assert play.status.trial == decided
    play.change_spec(stop="Now")
    play.step()
    assert condition(play.status, "Succeeded") == "False: Stopped"


def test_how_many_checkpoints_are_kept_is_part_of_what_a_training_is_asked_for() -> None:
    plain, two = compile_spec(trained_by_swift()), compile_spec(trained_by_swift(keep={"checkpoints": 2}))
    assert plain.problems == two.problems == ()
    (job,), (limited,) = plain.jobs, two.jobs

    assert (job.keep_checkpoints, limited.keep_checkpoints) == (None, 2)
    assert job.digest != limited.digest
    assert compile_spec(trained_by_swift(keep={})).jobs[0].digest == job.digest
    for spec in (trained(keep={"checkpoints": 2}), a_search({}) | {"keep": {"checkpoints": 2}}):
        assert any(words.startswith("spec.keep.checkpoints: has no effect") for words in compile_spec(spec).warnings)
        assert all(job.keep_checkpoints is None for job in compile_spec(spec).jobs)


def trained_by_swift(**more: Any) -> dict[str, Any]:
    train = {
        "hook": "TrainModelHook", "metaName": "train", "type": "swift",
        "extraConfigs": {"model": "inputs/raw/m", "dataset": "inputs/raw/a.jsonl"},
    }  # fmt: skip
    return a_spec(executions=[train], probes=[], evaluations=[], **more)
