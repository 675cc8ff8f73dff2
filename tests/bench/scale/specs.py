# SPDX-License-Identifier: Apache-2.0
"""The experiments of the loads, and the bare Jobs of the floor, which are the same Jobs without an experiment."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sandbox_api.status import ExperimentStatus
from sandbox_operator.build.defaults import Defaults
from sandbox_operator.plan.actions import CreateJob
from sandbox_operator.plan.compile import compile_spec
from sandbox_operator.plan.experiment import plan_experiment
from sandbox_operator.plan.facts import ClaimFact, Snapshot
from sandbox_operator.reconcile.resources import EXPERIMENTS

from .plane import CLAIM, NAMESPACE

Manifest = dict[str, Any]
Spec = Callable[[int], Manifest]
"""The spec of the n-th experiment. No two are alike, or results would be taken from the step cache."""


def configs(number: int) -> Manifest:
    return {
        "dataset_path": "inputs/raw/demo.jsonl",
        "np": 2,
        "process": [
            {"text_length_filter": {"min_len": 10 + number, "max_len": 10000}},
            {"words_num_filter": {"min_num": 5, "max_num": 500}},
            {"special_characters_filter": {"max_ratio": 0.25}},
        ],
    }


def one_hook(number: int) -> Manifest:
    return a_spec(probeJobConfigs=[{"hook": "ProbeViaAnalyzerHook", "djConfigs": configs(number)}])


def four_hooks(number: int) -> Manifest:
    """The guide's demo: analyse, refine, process by the refined recipe, analyse again."""
    return roads(number, 1)


def sixty_four_hooks(number: int) -> Manifest:
    return roads(number, 16)


def roads(number: int, count: int) -> Manifest:
    """`count` times the four hooks: all probes, then all refine jobs, ..."""
    roads = range(count)
    dj = {road: configs(number * count + road) for road in roads}
    return a_spec(
        probeJobConfigs=[
            {"hook": "ProbeViaAnalyzerHook", "metaName": f"before_{road}", "djConfigs": dj[road]} for road in roads
        ],
        refineRecipeJobConfigs=[
            {
                "hook": "RefineRecipeViaKSigmaHook",
                "metaName": f"refine_{road}",
                "probe": f"before_{road}",
                "djConfigs": dj[road],
                "output": ["recipe"],
            }
            for road in roads
        ],
        executionJobConfigs=[
            {
                "hook": "ProcessDataHook",
                "metaName": f"process_{road}",
                "input": {"djConfigs": f"anonymous.refine_{road}.recipe"},
                "output": ["processed"],
            }
            for road in roads
        ],
        evaluationJobConfigs=[
            {
                "hook": "ProbeViaAnalyzerHook",
                "metaName": f"after_{road}",
                "djConfigs": dj[road],
                "input": {"djConfigs.dataset_path": f"anonymous.process_{road}.processed"},
            }
            for road in roads
        ],
    )


def items(count: int) -> Spec:
    """One job for each of `count` items."""

    def spec(number: int) -> Manifest:
        each = {"item": "shard", "in": [f"inputs/raw/{item}.jsonl" for item in range(count)], "maxParallel": 32}
        job = {"djConfigs": configs(number), "input": {"djConfigs.dataset_path": "item.shard"}, "forEach": each}
        return a_spec(probeJobConfigs=[{"hook": "ProbeViaAnalyzerHook", **job}])

    return spec


def a_spec(**lists: Any) -> Manifest:
    return {
        "workspace": {"claimName": CLAIM},
        "inputs": [{"name": "raw", "configMapName": "raw"}],
        "pods": {"default": {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}},
        **lists,
    }


def experiment(name: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": EXPERIMENTS.api_version,
        "kind": EXPERIMENTS.kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


class BareJobs:
    """What the operator would create for an experiment's first hook, without the experiment."""

    def __init__(self) -> None:
        spec = one_hook(0)
        claim = ClaimFact(CLAIM, "uid", "Bound", access_mode="ReadWriteMany")
        snapshot = Snapshot("floor", NAMESPACE, "0" * 36, 1, "1", spec, ExperimentStatus(), claims={CLAIM: claim})
        defaults = Defaults(images={"data": "registry.example/data:1"})
        plan = plan_experiment(snapshot, compile_spec(spec), defaults, datetime.now(UTC))
        (self._job,) = (action.manifest for action in plan.actions if isinstance(action, CreateJob))
        del self._job["metadata"]["ownerReferences"]  # the garbage collector would take them for orphans

    def __call__(self, name: str) -> Manifest:
        job = copy.deepcopy(self._job)
        job["metadata"]["name"] = name
        return job
