# SPDX-License-Identifier: Apache-2.0
"""`repeats`: the same training with other seeds, and what is made with it."""

from typing import Any

from tests.unit.builders import a_spec

from sandbox_operator.plan.compile import Compiled, compile_spec
from sandbox_operator.plan.job import Gathered, Reference


def trained(**more: Any) -> dict[str, Any]:
    """Fetch a model, train, infer, evaluate twice."""
    fetch = {"hook": "FetchHook", "metaName": "base", "extraConfigs": {"source": "https://here.test/base.zip"}}
    train = {
        "hook": "TrainModelHook", "metaName": "train", "type": "modelscope",
        "extraConfigs": {"model_name": "inputs/raw/bert", "train_dataset": "inputs/raw/a.jsonl"},
    }  # fmt: skip
    infer = {
        "hook": "InferModelHook", "metaName": "infer", "type": "huggingface",
        "input": {"extraConfigs.model": "anonymous.train.model"},
        "extraConfigs": {"dataset_path": "inputs/raw/a.jsonl"},
    }  # fmt: skip
    judge = {
        "hook": "EvaluateDataHook", "metaName": "judge", "type": "accuracy",
        "input": {"extraConfigs.predicted_dataset_path": "anonymous.infer.dataset"},
        "extraConfigs": {"predicted_label_key": "x", "ground_truth_label_key": "y"},
    }  # fmt: skip
    other = {
        "hook": "EvaluateDataHook", "metaName": "other", "type": "accuracy", "dependsOn": [],
        "extraConfigs": {
            "predicted_dataset_path": "inputs/raw/a.jsonl", "predicted_label_key": "x", "ground_truth_label_key": "y",
        },
    }  # fmt: skip
    lists = {"executionJobConfigs": [fetch, train, infer], "evaluationJobConfigs": [judge, other]}
    rest = {key: value for key, value in a_spec().items() if not key.endswith("JobConfigs")}
    return {**rest, "inputs": [{"name": "raw", "claimName": "raw"}], "repeats": 2, **lists, **more}


def compiled(**more: Any) -> Compiled:
    return compile_spec(trained(**more))


def test_what_draws_by_a_seed_and_what_reads_it_is_repeated() -> None:
    found = compiled()

    assert found.problems == ()
    assert [(job.id, job.repeat, job.publish_under) for job in found.jobs] == [
        ("anonymous/1/execution/0", None, ""),
        ("anonymous/1/execution/1~0", 0, "repeat_0"),
        ("anonymous/1/execution/1~1", 1, "repeat_1"),
        ("anonymous/1/execution/2~0", 0, "repeat_0"),
        ("anonymous/1/execution/2~1", 1, "repeat_1"),
        ("anonymous/1/evaluation/0~0", 0, "repeat_0"),
        ("anonymous/1/evaluation/0~1", 1, "repeat_1"),
        ("anonymous/1/evaluation/1", None, ""),
    ]


def test_a_repeat_reads_its_own_training_and_waits_for_no_other() -> None:
    jobs = {job.id: job for job in compiled().jobs}

    infer = jobs["anonymous/1/execution/2~1"]
    assert infer.inputs["extraConfigs.model"] == Reference("anonymous/1/execution/1~1", "model")
    assert infer.after == ("anonymous/1/execution/1~1",)
    assert jobs["anonymous/1/execution/1~1"].after == ("anonymous/1/execution/0",)
    assert jobs["anonymous/1/evaluation/1"].after == ("anonymous/1/execution/2~0", "anonymous/1/execution/2~1")


def test_what_is_not_repeated_gets_the_list_of_all() -> None:
    own = {
        "hook": "GeneralProbeHook", "metaName": "ranking", "type": "data_pool_ranking",
        "input": {"extraConfigs.model_metrics": "anonymous.judge.value"}, "extraConfigs": {},
    }  # fmt: skip
    spec = trained()
    spec["evaluationJobConfigs"].append(own)
    job = compile_spec(spec).jobs[-1]

    assert job.inputs["extraConfigs.model_metrics"] == Gathered(
        tuple(Reference(f"anonymous/1/evaluation/0~{number}", "value") for number in (0, 1))
    )


def test_without_repeats_nothing_changes() -> None:
    assert [job.id for job in compiled(repeats=1).jobs] == [
        "anonymous/1/execution/0", "anonymous/1/execution/1", "anonymous/1/execution/2", "anonymous/1/evaluation/0",
        "anonymous/1/evaluation/1",
    ]  # fmt: skip


def test_targets_look_at_the_mean_and_only_single_jobs_hand_on() -> None:
    found = compiled(maxIterNum=2, iterTargets=["anonymous.judge.accuracy >= 0.5"])
    assert [reference.job_id for reference in found.targets[0].references] == [
        "anonymous/1/evaluation/0~0", "anonymous/1/evaluation/0~1",
    ]  # fmt: skip

    updater = {"anonymous.train.model": "anonymous.train.extraConfigs.model_name"}
    (problem,) = compiled(maxIterNum=2, iterUpdater=updater).problems
    assert problem.startswith("spec.iterUpdater: anonymous/1/execution/1 or anonymous/1/execution/1, whose")


def test_too_many_are_refused_with_their_number() -> None:
    (problem,) = compiled(repeats=100).problems
    assert problem == "spec.repeats: makes 302 jobs; at most 256 may stand in an experiment"


def test_repeats_of_what_draws_by_no_seed_are_remarked() -> None:
    found = compile_spec(a_spec(repeats=3))
    assert found.problems == ()
    assert [words for words in found.warnings if "repeats" in words] == [
        "spec.repeats: has no effect; no job here draws by a seed (TrainModelHook and InferModelHook do)"
    ]
