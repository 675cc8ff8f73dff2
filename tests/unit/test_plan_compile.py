# SPDX-License-Identifier: Apache-2.0
"""What a spec means, and every way in which it can be wrong: the sentence begins with the very field."""

from typing import Any

import pytest
from tests.unit.builders import RECIPE, a_spec, feedback, four_jobs, probe, process, refine

from sandbox_api.modelscope import MEGATRON
from sandbox_operator.plan.compile import Compiled, compile_spec
from sandbox_operator.plan.references import Reference

P, R, E, V = (
    f"spec.{name}[0]"
    for name in ("probeJobConfigs", "refineRecipeJobConfigs", "executionJobConfigs", "evaluationJobConfigs")
)
DJ: dict[str, Any] = {"dataset_path": "inputs/raw/demo.jsonl", "process": RECIPE}


def compiled(spec: dict[str, Any]) -> Compiled:
    """A spec that must be right."""
    result = compile_spec(spec)
    assert result.problems == ()
    return result


def the_problem(spec: dict[str, Any]) -> str:
    """The one problem of a spec."""
    (problem,) = compile_spec(spec).problems
    return problem


# What it means


def test_jobs_run_in_the_order_of_the_lists() -> None:
    jobs = compiled(four_jobs()).jobs

    assert [job.id for job in jobs] == [
        "anonymous/1/probe/0",
        "anonymous/1/refine/0",
        "anonymous/1/execution/0",
        "anonymous/1/evaluation/0",
    ]
    assert [dict(job.inputs) for job in jobs] == [
        {},
        {"probe": Reference("anonymous/1/probe/0", "overall")},
        {"djConfigs": Reference("anonymous/1/refine/0", "refined_recipe")},
        {"djConfigs.dataset_path": Reference("anonymous/1/execution/0", "processed")},
    ]


def test_outputs_are_named_by_position_and_the_others_keep_their_names() -> None:
    (job,) = compiled(a_spec(probes=[probe(output=["rows", "table"])])).jobs

    assert job.outputs == ("rows", "table", "histograms", "dataset")


def test_a_job_without_a_name_gets_its_hooks_own_and_the_next_ones_are_numbered() -> None:
    spec = a_spec(probes=[probe(), probe(), probe(metaName="probe_3"), probe()], executions=[process()])

    assert [job.meta_name for job in compiled(spec).jobs] == ["probe", "probe_2", "probe_3", "probe_4", "process"]


def test_a_refine_job_may_share_its_probes_name_or_name_the_probe() -> None:
    shared = compiled(a_spec(probes=[probe(metaName="a")], refines=[refine(metaName="a")])).jobs[1]
    named = compiled(a_spec(probes=[probe(metaName="a"), probe()], refines=[refine(probe="a")])).jobs[2]

    assert shared.inputs == named.inputs == {"probe": Reference("anonymous/1/probe/0", "overall")}


def test_feedback_reads_its_probes_rows_and_scores_of_a_user_or_of_an_earlier_job() -> None:
    spec = a_spec(
        probes=[probe(metaName="a", output=["each_row"]), probe(metaName="judge")],
        refines=[
            feedback(metaName="a", extraConfigs={**feedback()["extraConfigs"], "minKept": 0.7, "maxStep": 2}),
            feedback(
                probe="a",
                extraConfigs={"goal": "minimize", "score": "__dj__stats__.perplexity"},
                input={"extraConfigs.path_scores": "anonymous.judge.stats"},
            ),
        ],
        executions=[process(input={"djConfigs": "-1.recipe", "djConfigs.np": "anonymous.refine.expected_kept"})],
    )
    jobs = compiled(spec).jobs

    rows = Reference("anonymous/1/probe/0", "each_row")
    assert jobs[2].inputs == {"probe": rows}
    assert jobs[3].inputs == {"probe": rows, "extraConfigs.path_scores": Reference("anonymous/1/probe/1", "stats")}
    assert jobs[4].inputs["djConfigs"] == Reference("anonymous/1/refine/1", "recipe")


def test_a_shared_name_is_resolved_by_the_outputs_name() -> None:
    spec = four_jobs()
    spec["executionJobConfigs"] = [
        process(input={"djConfigs": "anonymous.analysis.refined_recipe", "djConfigs.np": "anonymous.analysis.rows"})
    ]
    spec["evaluationJobConfigs"] = []

    assert compiled(spec).jobs[2].inputs == {
        "djConfigs": Reference("anonymous/1/refine/0", "refined_recipe"),
        "djConfigs.np": Reference("anonymous/1/probe/0", "rows"),
    }


@pytest.mark.parametrize(
    ("figure", "made_by"),
    [
        ("rows", "probe"),
        ("text_len.mean", "probe"),
        ("text_len.25%", "probe"),
        ("refined.text_length_filter.min_len.after", "refine"),
        ("refineRecipe.refined.text_length_filter.min_len.after", "refine"),
    ],
)
def test_a_figure_can_be_referred_to_like_an_output(figure: str, made_by: str) -> None:
    spec = a_spec(
        probes=[probe(metaName="a")],
        refines=[refine(metaName="a")],
        executions=[process(djConfigs=DJ, input={"djConfigs.np": f"anonymous.a.{figure}"})],
    )

    assert compiled(spec).jobs[2].inputs["djConfigs.np"] == Reference(f"anonymous/1/{made_by}/0", figure)


def test_a_path_that_an_earlier_job_writes_is_a_reference_to_its_output() -> None:
    """Files in the guide's style: the recipe and the data set are handed on by their paths."""
    spec = a_spec(
        probes=[probe(metaName="a", djConfigs={**DJ, "export_path": "outputs/demo.jsonl"})],
        refines=[
            refine(
                metaName="a",
                djConfigs={**DJ, "export_path": "outputs/demo.jsonl"},
                extraConfigs={"path_k_sigma_recipe": "./outputs/recipe.yaml"},
            )
        ],
        executions=[process(djConfigs="outputs/recipe.yaml")],
        evaluations=[probe(metaName="b", djConfigs={**DJ, "dataset_path": "outputs/x/../demo.jsonl"})],
    )

    jobs = compiled(spec).jobs
    assert jobs[2].inputs == {"djConfigs": Reference("anonymous/1/refine/0", "recipe")}
    # the export_path that counts is the one in the recipe which the process job gets
    assert jobs[3].inputs == {"djConfigs.dataset_path": Reference("anonymous/1/execution/0", "dataset")}


def test_what_input_says_wins_over_a_path() -> None:
    spec = a_spec(
        executions=[
            process(metaName="one", djConfigs={**DJ, "export_path": "outputs/one.jsonl"}),
            process(metaName="two"),
            process(
                metaName="three",
                djConfigs={**DJ, "dataset_path": "outputs/one.jsonl"},
                input={"djConfigs.dataset_path": "-1.dataset"},
            ),
        ]
    )

    assert compiled(spec).jobs[2].inputs == {"djConfigs.dataset_path": Reference("anonymous/1/execution/1", "dataset")}


def test_a_configuration_that_input_replaces_says_nothing() -> None:
    spec = four_jobs()
    job = spec["executionJobConfigs"][0]
    job["djConfigs"] = {"dataset_path": "/etc/passwd", "no_such_key": 1, "export_path": "outputs/x.jsonl"}

    assert compiled(spec).jobs[2].inputs == {"djConfigs": Reference("anonymous/1/refine/0", "refined_recipe")}


def test_local_overrides_are_seen_before_the_configuration_is_judged() -> None:
    job = probe(
        djConfigs={"process": RECIPE},
        local={"djConfigs.dataset_path": "inputs/raw/a.jsonl", "djConfigs.process.0.text_length_filter.min_len": 5},
    )

    assert compiled(a_spec(probes=[job])).jobs[0].config.local == job["local"]


def test_local_reaches_into_a_configuration_that_is_a_path() -> None:
    spec = a_spec(
        executions=[
            process(metaName="a", djConfigs="inputs/raw/p.yaml", local={"djConfigs.export_path": "outputs/a.jsonl"}),
            process(metaName="b", djConfigs={**DJ, "dataset_path": "outputs/a.jsonl"}),
        ]
    )

    assert compiled(spec).jobs[1].inputs == {"djConfigs.dataset_path": Reference("anonymous/1/execution/0", "dataset")}


def test_local_changes_one_operator_and_leaves_the_others() -> None:
    recipe = [{"text_length_filter": {}}, {"words_num_filter": {}}, {"document_deduplicator": {"lowercas": True}}]
    job = probe(
        djConfigs={"dataset_path": "a.jsonl", "process": recipe},
        local={"djConfigs.process.0.text_length_filter.min_len": 5},
    )

    assert the_problem(a_spec(probes=[job])).startswith(
        f"{P}.djConfigs.process[2].document_deduplicator.lowercas: the operator has no such argument"
    )


def test_what_a_configuration_in_a_file_asks_for_is_not_known_and_so_not_refused() -> None:
    spec = a_spec(
        probes=[probe(djConfigs="inputs/raw/p.yaml")],
        executions=[process(djConfigs=DJ, input={"djConfigs.dataset_path": "-1.dataset"})],
    )

    assert compiled(spec).jobs[1].inputs == {"djConfigs.dataset_path": Reference("anonymous/1/probe/0", "dataset")}


@pytest.mark.parametrize("text", ["$(HOME)/x.jsonl", "$$", "$(X)", "a $(HOME) b", "${HOME}"])
def test_text_that_looks_like_a_variable_stays_text(text: str) -> None:
    spec = a_spec(probes=[probe(djConfigs={**DJ, "dataset_path": text, "project_name": text})])

    (job,) = compiled(spec).jobs
    assert job.config.dj_configs["dataset_path"] == job.config.dj_configs["project_name"] == text


def test_a_jobs_profile_resources_budgets_and_limits_come_from_the_spec_and_then_from_the_job() -> None:
    spec = a_spec(
        probes=[
            probe(),
            probe(pod="big", resources={"limits": {"memory": "8Gi"}}, retry={"user": 1}, timeouts={"active": "1h30m"}),
        ],
        pods={
            "default": {"resources": {"requests": {"cpu": 1}}},
            "big": {"resources": {"requests": {"cpu": "2"}, "limits": {"memory": "4Gi", "nvidia.com/gpu": 1}}},
        },
        retry={"infra": 7, "backoff": "1m"},
        timeouts={"pending": "5m"},
    )

    small, big = compiled(spec).jobs
    assert small.resources is not None
    assert big.resources is not None
    assert small.resources.requests == {"cpu": 1}
    assert small.resources.limits is None
    assert big.resources.requests == {"cpu": "2"}
    assert big.resources.limits == {"memory": "8Gi", "nvidia.com/gpu": 1}
    assert (small.budgets.user, small.budgets.infra, small.budgets.backoff) == (0, 7, 60)
    assert (big.budgets.user, big.budgets.infra, big.budgets.preempted) == (1, 7, 100)
    assert (small.limits.pending, small.limits.active) == (300, 86400)
    assert (big.limits.pending, big.limits.active) == (300, 5400)


@pytest.mark.parametrize(
    "harmless",
    [
        {"maxIterNum": 1}, {"repeats": 1}, {"onFailure": {"evaluation": "Fail"}}, {"onFailure": {}}, {"keep": {}},
        {"iterTargets": []}, {"iterTargetsMode": "all"}, {"suspendPolicy": "Boundary"}, {"hpoConfig": None},
        {"tracking": {"wandb": {"mode": "disabled"}}}, {"pipelines": []}, {"cache": "Auto"}, {"cache": "Never"},
        {"comparison": []}, {"keepAttempts": True}, {"timeouts": {"nodeLost": "20m"}},
    ],
)  # fmt: skip
def test_a_field_that_asks_for_nothing_special_is_not_refused(harmless: dict[str, Any]) -> None:
    assert compile_spec(a_spec(**harmless)).problems == ()


@pytest.mark.parametrize("harmless", [{"onFailure": "Fail"}, {"nodes": 1}, {"shards": 1}, {"dependsOn": []}])
def test_a_field_of_a_job_that_asks_for_nothing_special_is_not_refused(harmless: dict[str, Any]) -> None:
    assert compile_spec(a_spec(probes=[probe(**harmless)])).problems == ()


@pytest.mark.parametrize(
    "resources",
    [{"requests": {"cpu": "500m"}, "limits": {"cpu": "0.5"}}, {"requests": {"cpu": 8}}, {"limits": {"nvidia.com/gpu": 1}},
     {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": 1}}],
)  # fmt: skip
def test_amounts_that_a_pod_may_have_are_not_refused(resources: dict[str, Any]) -> None:
    compiled(a_spec(probes=[probe(resources=resources)], pods={"default": {"resources": resources}}))


def test_an_amount_of_a_profile_is_told_once_however_many_jobs_have_it() -> None:
    pods = {"default": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1G"}}}}
    spec = a_spec(probes=[probe(), probe(resources={"limits": {"cpu": 1}})], pods=pods)

    assert the_problem(spec).startswith("spec.pods.default.resources.requests.memory: 2Gi is above the limit 1G; ")


# What can be wrong with it: one mistake, one sentence

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown hook": (
        a_spec(probes=[probe(hook="ProbeViaAnalyserHook")]),
        f"{P}.hook: there is no hook 'ProbeViaAnalyserHook'; did you mean 'ProbeViaAnalyzerHook'?",
    ),
    "request above the profile's limit": (
        a_spec(probes=[probe(resources={"requests": {"cpu": "4"}})], pods={"default": {"resources": {"limits": {"cpu": 1}}}}),
        f"{P}.resources.requests.cpu: 4 is above the limit 1; lower it, or raise limits.cpu",
    ),
    "GPUs that are asked for, and no limit": (
        a_spec(probes=[probe(resources={"requests": {"nvidia.com/gpu": 1}})]),
        f"{P}.resources.requests.nvidia.com/gpu: request and limit must be the same; give the limit alone",
    ),
    "no time at all": (
        a_spec(timeouts={"nodeLost": "0s"}),
        "spec.timeouts.nodeLost: 0s leaves no time at all; write a longer time, or leave it out",
    ),
    "no time at all for a job": (
        a_spec(probes=[probe(timeouts={"active": "0m"})]),
        f"{P}.timeouts.active: 0m leaves no time at all; write a longer time, or leave it out",
    ),
    "component of a later version": (
        a_spec(executions=[{"hook": "TrainModelHook", "type": "trinity-rft", "extraConfigs": {}}]),
        f"{E}.type: TrainModelHook of type trinity-rft is not in this version yet",
    ),
    "a key that ms-swift has not": (
        a_spec(
            executions=[
                {"hook": "TrainModelHook", "type": "swift", "extraConfigs": {"model": "m", "dataset": "d", "lora_rang": 4}}
            ]
        ),
        f"{E}.extraConfigs.lora_rang: TrainModelHook has no such setting; did you mean 'lora_rank'?",
    ),
    "a model that needs Megatron": (
        a_spec(
            executions=[
                {
                    "hook": "TrainModelHook",
                    "type": "modelscope",
                    "extraConfigs": {"model_name": "iic/nlp_gpt3_text-generation_1.3B", "train_dataset": "d"},
                }
            ]
        ),
        f"{E}.extraConfigs.model_name: iic/nlp_gpt3_text-generation_1.3B {MEGATRON}",
    ),
    "misspelt field of the spec": (
        a_spec(experimantName="x"),
        "spec.experimantName: there is no such field; did you mean 'experimentName'?",
    ),
    "misspelt field of a job": (
        a_spec(probes=[{"hook": "ProbeViaAnalyzerHook", "djConfig": DJ, "djConfigs": DJ}]),
        f"{P}.djConfig: there is no such field; did you mean 'djConfigs'?",
    ),
    "misspelt key of djConfigs": (
        a_spec(probes=[probe(djConfigs={**DJ, "datset_path": "x"})]),
        f"{P}.djConfigs.datset_path: Data-Juicer 1.6.1 has no such key; did you mean 'dataset_path'?",
    ),
    "unknown operator": (
        a_spec(probes=[probe(djConfigs={**DJ, "process": [{"text_lenght_filter": {}}]})]),
        f"{P}.djConfigs.process[0]: Data-Juicer has no operator 'text_lenght_filter'; did you mean"
        " 'text_length_filter'?",
    ),
    "misspelt argument of an operator": (
        a_spec(probes=[probe(djConfigs={**DJ, "process": [{"text_length_filter": {"min_length": 1}}]})]),
        f"{P}.djConfigs.process[0].text_length_filter.min_length: the operator has no such argument; did you mean"
        " 'min_len'?",
    ),
    "operator that does not run on ray": (
        a_spec(
            executions=[
                process(djConfigs={**DJ, "executor_type": "ray", "process": [{"document_deduplicator": {}}]})
            ]
        ),
        f"{E}.djConfigs.process[0].document_deduplicator: the operator does not run with executor_type 'ray'; use"
        " ray_document_deduplicator",
    ),
    "misspelt key of extraConfigs": (
        a_spec(probes=[probe(metaName="a")], refines=[refine(metaName="a", extraConfigs={"path_sigma_recipe": "x"})]),
        f"{R}.extraConfigs.path_sigma_recipe: RefineRecipeViaKSigmaHook has no such setting; did you mean"
        " 'path_k_sigma_recipe'?",
    ),
    "misspelt key of extraConfigs, filled by input": (
        a_spec(probes=[probe()], executions=[process(djConfigs=DJ, input={"extraConfigs.count": "-1.rows"})]),
        f"{E}.extraConfigs.count: ProcessDataHook has no such setting; it has: countEachOp",
    ),
    "misspelt key of djConfigs, filled by input": (
        a_spec(probes=[probe()], executions=[process(djConfigs=DJ, input={"djConfigs.dataset_pat": "-1.stats"})]),
        f"{E}.djConfigs.dataset_pat: Data-Juicer 1.6.1 has no such key; did you mean 'dataset_path'?",
    ),
    "k of zero": (
        a_spec(probes=[probe(metaName="a")], refines=[refine(metaName="a", extraConfigs={"k": 0})]),
        f"{R}.extraConfigs.k: input should be greater than 0",
    ),
    "reference to an unknown output": (
        a_spec(executions=[process(metaName="process"), process(input={"djConfigs.dataset_path": "anonymous.process.datset"}, djConfigs=DJ)]),
        'spec.executionJobConfigs[1].input["djConfigs.dataset_path"]: no job named \'process\' before this one has an'
        " output 'datset'; did you mean 'anonymous.process.dataset'?",
    ),
    "reference to an unknown job": (
        a_spec(executions=[process(metaName="process"), process(input={"djConfigs.dataset_path": "anonymous.proces.dataset"}, djConfigs=DJ)]),
        'spec.executionJobConfigs[1].input["djConfigs.dataset_path"]: no job before this one has the metaName'
        " 'proces' in the pipeline 'anonymous'; did you mean 'anonymous.process.dataset'?",
    ),
    "reference to a later output": (
        a_spec(executions=[process(djConfigs=DJ, input={"djConfigs.dataset_path": "anonymous.two.dataset"}), process(metaName="two")]),
        f'{E}.input["djConfigs.dataset_path"]: \'anonymous.two.dataset\' is an output of a job that runs later; only'
        " earlier jobs can be referred to",
    ),
    "reference of another form": (
        a_spec(probes=[probe(), probe(input={"djConfigs.np": "rows"})]),
        'spec.probeJobConfigs[1].input["djConfigs.np"]: \'rows\' is not a reference; write'
        " <pipeline>.<metaName>.<output>, or -1.<output>",
    ),
    "-1 of the first job": (
        a_spec(probes=[probe(input={"djConfigs.np": "-1.rows"})]),
        f"{P}.input[\"djConfigs.np\"]: there is no job before this one for '-1.rows'",
    ),
    "-1 with an unknown output": (
        a_spec(probes=[probe()], executions=[process(djConfigs=DJ, input={"djConfigs.dataset_path": "-1.datazet"})]),
        f'{E}.input["djConfigs.dataset_path"]: the job before this one (probe) has no output \'datazet\'; there is:'
        " stats, overall, histograms",
    ),
    "reference to an output that is not asked for": (
        a_spec(probes=[probe(metaName="a")], executions=[process(djConfigs=DJ, input={"djConfigs.dataset_path": "-1.dataset"})]),
        f'{E}.input["djConfigs.dataset_path"]: a makes \'dataset\' only with djConfigs.export_original_dataset: true'
        f" ({P})",
    ),
    "target outside the configurations": (
        a_spec(probes=[probe(), probe(input={"resources.limits": "-1.rows"})]),
        'spec.probeJobConfigs[1].input["resources.limits"]: a target is djConfigs.<key> or extraConfigs.<key>',
    ),
    "target that names no place": (
        a_spec(probes=[probe(local={"djConfigs.process.1.text_length_filter.min_len": 5})]),
        f'{P}.local["djConfigs.process.1.text_length_filter.min_len"]: djConfigs.process.1 does not exist; the list'
        " there has 1 elements, from 0",
    ),
    "local without a key": (
        a_spec(probes=[probe(local={"djConfigs": {}})]),
        f'{P}.local["djConfigs"]: a target is djConfigs.<key> or extraConfigs.<key>',
    ),
    "k-sigma without its probe": (
        a_spec(probes=[probe(metaName="analysis")], refines=[refine(metaName="analyses")]),
        f"{R}.metaName: no ProbeViaAnalyzerHook before this job has the metaName 'analyses'; give it the metaName of"
        " its probe, or set probe; did you mean 'analysis'?",
    ),
    "k-sigma with the name of no probe": (
        a_spec(executions=[process(metaName="a")], refines=[refine(metaName="a2", probe="a")]),
        f"{R}.probe: no ProbeViaAnalyzerHook before this job has the metaName 'a'; give it the metaName of its probe,"
        " or set probe",
    ),
    "feedback without its probe": (
        a_spec(probes=[probe(metaName="analysis")], refines=[feedback(metaName="refine")]),
        f"{R}.metaName: no ProbeViaAnalyzerHook before this job has the metaName 'refine'; give it the metaName of its"
        " probe, or set probe; there is: analysis",
    ),
    "feedback without scores": (
        a_spec(probes=[probe(metaName="a")], refines=[feedback(metaName="a", extraConfigs={"goal": "maximize"})]),
        f"{R}.extraConfigs.path_scores: field required",
    ),
    "feedback with a goal that is none": (
        a_spec(probes=[probe(metaName="a")], refines=[feedback(metaName="a", extraConfigs={"path_scores": "inputs/raw/x.jsonl", "goal": "max"})]),
        f"{R}.extraConfigs.goal: input should be 'maximize' or 'minimize'",
    ),
    "scores in an input that is not there": (
        a_spec(probes=[probe(metaName="a")], refines=[feedback(metaName="a", extraConfigs={"path_scores": "inputs/row/x.jsonl", "goal": "maximize"})]),
        f"{R}.extraConfigs.path_scores: spec.inputs has no 'row'; did you mean 'raw'?",
    ),
    "misspelt setting of feedback": (
        a_spec(probes=[probe(metaName="a")], refines=[feedback(metaName="a", extraConfigs={**feedback()["extraConfigs"], "min_kept": 0.7})]),
        f"{R}.extraConfigs.min_kept: RefineRecipeViaModelFeedbackHook has no such setting; did you mean 'minKept'?",
    ),
    "probe of a job that reads none": (
        a_spec(probes=[probe(probe="x")]),
        f"{P}.probe: ProbeViaAnalyzerHook reads no probe; leave it out",
    ),
    "path out of the workspace": (
        a_spec(probes=[probe(djConfigs={**DJ, "dataset_path": "../../other/data.jsonl"})]),
        f"{P}.djConfigs.dataset_path: '../../other/data.jsonl' leads out of the workspace",
    ),
    "path out of the workspace by a detour": (
        a_spec(probes=[probe(djConfigs={**DJ, "dataset_path": "/workspace/../etc/passwd"})]),
        f"{P}.djConfigs.dataset_path: '/workspace/../etc/passwd' lies outside the workspace; use a relative path, or"
        " one under /workspace or /inputs",
    ),
    "one of several paths out of the workspace": (
        a_spec(probes=[probe(djConfigs={**DJ, "dataset_path": "0.5 a.jsonl 0.5 ../b.jsonl"})]),
        f"{P}.djConfigs.dataset_path: '../b.jsonl' leads out of the workspace",
    ),
    "path in a list out of the workspace": (
        a_spec(probes=[probe(djConfigs={"dataset": {"configs": [{"type": "local", "path": "/data/x"}]}, "process": RECIPE})]),
        f"{P}.djConfigs.dataset.configs[0].path: '/data/x' lies outside the workspace; use a relative path, or one"
        " under /workspace or /inputs",
    ),
    "path set by local out of the workspace": (
        a_spec(probes=[probe(djConfigs="inputs/raw/p.yaml", local={"djConfigs.export_path": "/tmp/x.jsonl"})]),
        f"{P}.djConfigs.export_path: '/tmp/x.jsonl' lies outside the workspace; use a relative path, or one under"
        " /workspace or /inputs",
    ),
    "path as an address": (
        a_spec(probes=[probe(djConfigs={**DJ, "dataset_path": "file:///etc/passwd"})]),
        f"{P}.djConfigs.dataset_path: give 'file:///etc/passwd' as a plain path inside the workspace or the inputs",
    ),
    "configuration file out of the workspace": (
        a_spec(probes=[probe(djConfigs="../p.yaml")]),
        f"{P}.djConfigs: '../p.yaml' leads out of the workspace",
    ),
    "unknown input volume": (
        a_spec(probes=[probe(djConfigs={**DJ, "dataset_path": "inputs/rau/x.jsonl"})]),
        f"{P}.djConfigs.dataset_path: spec.inputs has no 'rau'; did you mean 'raw'?",
    ),
    "unknown input volume, absolute": (
        a_spec(probes=[probe(djConfigs={**DJ, "dataset_path": "/inputs/rau/x.jsonl"})]),
        f"{P}.djConfigs.dataset_path: spec.inputs has no 'rau'; did you mean 'raw'?",
    ),
    "export into an input": (
        a_spec(executions=[process(djConfigs={**DJ, "export_path": "inputs/raw/x.jsonl"})]),
        f"{E}.djConfigs.export_path: 'inputs/raw/x.jsonl' lies in an input, which is read-only; give a path such as"
        " outputs/...",
    ),
    "two jobs that export to the same file": (
        a_spec(executions=[process(djConfigs={**DJ, "export_path": "outputs/x.jsonl"}), process(djConfigs={**DJ, "export_path": "./outputs//x.jsonl"})]),
        "spec.executionJobConfigs[1].djConfigs.export_path: 'outputs/x.jsonl' is already written by"
        f" {E}.djConfigs.export_path; give one of them another path",
    ),
    "path that a later job writes": (
        a_spec(executions=[process(djConfigs={**DJ, "dataset_path": "outputs/x.jsonl"}), process(djConfigs={**DJ, "export_path": "outputs/x.jsonl"})]),
        f"{E}.djConfigs.dataset_path: 'outputs/x.jsonl' is written by a job that runs later"
        " (spec.executionJobConfigs[1]); put that job first",
    ),
    "djConfigs that is a list": (
        a_spec(probes=[probe(djConfigs=["a"])]),
        f"{P}.djConfigs: write an object, or the path of a .yaml or .json file, not a list",
    ),
    "djConfigs that is a number": (
        a_spec(probes=[probe(djConfigs=5)]),
        f"{P}.djConfigs: write an object, or the path of a .yaml or .json file, not a number",
    ),
    "djConfigs that is a truth value": (
        a_spec(probes=[probe(djConfigs=True)]),
        f"{P}.djConfigs: write an object, or the path of a .yaml or .json file, not true or false",
    ),
    "djConfigs that is some text": (
        a_spec(probes=[probe(djConfigs="my config")]),
        f"{P}.djConfigs: 'my config' is not the path of a .yaml, .yml or .json file",
    ),
    "no djConfigs": (
        a_spec(probes=[{"hook": "ProbeViaAnalyzerHook"}]),
        f"{P}.djConfigs: ProbeViaAnalyzerHook needs a Data-Juicer configuration, inline, as a path or by input",
    ),
    "process that is no list": (
        a_spec(probes=[probe(djConfigs={**DJ, "process": {"text_length_filter": {}}})]),
        f"{P}.djConfigs.process: write a list of operators",
    ),
    "no data set": (
        a_spec(probes=[probe(djConfigs={"process": RECIPE})]),
        f"{P}.djConfigs.dataset_path: name the data set to read, or fill it with input",
    ),
    "extraConfigs that is a list": (
        a_spec(probes=[probe(extraConfigs=[])]),
        f"{P}.extraConfigs: write an object, or the path of a .yaml or .json file, not a list",
    ),
    "component of a hook without any": (
        a_spec(probes=[probe(type="x")]),
        f"{P}.type: ProbeViaAnalyzerHook has no components to choose from; leave type out",
    ),
    "more names than results": (
        a_spec(executions=[process(output=["a", "b"])]),
        f"{E}.output: 2 names are too many; the results of ProcessDataHook are dataset",
    ),
    "one name for two results": (
        a_spec(probes=[probe(output=["overall"])]),
        f"{P}.output: two results would be named 'overall'; the results are stats, overall, histograms, dataset, in"
        " this order",
    ),
    "one metaName for two jobs": (
        a_spec(probes=[probe(metaName="a")], executions=[process(metaName="a", output=["b"])]),
        f"{E}.metaName: 'a' is already the name of {P}; give one of them another",
    ),
    "metaName of another probe than its own": (
        a_spec(probes=[probe(metaName="a"), probe(metaName="b")], refines=[refine(metaName="a", probe="b")]),
        f"{R}.metaName: 'a' is already the name of {P}; give one of them another",
    ),
    "one output of a refine job and its probe": (
        a_spec(probes=[probe(metaName="a")], refines=[refine(metaName="a", output=["stats"])]),
        f"{R}.output: {P} has an output 'stats' under the same metaName; rename one",
    ),
    "unknown profile": (
        a_spec(probes=[probe(pod="gpu")], pods={"gpu8": {}}),
        f"{P}.pod: spec.pods has no profile 'gpu'; did you mean 'gpu8'?",
    ),
    "quantity that is none": (
        a_spec(pods={"default": {"resources": {"limits": {"memory": "4GB"}}}}),
        "spec.pods.default.resources.limits.memory: '4GB' is not a quantity; write it like 500m, 2 or 4Gi",
    ),
    "quantity that is a fraction": (
        a_spec(probes=[probe(resources={"limits": {"cpu": 0.5}})]),
        f"{P}.resources.limits.cpu: write it like 500m, 2 or 4Gi",
    ),
    "environment variable of ours": (
        a_spec(pods={"default": {"env": [{"name": "SANDBOX_CONTRACT", "value": "x"}]}}),
        "spec.pods.default.env[0].name: names that begin with SANDBOX_ are the runtime's own; take another",
    ),
    "items that make too many jobs": (
        a_spec(probes=[probe(), probe(forEach={"item": "i", "in": list(range(256))}, metaName="many")]),
        "spec.probeJobConfigs[1].forEach: its items make 257 jobs; at most 256 may stand in an experiment",
    ),
    "an element without what an input asks for": (
        a_spec(probes=[probe(forEach={"item": "i", "in": [{"a": {"b": 1}}, {"a": 2}]}, input={"djConfigs.np": "item.i.a.b"})]),
        f"{P}.forEach.in[1]: has no 'a.b', which {P}.input asks for",
    ),
    "a resource that no node has": (
        a_spec(probes=[probe(resources={"limits": {"cpus": 1}})]),
        f"{P}.resources.limits.cpus: there is no such resource; did you mean 'cpu'?",
    ),
    "half a device": (
        a_spec(probes=[probe(resources={"limits": {"nvidia.com/gpu": "500m"}})]),
        f"{P}.resources.limits.nvidia.com/gpu: 500m is no whole number; nobody gets a part of a device",
    ),
    "a result among the jobs' own files": (
        a_spec(executions=[process(djConfigs={**DJ, "export_path": "jobs/x.jsonl"})]),
        f"{E}.djConfigs.export_path: 'jobs/x.jsonl' is where jobs keep their own files; give a path such as outputs/...",
    ),
    "a result inside another's": (
        a_spec(executions=[process(djConfigs={**DJ, "export_path": f"outputs/{name}"}) for name in ("x.jsonl", "x.jsonl/y.jsonl")]),
        "spec.executionJobConfigs[1].djConfigs.export_path: 'outputs/x.jsonl/y.jsonl' lies inside 'outputs/x.jsonl',"
        f" which {E}.djConfigs.export_path writes; give it a place of its own",
    ),
    "two secrets under one name": (
        a_spec(probes=[probe(secrets=[{"env": "TOKEN", "name": name, "key": "k"} for name in "st"])]),
        f"{P}.secrets[1].env: TOKEN is set by {P}.secrets[0] already; take another name",
    ),
    "secret under a name of ours": (
        a_spec(probes=[probe(secrets=[{"env": "SANDBOX_POD_UID", "name": "s", "key": "k"}])]),
        f"{P}.secrets[0].env: names that begin with SANDBOX_ are the runtime's own; take another",
    ),
    "patch of the containers": (
        a_spec(pods={"default": {"patch": {"containers": []}}}),
        "spec.pods.default.patch.containers: can't be patched: it would replace the hook's own container",
    ),
    "comparison with an unknown job": (
        a_spec(probes=[probe(metaName="analysis")], comparison=[{"before": "analysis", "after": "analisis"}]),
        "spec.comparison[0].after: no job has the metaName 'analisis'; did you mean 'analysis'?",
    ),
    "comparison with a job that is like none": (
        a_spec(
            probes=[probe(metaName=name) for name in ("one", "two", "three", "four", "five", "six")],
            comparison=[{"before": "one", "after": "xyz"}],
        ),
        "spec.comparison[0].after: no job has the metaName 'xyz'; there is: one, two, three, four, five, six",
    ),
    "no job": (
        {"workspace": {"claimName": "c"}},
        "spec: there is no job; write at least one in probeJobConfigs, refineRecipeJobConfigs, executionJobConfigs or"
        " evaluationJobConfigs",
    ),
    "no workspace": ({key: value for key, value in a_spec().items() if key != "workspace"}, "spec.workspace: is missing"),
    "workspace of both kinds": (
        a_spec(workspace={"claimName": "c", "claim": {}}),
        "spec.workspace: give either claimName (an existing claim) or claim (one to make)",
    ),
    "input of no kind": (
        a_spec(inputs=[{"name": "raw"}]),
        "spec.inputs[0]: give either claimName or configMapName",
    ),
    "two inputs of one name": (
        a_spec(inputs=[{"name": "raw", "claimName": "a"}, {"name": "raw", "claimName": "b"}]),
        "spec.inputs[1].name: 'raw' is already the name of another input",
    ),
    "folder of a ConfigMap": (
        a_spec(inputs=[{"name": "raw", "configMapName": "a", "subPath": "x"}]),
        "spec.inputs[0].subPath: only an input with claimName has folders; leave it out",
    ),
    "too many jobs": (
        a_spec(probes=[probe(metaName=f"p{n}") for n in range(65)]),
        "spec.probeJobConfigs: list should have at most 64 items after validation, not 65",
    ),
    "duration without a unit": (
        a_spec(timeouts={"active": "10"}),
        "spec.timeouts.active: '10' won't do: write a time like 90s, 10m, 1h30m or 2d",
    ),
    "duration without an end": (
        a_spec(retry={"backoff": "999999999999999999999d"}),
        "spec.retry.backoff: '999999999999999999999d' is longer than 3650 days",
    ),
    "number where text is due": (a_spec(projectName=5), "spec.projectName: write text"),
    "text where a truth value is due": (a_spec(suspend="yes"), "spec.suspend: write true or false"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_told_once_with_its_field(case: str) -> None:
    spec, sentence = WRONG[case]

    assert the_problem(spec) == sentence


@pytest.mark.parametrize(
    ("field", "value"),
    [("keep.videos", 1), ("queueName", "q")],
)
def test_a_field_of_a_later_version_is_refused_by_name(field: str, value: Any) -> None:
    name, _, below = field.partition(".")
    spec = a_spec(**{name: {below: value} if below else value})
    assert the_problem(spec).startswith(f"spec.{field}: this version can't do it yet; ")


def test_pipelines_searches_and_exports_are_refused_by_name() -> None:
    assert the_problem({"workspace": {"claimName": "c"}, "pipelines": [{"name": "a"}]}).startswith("spec.pipelines: ")
    assert the_problem(a_spec(hpoConfig="h.yaml")).startswith(
        "spec.hpoConfig: a search is a resource of its own; make a SandboxSweep"
    )


def test_all_mistakes_are_told_at_once() -> None:
    spec = a_spec(
        probes=[probe(metaName="a", djConfigs={**DJ, "nope": 1}), probe(pod="big")],
        refines=[refine(metaName="b", extraConfigs={"k": -1})],
        executions=[process(djConfigs=DJ, input={"djConfigs.dataset_path": "anonymous.c.d"}, shards=2)],
        queueName="q",
    )

    fields = {problem.split(": ")[0] for problem in compile_spec(spec).problems}
    assert fields == {
        "spec.queueName",
        f"{P}.djConfigs.nope",
        "spec.probeJobConfigs[1].pod",
        f"{R}.extraConfigs.k",
        f"{R}.metaName",
        f"{E}.shards",
        f'{E}.input["djConfigs.dataset_path"]',
    }


def test_one_misspelt_hook_is_one_mistake_whoever_refers_to_it() -> None:
    spec = four_jobs()
    spec["probeJobConfigs"][0]["hook"] = "ProbeHook"
    spec["executionJobConfigs"][0]["hook"] = "ProcessHook"

    assert [problem.split(": ")[0] for problem in compile_spec(spec).problems] == [f"{P}.hook", f"{E}.hook"]


def test_what_will_run_but_perhaps_not_as_meant_is_a_warning() -> None:
    spec = a_spec(
        executions=[process(metaName="a", djConfigs={**DJ, "export_path": "outputs/p.yaml"}), probe()],
        evaluations=[process(djConfigs="outputs/p.yaml", local={"djConfigs.np": 2})],
        images={"dta": "x"},
    )

    result = compile_spec(spec)
    assert result.problems == ()
    assert result.warnings == (
        "spec.executionJobConfigs[1].hook: ProbeViaAnalyzerHook belongs to probe or evaluation jobs; it runs here as"
        " well",
        f"{V}.hook: ProcessDataHook belongs to execution jobs; it runs here as well",
        f'{V}.local["djConfigs.np"]: has no effect; an input then replaces it all',
        "spec.images.dta: nothing here runs on it; the images in use are data",
    )


@pytest.mark.parametrize("raw", [{}, {"workspace": None}, {"workspace": []}, {"probeJobConfigs": {"hook": 1}}])
def test_a_spec_without_form_gets_sentences_too(raw: dict[str, Any]) -> None:
    result = compile_spec(raw)

    assert result.spec is None
    assert all(problem.startswith("spec") for problem in result.problems)
    assert result.problems


def test_a_reference_that_is_written_as_a_path_is_told_with_where_it_belongs() -> None:
    extra = {"model": "inputs/raw/m", "dataset": "anonymous.process.dataset"}
    training = {"hook": "TrainModelHook", "type": "swift", "extraConfigs": extra}
    spec = a_spec(executions=[process(), training])
    assert compile_spec(spec).problems == (
        "spec.executionJobConfigs[1].extraConfigs.dataset: 'anonymous.process.dataset' is taken as a path here; for the"
        " job's result write input: {extraConfigs.dataset: anonymous.process.dataset}",
    )
    extra["dataset"] = "anonymous.process.data"
    assert compile_spec(spec).problems == (), "no job's result: a path like any other"
