# SPDX-License-Identifier: Apache-2.0
"""SandboxHooks in the operator's real process: made late, mended, taken away and brought back while experiments wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.api.lab import LIMIT, Lab
from tests.api.played import Gate, succeeds
from tests.custom import documents

from sandbox_operator.reconcile.resources import HOOKS

pytestmark = pytest.mark.usefixtures("operator")
(DEDUP,) = (document for document in documents("raw-go") if document["kind"] == "SandboxHook")


def dedups(*names: str) -> dict[str, Any]:
    job = {"hook": "exact-dedup", "extraConfigs": {"dataset_path": "data/demo.jsonl"}}
    jobs = [{**job, "metaName": name} for name in names]
    return {"workspace": {"claim": {"size": "1Gi"}}, "executionJobConfigs": jobs}


async def make(lab: Lab, **spec: Any) -> None:
    await lab.client.create(HOOKS, {**DEDUP, "spec": {**DEDUP["spec"], **spec}}, lab.namespace)


async def ready(lab: Lab, truth: str) -> str:
    """Wait until the hook says of itself that it is Ready, or not; its message."""
    async with asyncio.timeout(LIMIT):
        while True:
            stored = await lab.client.get(HOOKS, "exact-dedup", lab.namespace)
            for condition in (stored.get("status") or {}).get("conditions") or ():
                if (condition["type"], condition["status"]) == ("Ready", truth):
                    return str(condition["message"])
            await asyncio.sleep(0.05)


async def test_an_experiment_waits_for_its_hook_and_then_runs_its_program(lab: Lab) -> None:
    await lab.apply("demo", dedups("a"))
    assert "executionJobConfigs[0].hook: there is no hook 'exact-dedup'" in await lab.reason("demo", "InvalidSpec")

    await make(lab, schema={"properties": {"text_key": {"minumum": 1}}})
    assert "spec.schema.properties.text_key.minumum" in await ready(lab, "False")
    words = "the SandboxHook 'exact-dedup' can't be used: spec.schema.properties.text_key.minumum"
    await lab.until(lambda: words in lab.condition("demo", "Ready")["message"], "what is wrong with the hook is told")

    await lab.client.patch(HOOKS, "exact-dedup", {"spec": {"schema": None}}, lab.namespace)
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Succeeded", lab.told()
    (job,) = lab.jobs_of("demo")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["command"]) == (DEDUP["spec"]["image"], DEDUP["spec"]["command"])
    assert list(lab.job("demo", "a")["outputs"]) == ["dataset", "removed"]
    assert "jobs can use it" in await ready(lab, "True")


async def test_a_hook_that_is_taken_away_stops_its_experiment_and_loses_nothing(lab: Lab) -> None:
    gate = lab.kubelet.table[("a",)] = Gate(succeeds())
    await make(lab)
    await lab.apply("demo", dedups("a", "b"))
    await lab.reached(gate, "the first hook runs")

    await lab.client.delete(HOOKS, "exact-dedup", lab.namespace)
    assert "there is no hook 'exact-dedup'" in await lab.reason("demo", "InvalidSpec")
    gate.opened.set()

    await make(lab)
    await lab.finished("demo")
    assert lab.status("demo")["outcome"] == "Succeeded", lab.told()
    assert [lab.job("demo", name)["attempts"] for name in ("a", "b")] == [1, 1]
    lab.assert_no_job_was_made_twice()
    lab.assert_pods_ran_once()


async def test_a_hook_of_another_namespace_is_none(lab: Lab) -> None:
    await lab.client.create(HOOKS, DEDUP, "default")
    try:
        await lab.apply("demo", dedups("a"))
        assert "there is no hook 'exact-dedup'" in await lab.reason("demo", "InvalidSpec")
    finally:
        await lab.client.delete(HOOKS, "exact-dedup", "default")
