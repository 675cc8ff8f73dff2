# SPDX-License-Identifier: Apache-2.0
"""Kinds of a hook: which one a job means decides its image and what it may be told, before anything starts."""

from typing import Any

import pytest
from tests.unit.builders import a_spec

from sandbox_api.hooks import Component, ComponentConfig, Hook
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
