# SPDX-License-Identifier: Apache-2.0
"""Trials that end early, told by pods with real tokens: decided in the order of arrival, through a restart too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.api.conftest import Operators, Plane
from tests.api.lab import OperatorProcess
from tests.api.sweep_lab import SweepLab, a_sweep, bowl, measures, sweep_lab
from tests.api.test_operator_progress import Endpoint, Held

from sandbox_operator.kube.errors import NotFound

EARLY = {"type": "hyperband", "min_iter": 10, "max_iter": 41, "eta": 2}


@pytest.fixture
async def lab(plane: Plane) -> AsyncIterator[SweepLab]:
    async with sweep_lab(plane) as made:
        yield made


@pytest.fixture
def endpoint(lab: SweepLab) -> Endpoint:
    return Endpoint(lab)


@pytest.fixture
def operator(plane: Plane, lab: SweepLab, endpoint: Endpoint, warm_operators: Operators) -> OperatorProcess:
    return warm_operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace, **endpoint.settings)


async def tell(lab: SweepLab, endpoint: Endpoint, held: Held, rung: int, value: float | None) -> None:
    """As the runtime does: again and again, until it is acknowledged, or the pod is ended because of what it told."""
    for _ in range(200):
        try:
            answer = await endpoint.taken(held.pod, step=rung, rungs=[{"rung": rung, "value": value}])
        except NotFound:
            return
        if rung in answer["acknowledged"]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not acknowledged: {rung} of {held.pod.key}\n{lab.told()}")


def decisions(lab: SweepLab, number: int) -> list[tuple[Any, ...]]:
    trial = lab.status(f"demo-{number:04d}").get("trial") or {}
    return [(d["rung"], d.get("value"), d.get("seen"), d["decision"]) for d in trial.get("decisions") or ()]


async def test_a_trial_that_is_not_promising_ends_at_its_rung_and_is_no_failure(
    lab: SweepLab, endpoint: Endpoint, operator: OperatorProcess
) -> None:
    held = [Held() for _ in range(4)]
    for number, gate in enumerate(held):
        gate.behaviour = measures(bowl)
        lab.kubelet.table[(f"demo-{number:04d}", "process")] = gate
    await lab.apply_sweep("demo", a_sweep(maxTrials=5, parallelism=4, maxFailedTrials=0, early_terminate=EARLY))
    for number, gate in enumerate(held):
        await lab.reached(gate, f"trial {number} runs")
    assert held[0].pod.contract.progress is not None
    assert held[0].pod.contract.progress.rungs is not None
    assert held[0].pod.contract.progress.rungs.at == [10, 20, 40]

    nowhere = {"rung": 2**53 - 1, "value": 0.0}  # no rung: it must not keep trial 1 from being decided on
    assert (await endpoint.taken(held[1].pod, step=9, rungs=[nowhere]))["acknowledged"] == []
    await tell(lab, endpoint, held[1], 10, 5.0)
    await tell(lab, endpoint, held[0], 10, 2.0)
    operator.kill()  # what it has heard is gone; what it has decided is not
    operator.start()
    await tell(lab, endpoint, held[2], 10, 7.0)
    await tell(lab, endpoint, held[3], 10, 1.0)
    assert decisions(lab, 1) == [(10, 5.0, 0, "Continue")]
    assert decisions(lab, 0) == [(10, 2.0, 1, "Continue")]
    assert decisions(lab, 2) == [(10, 7.0, 2, "Stop")]
    assert decisions(lab, 3) == [(10, 1.0, 3, "Continue")]

    await tell(lab, endpoint, held[3], 20, None)  # the first there, and no finite number
    assert decisions(lab, 3)[1:] == [(20, None, 0, "Stop")]

    for name in ("demo-0002", "demo-0003"):
        await lab.finished(name, limit=60)  # at once: nobody has opened its gate
    assert "where its value was no finite number" in lab.condition("demo-0003", "Ready")["message"]
    assert lab.status("demo-0002")["outcome"] == "Stopped"
    assert lab.condition("demo-0002", "Ready")["reason"] == "Pruned"
    await lab.until(lambda: 4 in lab.trials("demo"), "its place is free")
    for gate in held:
        gate.opened.set()
    await lab.sweep_ends("demo", limit=60)
    status = lab.sweep("demo")
    assert status["outcome"] == "Succeeded", lab.told()
    assert status["counts"] == {"total": 5, "running": 0, "succeeded": 3, "failed": 0, "pruned": 2}
    rows = {row["number"]: (row["state"], row.get("value"), row.get("reason")) for row in status["trials"]}
    assert (rows[2], rows[3]) == (("Pruned", 7.0, None), ("Pruned", None, "MetricNotFinite"))
    assert lab.verified("demo") == ()
