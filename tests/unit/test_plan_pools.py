# SPDX-License-Identifier: Apache-2.0
"""What the planner knows of the hooks on whole data sets: types, mistakes before anything starts, what may be named."""

from typing import Any

import pytest
from tests.unit.builders import a_spec, pipelines, process

from sandbox_api.hooks import HOOKS
from sandbox_operator.plan.cache import has_key
from sandbox_operator.plan.compile import Compiled, compile_spec

E = "spec.executionJobConfigs[0]"
CUT = {"type": "data_pool_construction", "dataset_path": "inputs/raw/a.jsonl"}
JOIN = {"type": "data_pool_cartesian_join", "dataset_path_1": "a.jsonl", "dataset_path_2": ["b.jsonl"]}
RANK = {"type": "data_pool_ranking", "dataset_path": ["a.jsonl", "b.jsonl"], "metrics": [1, 2]}
OTHERS: dict[str, dict[str, Any]] = {
    "data_pool_combination": {},
    "data_pool_duplication": {"duplicating_times": [2, 4]},
    "data_pool_downsampling": {"target_num_samples": 16},
    "data_pool_merging": {},
}
CONVERSIONS = ("dj_to_easyanimate_video_dataset_conversion", "coco_caption_to_dj_conversion", "coco_caption_meta_generation")  # fmt: skip
POOLS = [CUT, JOIN, *({"type": kind, "dataset_path": ["a.jsonl"], **more} for kind, more in OTHERS.items())]


def pooled(extra: dict[str, Any], hook: str = "DataPoolManipulationHook") -> Compiled:
    return compile_spec(a_spec(probes=[], executions=[{"hook": hook, "extraConfigs": extra}]))


@pytest.mark.parametrize("extra", POOLS, ids=lambda extra: extra["type"])
def test_pools_are_made_in_execution_lists_on_the_data_image(extra: dict[str, Any]) -> None:
    found = pooled(extra)
    assert (found.problems, found.warnings) == ((), ())
    (job,) = found.jobs
    outputs = ("dataset",) if extra["type"] == "data_pool_merging" else ("paths",)
    assert (job.meta_name, job.outputs, job.hook.image) == ("pools", outputs, "data")
    assert has_key(found.spec, job), "equal rows give equal pools"


@pytest.mark.parametrize("kind", CONVERSIONS)
def test_conversions_too(kind: str) -> None:
    found = pooled({"type": kind, "dataset_path": "a.jsonl"}, "GeneralDataExecutorHook")
    assert (found.problems, found.warnings) == ((), ())
    assert (found.jobs[0].meta_name, found.jobs[0].outputs) == ("convert", ("paths",))


def test_every_type_of_upstream_is_there() -> None:
    assert {*HOOKS["DataPoolManipulationHook"].components} == {extra["type"] for extra in POOLS}
    assert {*HOOKS["GeneralDataExecutorHook"].components} == {*CONVERSIONS}
    assert {*HOOKS["GeneralProbeHook"].components} == {"data_pool_ranking"}


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ({"dataset_path": "a"}, ".type: name the component, its image depends on it; DataPoolManipulationHook has: data_pool_construction"),
        ({"type": "data_pool_ranking"}, ".type: there is no component 'data_pool_ranking'"),
        ({**CUT, "split_ratio": [0.5]}, ".extraConfigs.split_ratio: DataPoolManipulationHook has no such setting; did you mean 'split_ratios'?"),
        ({**CUT, "split_ratios": ["2/0"]}, ".extraConfigs.split_ratios.0: '2/0' is no share between 0 and 1; write e.g. 0.333, or '1/3'"),
        ({**CUT, "split_ratios": [1]}, ".extraConfigs.split_ratios.0: 1.0 is no share between 0 and 1"),
        ({**CUT, "split_ratios": [0.5, "1/3"]}, ".extraConfigs.split_ratios: the shares must rise, each a border between two pools"),
        ({**CUT, "split_num": 0}, ".extraConfigs.split_num: input should be greater than or equal to 1"),
        ({"type": "data_pool_duplication", "dataset_path": "a"}, ".extraConfigs.duplicating_times: field required"),
        ({"type": "data_pool_duplication", "dataset_path": "a", "duplicating_times": []}, ".extraConfigs.duplicating_times: list should have at least 1 item"),
        ({"type": "data_pool_merging"}, ".extraConfigs.dataset_path: field required"),
        ({**JOIN, "dataset_path": "a"}, ".extraConfigs.dataset_path: DataPoolManipulationHook has no such setting"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_anything_starts(extra: dict[str, Any], problem: str) -> None:
    (found,) = pooled(extra).problems
    assert found.startswith(E + problem)


def test_a_key_that_upstream_ignores_is_a_warning() -> None:
    found = pooled({"type": "data_pool_downsampling", "dataset_path": "a.jsonl", "seed": 42})
    assert found.problems == ()
    (warning,) = found.warnings
    assert warning.startswith(f"{E}.extraConfigs.seed is not used")


def test_each_pool_is_tried_and_the_pools_are_ranked() -> None:
    tries = {
        "name": "tries",
        "forEach": {"item": "pool", "in": "cut.pools.paths"},
        "executionJobConfigs": [process(input={"djConfigs.dataset_path": "item.pool"})],
        "evaluationJobConfigs": [
            {
                "hook": "EvaluateDataHook",
                "extraConfigs": {"type": "dj_text_quality_classifier"},
                "input": {"extraConfigs.dataset_path": "item.pool"},
            }
        ],
    }
    rank = {
        "hook": "GeneralProbeHook",
        "extraConfigs": {"type": "data_pool_ranking", "top_n": 3},
        "input": {"extraConfigs.dataset_path": "cut.pools.paths", "extraConfigs.metrics": "tries.evaluate.value"},
    }
    merge = {
        "hook": "DataPoolManipulationHook",
        "extraConfigs": {"type": "data_pool_merging"},
        "input": {"extraConfigs.dataset_path": "-1.ranked"},
    }
    cut = {"name": "cut", "executionJobConfigs": [{"hook": "DataPoolManipulationHook", "extraConfigs": CUT}]}
    best = {"name": "best", "probeJobConfigs": [rank], "executionJobConfigs": [merge, process(input={"djConfigs.dataset_path": "-1.dataset"})]}  # fmt: skip
    inputs = [{"name": "raw", "configMapName": "raw"}]
    assert compile_spec(pipelines(cut, tries, best, inputs=inputs)).problems == ()


def test_a_merged_data_set_is_no_list() -> None:
    merge = {"hook": "DataPoolManipulationHook", "extraConfigs": {"type": "data_pool_merging", "dataset_path": ["a"]}}
    tries = {"name": "tries", "forEach": {"item": "x", "in": "one.pools.dataset"}, "executionJobConfigs": [process()]}
    found = compile_spec(pipelines({"name": "one", "executionJobConfigs": [merge]}, tries))
    assert any("is a path, no list" in problem for problem in found.problems)


def test_their_figures_may_be_referred_to() -> None:
    down = {"type": "data_pool_downsampling", "dataset_path": "a.jsonl"}
    spec = a_spec(probes=[], executions=[{"hook": "DataPoolManipulationHook", "extraConfigs": down}])
    for name in ("pools.short", "pools.rows", "pools.rows.a_16"):
        found = compile_spec({**spec, "maxIterNum": 2, "iterTargets": [f"anonymous.{name} == 0"]})
        assert found.problems == (), name
