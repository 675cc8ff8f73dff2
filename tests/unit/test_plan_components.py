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
        ({"type": "smal"}, f"{E}.type: there is no component 'smal'; did you mean 'small'?"),
        ({"type": "x"}, f"{E}.type: there is no component 'x'; there is: small, large"),
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
