# SPDX-License-Identifier: Apache-2.0
"""Which jobs may have several pods, and what their Jobs look like."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.builders import OWN_HOOKS, a_spec, an_experiment, created, plan, probe, process, workers

from sandbox_api.contract import CONTRACT_ENV
from sandbox_api.hook import Hook
from sandbox_api.hook_resource import hook_of
from sandbox_api.ranges import numbers_in, ranges_of
from sandbox_operator.cli.offline import Experiment
from sandbox_operator.cli.preview import manifests, previewed
from sandbox_operator.plan.compile import compile_spec

GOLDEN = Path(__file__).with_name("golden")
E = "spec.executionJobConfigs[0]"


def problems(job: dict[str, Any], **more: Any) -> tuple[str, ...]:
    return compile_spec(a_spec(executions=[job], **more), OWN_HOOKS).problems


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (workers(nodes=2, shards=2), f"{E}.shards: give either nodes (pods that work as one) or shards"),
        (probe(nodes=2), f"{E}.nodes: the work of ProbeViaAnalyzerHook can't span several pods; leave nodes at 1"),
        (
            process(nodes=2),
            f"{E}.nodes: ProcessDataHook spans several pods only with djConfigs.executor_type: ray; set",
        ),
        (process(shards=2), f"{E}.shards: ProcessDataHook can't be divided into independent pieces; leave shards at 1"),
    ],
)
def test_what_can_not_have_several_pods_is_refused_before_anything_starts(job: dict[str, Any], words: str) -> None:
    (problem,) = problems(job)

    assert problem.startswith(words)


def test_a_recipe_on_ray_spans_pods_and_one_that_comes_later_is_the_pods_to_judge() -> None:
    on_ray = {"dataset_path": "inputs/raw/demo.jsonl", "process": [], "executor_type": "ray"}

    assert problems(process(djConfigs=on_ray, nodes=2)) == ()
    assert problems(process(djConfigs="inputs/raw/recipe.yaml", nodes=2)) == ()
    (problem,) = problems(process(djConfigs="inputs/raw/r.yaml", local={"djConfigs.executor_type": "default"}, nodes=2))
    assert problem.startswith(f"{E}.nodes: ")


@pytest.mark.parametrize("field", ["nodes", "shards"])
def test_a_claim_for_one_pod_at_a_time_is_refused(field: str) -> None:
    workspace = {"claim": {"size": "1Gi", "accessModes": ["ReadWriteOncePod"]}}

    assert problems(workers(**{field: 2}), workspace=workspace) == (
        f"{E}.{field}: the claim is ReadWriteOncePod, which one pod at a time can use; take ReadWriteMany",
    )


def test_a_program_of_ones_own_can_span_pods_but_not_be_divided() -> None:
    raw = {"spec": {"contract": "raw", "image": "x", "command": ["y"]}, "metadata": {"name": "mine"}}
    hook = hook_of(raw)
    assert isinstance(hook, Hook)
    job = {"hook": "mine"}

    assert compile_spec(a_spec(executions=[{**job, "nodes": 2}]), {"mine": hook}).problems == ()
    (problem,) = compile_spec(a_spec(executions=[{**job, "shards": 2}]), {"mine": hook}).problems
    assert problem.startswith(f"{E}.shards: mine is a program of its own (contract: raw), which can't be divided")


@pytest.mark.parametrize("field", ["nodes", "shards"])
def test_the_job_is_the_one_in_the_golden_file(field: str) -> None:
    (job,) = created(plan(an_experiment(a_spec(executions=[workers(metaName="w", **{field: 3})]), name="my.demo")))
    manifest = json.loads(json.dumps(job.manifest))
    env = manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    next(e for e in env if e["name"] == CONTRACT_ENV)["value"] = "base64(gzip(contract.json))"
    golden = {"job": manifest, "service": job.service} if job.service else {"job": manifest}

    assert golden == yaml.safe_load((GOLDEN / f"job-{field}.yaml").read_text())


def test_names_of_the_pods_are_host_names_however_long_the_experiments_is() -> None:
    name = "a.b" * 17  # 51
    for field in ("nodes", "shards"):
        (job,) = created(plan(an_experiment(a_spec(executions=[workers(**{field: 1024})]), name=name)))
        last = f"{job.manifest['metadata']['name']}-1023"
        assert len(last) <= 63
        assert "." not in last
        if job.service is not None:
            assert len(job.service["metadata"]["name"]) <= 63


@given(st.sets(st.integers(0, 1023), max_size=1024))
def test_sets_of_numbers_are_written_as_kubernetes_does_and_read_again(numbers: set[int]) -> None:
    assert numbers_in(ranges_of(numbers)) == tuple(sorted(numbers))


def test_sets_of_numbers_have_one_form() -> None:
    assert ranges_of([5, 3, 0, 2, 4]) == "0,2-5"
    assert ranges_of([]) == ""
    for wrong in ("a", "1-", "0-99999", "0-2000", "1;2", "-1"):
        with pytest.raises(ValueError, match=r"is not a set|at most"):
            numbers_in(wrong)


# What `sandboxctl plan` says of them


def test_a_plan_counts_all_pods_and_shows_what_would_be_made_once() -> None:
    gpu = {"limits": {"nvidia.com/gpu": 2}}
    jobs = [
        workers(metaName="a", nodes=2, resources=gpu),
        workers(metaName="b", nodes=3),
        workers(metaName="c", shards=4),
    ]
    found, rehearsed = previewed(Experiment("demo", None, a_spec(executions=jobs)), OWN_HOOKS, {})

    assert found.problems == []
    assert [(job.step, job.nodes, job.shards, job.gpus) for job in found.jobs] == [
        (1, 2, 1, 4),
        (2, 3, 1, 0),
        (3, 1, 4, 0),
    ]
    assert (found.steps, found.gpus_at_once) == (3, 4)
    assert rehearsed is not None
    assert rehearsed.status.outcome == "Succeeded"
    made = [(manifest["kind"], manifest["spec"].get("completions")) for manifest in manifests(rehearsed)]
    assert made == [
        ("PersistentVolumeClaim", None), ("Service", None), ("Job", 2), ("Job", 3), ("Job", 4), ("Job", None),
    ]  # fmt: skip
