# SPDX-License-Identifier: Apache-2.0
"""Mistakes of form and all others are told at once, and none that is only due to another."""

from typing import Any

import pytest
from tests.unit.builders import RECIPE, a_spec, probe, process

from sandbox_operator.plan.compile import compile_spec

P, E = "spec.probeJobConfigs[0]", "spec.executionJobConfigs[0]"
DJ: dict[str, Any] = {"dataset_path": "inputs/raw/demo.jsonl", "process": RECIPE}


def told(spec: dict[str, Any]) -> list[str]:
    """Where each problem lies."""
    return [problem.split(": ")[0] for problem in compile_spec(spec).problems]


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"retry": {"backoff": "10x"}}, "spec.retry.backoff"),
        ({"timeouts": {"activ": "1h"}}, "spec.timeouts.activ"),
        ({"pods": {"size": {"resources": {"limits": {"cpu": "many"}}}}}, "spec.pods.size.resources.limits.cpu"),
        ({"pods": {"size": {"resorces": {"limit": {"cpu": "many"}}}}}, "spec.pods.size.resorces"),
        ({"workspace": {"claimName": "Not_A_Name"}}, "spec.workspace.claimName"),
        ({"workspace": None}, "spec.workspace"),
        ({"suspend": "yes"}, "spec.suspend"),
        ({"nonsense": {"a": 1}}, "spec.nonsense"),
        ({"": 1}, 'spec.""'),
        ({"iter_targets": ["anonymous.probe.rows > 5"], "maxIterNum": 0}, "spec.iter_targets"),
    ],
)
def test_a_mistake_of_form_hides_no_other_mistake(form: dict[str, Any], field: str) -> None:
    """Nor does it make one: the job whose profile is wrong finds its profile."""
    spec = a_spec(probes=[probe(pod="size" if "pods" in form else None), probe(hook="Nope")], **form)

    assert told(spec) == [field, "spec.probeJobConfigs[1].hook"]


def test_what_a_misspelt_field_was_meant_to_say_is_known_to_the_rest() -> None:
    job = process(forEach={"item": "x", "in": "anonymous.first.stats", "maxParallel": 0}, djConfig=DJ)
    del job["djConfigs"]
    spec = a_spec(probes=[probe(metaNam="first", secrets=[{"env": "A B", "name": "s"}])], executions=[job])

    assert told(spec) == [
        f"{P}.secrets[0].env", f"{P}.secrets[0].key", f"{P}.metaNam", f"{E}.forEach.maxParallel", f"{E}.djConfig",
        f"{E}.forEach.in",
    ]  # fmt: skip


def test_a_misspelt_field_that_must_be_there_is_not_told_to_be_missing_as_well() -> None:
    job = probe(hok="ProbeViaAnalyzerHook")
    del job["hook"]
    spec = a_spec(probes=[job, probe(hook="Nope")])
    spec["worksapce"] = spec.pop("workspace")
    spec["inputz"] = spec.pop("inputs")

    assert told(spec) == [f"{P}.hok", "spec.worksapce", "spec.inputz", "spec.probeJobConfigs[1].hook"]
    assert "spec.inputz: there is no such field; did you mean 'inputs'?" in compile_spec(spec).problems


@pytest.mark.parametrize(
    "wrong",
    [{"metaName": "first pass"}, {"hook": None}, {"hook": 5}, {"output": "stats"}, {"metaNam": "first pass"}],
)
def test_where_others_depend_on_what_is_wrong_it_alone_is_told(wrong: dict[str, Any]) -> None:
    """Whether the reference is right can't be said before the name is."""
    reader = probe(input={"djConfigs.dataset_path": "anonymous.first.stats"})
    spec = a_spec(probes=[{**probe(), **wrong}, reader])

    assert told(spec) == [f"{P}.{next(iter(wrong))}"]
