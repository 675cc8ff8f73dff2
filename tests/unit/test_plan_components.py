# SPDX-License-Identifier: Apache-2.0
"""Kinds of a hook: which one a job means decides its image and what it may be told, before anything starts."""

from typing import Any

import pytest
from tests.unit.builders import a_spec

from sandbox_api.extra import ComponentConfig
from sandbox_api.hook import Component, Hook
from sandbox_operator.plan.compile import Compiled, compile_spec


class Small(ComponentConfig):
    steps: int = 1


class Large(ComponentConfig):
    model_path: str


TRAIN = Hook(
    "Train",
    "train",
    ("execution",),
    ("model",),
    components={
        "small": Component(Small, "small-image", figures=("loss",)),
        "large": Component(Large, "large-image", cacheable=False),
    },
)
E = "spec.executionJobConfigs[0]"
OWN = "; one of your own comes with its image as a SandboxHook (docs/how-to/own-hook.md)"


def compiled(**job: Any) -> Compiled:
    return compile_spec(a_spec(executions=[{"hook": "Train", **job}]), {"Train": TRAIN})


@pytest.mark.parametrize(
    "job",
    [
        {"type": "small"},
        {"extraConfigs": {"type": "small", "steps": 2}},
        {"extraConfigs": {"steps": 2}, "local": {"extraConfigs.type": "small"}},
        {"type": "small", "extraConfigs": "configs/train.yaml"},
    ],
)
def test_a_job_names_its_component_beside_its_hook_or_inside_its_settings(job: dict[str, Any]) -> None:
    found = compiled(**job)
    assert found.problems == ()
    (train,) = found.jobs
    assert (train.hook.image, train.config.type, train.hook.has_figure("loss")) == ("small-image", "small", True)


@pytest.mark.parametrize(
    ("job", "problem"),
    [
        ({}, f"{E}.type: name the component, its image depends on it; Train has: small, large"),
        ({"extraConfigs": "a.yaml"}, f"{E}.type: name the component, its image depends on it; Train has: small, large"),
        ({"type": "smal"}, f"{E}.type: there is no component 'smal'; did you mean 'small'?{OWN}"),
        ({"type": "x"}, f"{E}.type: there is no component 'x'; there is: small, large{OWN}"),
        ({"type": "large"}, f"{E}.extraConfigs.model_path: field required"),
        (
            {"type": "small", "extraConfigs": {"step": 1}},
            f"{E}.extraConfigs.step: Train has no such setting; did you mean 'steps'?",
        ),
        (
            {"type": "small", "extraConfigs": {"type": "large"}},
            f"{E}.extraConfigs.type: 'large' is not the job's type 'small'; name it once",
        ),
    ],
)
def test_what_is_wrong_with_a_component_is_told_before_anything_starts(job: dict[str, Any], problem: str) -> None:
    assert compiled(**job).problems == (problem,)


def test_a_hook_of_one_kind_takes_no_type() -> None:
    job = {"hook": "ProcessDataHook", "type": "x", "djConfigs": {"dataset_path": "a.jsonl"}}
    assert f"{E}.type: ProcessDataHook has no components to choose from; leave type out" in (
        compile_spec(a_spec(executions=[job])).problems
    )


def of_models(hook: str, type_: str, extra: dict[str, Any], gpus: int = 0, **job: Any) -> list[str]:
    """What is told of a job that trains or asks a model, without the way to its settings."""
    limits = {"cpu": "1", "nvidia.com/gpu": gpus} if gpus else {"cpu": "1"}
    entry = {"hook": hook, "type": type_, "extraConfigs": extra, **job}
    found = compile_spec(a_spec(executions=[entry], pods={"default": {"resources": {"limits": limits}}}))
    return [problem.removeprefix(f"{E}.extraConfigs.") for problem in found.problems]


TRAIN_CLIPS = {"base_model": "inputs/raw/base", "dataset_path": "inputs/raw/clips.jsonl"}
MAKE_CLIPS = {"base_model": "inputs/raw/base", "prompts": ["a cat"]}


@pytest.mark.parametrize(
    ("extra", "gpus", "nodes", "problem"),
    [
        ({"batch_size": 32}, 8, 1, None),
        ({"batch_size": 33}, 8, 1, "batch_size: 33 can't be divided among 8 processes; give a multiple of it"),
        ({"batch_size": 32}, 8, 3, "batch_size: 32 can't be divided among 24 processes; give a multiple of it"),
        ({"batch_size": 32, "processes": 4}, 8, 2, None),
        ({"batch_size": 3, "processes": 2}, 0, 1, "batch_size: 3 can't be divided among 2 processes; give a multiple of it"),
        ({"processes": 9}, 8, 1, "processes: 9 are more than the 8 GPUs of a pod; leave it out to have one a GPU"),
        ({"dataset_path": None}, 1, 1, "dataset_path: name the data set to train on, or fill it with input"),
    ],
)  # fmt: skip
def test_what_a_training_can_not_do_with_its_gpus_is_told_before_they_are_taken(
    extra: dict[str, Any], gpus: int, nodes: int, problem: str | None
) -> None:
    told = of_models("TrainModelHook", "easyanimate", TRAIN_CLIPS | extra, gpus, nodes=nodes)
    assert told == ([problem] if problem else [])


@pytest.mark.parametrize("prompts", [None, []])
def test_videos_without_prompts_are_told_before_a_gpu_is_taken(prompts: list[str] | None) -> None:
    extra = {key: value for key, value in {**MAKE_CLIPS, "prompts": prompts}.items() if value is not None}
    (problem,) = of_models("InferModelHook", "easyanimate", extra)
    assert problem == "prompts: write prompts, or name a file of them in prompt_info_path, or fill one with input"
    assert of_models("InferModelHook", "easyanimate", MAKE_CLIPS) == []


@pytest.mark.parametrize(
    ("hook", "type_", "extra"),
    [
        ("TrainModelHook", "easyanimate", TRAIN_CLIPS),
        ("InferModelHook", "easyanimate", MAKE_CLIPS),
        ("InferModelHook", "huggingface", {"dataset_path": "inputs/raw/a.jsonl", "model": "inputs/raw/m"}),
    ],
)
def test_keys_that_served_the_sandboxs_environments_are_ignored_and_said(
    hook: str, type_: str, extra: dict[str, Any]
) -> None:
    entry = {"hook": hook, "type": type_, "extraConfigs": {**extra, "env_name": "infer"}}
    found = compile_spec(a_spec(executions=[entry]))
    assert found.problems == ()
    assert f"{E}.extraConfigs.env_name is not used: the image is the environment" in found.warnings


def test_a_misspelt_key_deep_in_the_settings_is_compared_with_those_beside_it() -> None:
    extra = {"model": "inputs/raw/m", "trainer_name": "t", "train": {"max_epoch": 3}}
    told = of_models("TrainModelHook", "modelscope", extra)
    assert "train.max_epoch: TrainModelHook has no such setting; did you mean 'max_epochs'?" in told


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"model_path": {"lora_pth": "inputs/raw/lora"}}, "train.model_path.lora_pth: {}; did you mean 'train.model_path.lora_path'?"),
        ({"infer_confg": {"seed": 1}}, "train.infer_confg.seed: {}; did you mean 'train.infer_config.seed'?"),
    ],
)  # fmt: skip
def test_a_misspelt_key_of_the_sandboxs_layout_is_compared_with_that_layouts_keys(
    train: dict[str, Any], said: str
) -> None:
    whole = {"model_path": {"pretrained_model_name_or_path": "inputs/raw/base"}} | {"infer_config": {}} | train
    whole["model_path"] = {"pretrained_model_name_or_path": "inputs/raw/base"} | whole["model_path"]
    told = of_models("InferModelHook", "easyanimate", {"train": whole, "prompts": ["a cat"]})
    assert told == [said.format("InferModelHook has no such setting")]


def test_all_keys_of_the_sandboxs_layout_are_listed_where_none_is_near() -> None:
    train = {"model_path": {"pretrained_model_name_or_path": "inputs/raw/base"}, "zzz": {"qqq": 1}}
    (told,) = of_models("InferModelHook", "easyanimate", {"train": train, "prompts": ["a cat"]})
    assert "; it has: train.infer_config.batch_size, " in told
    assert "guidance_scale" not in told, "a key of the other layout"


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"optimizer": {"type": "Adamw"}}, "train.optimizer.type: there is no optimizer of torch named 'Adamw'; did you mean 'AdamW' or "),
        ({"optimizer": {"type": "zzz"}}, "train.optimizer.type: there is no optimizer of torch named 'zzz'; e.g. ASGD, "),
        ({"lr_scheduler": {"type": "SetpLR", "step_size": 2}}, "train.lr_scheduler.type: there is no scheduler of torch that is made from plain values named 'SetpLR'; did you mean 'StepLR'"),
        ({"lr_scheduler": {"type": "LambdaLR"}}, "train.lr_scheduler.type: there is no scheduler of torch that is made from plain values named 'LambdaLR'"),
    ],
)  # fmt: skip
def test_a_name_that_torch_does_not_have_is_told_before_a_gpu_is_taken(train: dict[str, Any], said: str) -> None:
    extra = {"model_name": "inputs/raw/m", "train_dataset": "inputs/raw/a.jsonl", "train": train}
    (told,) = of_models("TrainModelHook", "modelscope", extra)
    assert told.startswith(said)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"model_type": "qwen2", "template": "qwen"}, None),
        ({"model_type": "Qwen2"}, "model_type: there is no model type of ms-swift named 'Qwen2'; did you mean 'qwen2' or "),
        ({"template": "qven"}, "template: there is no template of ms-swift named 'qven'; did you mean 'qwen' or "),
    ],
)  # fmt: skip
def test_a_name_that_ms_swift_does_not_have_is_told_before_a_gpu_is_taken(
    more: dict[str, Any], said: str | None
) -> None:
    told = of_models("TrainModelHook", "swift", {"model": "inputs/raw/m", "dataset": "inputs/raw/a.jsonl", **more})
    assert [text.startswith(said or "") for text in told] == ([True] if said else [])


@pytest.mark.parametrize(
    ("algorithm", "said"),
    [
        ("uniform", ()),
        ("topk_specified_field_selector", ()),
        (
            "topk_specified_field",
            (
                f"{E}.djConfigs.data_probe_algo: there is no way to choose rows named 'topk_specified_field';"
                " did you mean 'topk_specified_field_selector'?",
            ),
        ),
    ],
)
def test_a_way_to_choose_rows_that_there_is_not_is_told_before_models_are_asked(
    algorithm: str, said: tuple[str, ...]
) -> None:
    asked = {
        "hook": "ProbeViaModelInferHook",
        "type": "transformers",
        "djConfigs": {"dataset_path": "inputs/raw/a.jsonl", "data_probe_algo": algorithm},
        "extraConfigs": {"models": ["inputs/raw/m"]},
    }
    assert compile_spec(a_spec(executions=[asked])).problems == said


SCALE = f"{E}.extraConfigs.lora_scale: has no effect without lora_path; the videos are those of the base model"


@pytest.mark.parametrize(
    ("more", "job", "is_told"),
    [
        ({"lora_scale": 0.8}, {}, True),
        ({"lora_scale": 0.8, "lora_path": "inputs/raw/lora"}, {}, False),
        ({"lora_scale": 0.8}, {"input": {"extraConfigs.lora_path": "anonymous.fetch.path"}}, False),
        ({}, {}, False),
    ],
)
def test_a_scale_without_a_lora_is_a_remark(more: dict[str, Any], job: dict[str, Any], is_told: bool) -> None:
    infer = {"hook": "InferModelHook", "type": "easyanimate", "extraConfigs": {**MAKE_CLIPS, **more}, **job}
    fetch = {"hook": "FetchHook", "extraConfigs": {"source": "hf://a/b"}}
    found = compile_spec(a_spec(probes=[fetch], executions=[infer]))
    assert found.problems == ()
    assert (SCALE in found.warnings) == is_told


def test_what_a_file_of_settings_holds_is_said_to_be_seen_by_the_pod_only() -> None:
    training = {"hook": "TrainModelHook", "type": "swift", "extraConfigs": "inputs/raw/train.yaml"}
    clean = {"hook": "ProcessDataHook", "djConfigs": "inputs/raw/clean.yaml"}
    found = compile_spec(a_spec(executions=[training, clean]))
    assert found.problems == ()
    seen = "is seen by the job's pod only, which checks it first of all"
    assert found.warnings == (
        f"{E}.extraConfigs: what stands in 'inputs/raw/train.yaml' {seen}",
        f"spec.executionJobConfigs[1].djConfigs: what stands in 'inputs/raw/clean.yaml' {seen}",
    )


def test_more_processes_than_gpus_are_told_of_ms_swift_too() -> None:
    extra = {"model": "inputs/raw/m", "dataset": "inputs/raw/a.jsonl", "processes": 9}
    said = "processes: 9 are more than the 8 GPUs of a pod; leave it out to have one a GPU"
    assert of_models("TrainModelHook", "swift", extra, 8) == [said]
    assert of_models("TrainModelHook", "swift", extra) == [], "on CPUs there may be any number"


def test_a_number_that_frames_do_not_fit_is_told_plainly() -> None:
    (told,) = of_models("InferModelHook", "easyanimate", {**MAKE_CLIPS, "frames": 48})
    assert told.startswith("frames: must be 1 more than a multiple of 4")


@pytest.mark.parametrize(("ratio", "is_right"), [(0.1, True), (1, True), (0, False), ("half", False), (True, False)])
def test_a_share_of_the_rows_is_a_number_above_zero(ratio: Any, is_right: bool) -> None:
    asked = {
        "hook": "ProbeViaModelInferHook",
        "type": "transformers",
        "djConfigs": {"dataset_path": "inputs/raw/a.jsonl", "data_probe_ratio": ratio},
        "extraConfigs": {"models": ["inputs/raw/m"]},
    }
    said = (
        f"{E}.djConfigs.data_probe_ratio: {ratio!r} is no share of the rows; write a number above 0, 1 for all of them"
    )
    assert compile_spec(a_spec(executions=[asked])).problems == (() if is_right else (said,))
