# SPDX-License-Identifier: Apache-2.0
"""The life of a sweep on the real API server: trials made, counted, suspended, ended; more of them asked for; deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.api.conftest import Operators, Plane
from tests.api.lab import OperatorProcess
from tests.api.sweep_lab import MIN_LEN, SweepLab, a_sweep, sweep_lab


@pytest.fixture
async def lab(plane: Plane) -> AsyncIterator[SweepLab]:
    async with sweep_lab(plane) as made:
        yield made


@pytest.fixture
def operator(plane: Plane, lab: SweepLab, operators: Operators) -> OperatorProcess:
    return operators(plane.operator, SANDBOX_NAMESPACES=lab.namespace)


async def test_a_random_sweep_of_six_three_at_a_time(lab: SweepLab, operator: OperatorProcess) -> None:
    await lab.apply_sweep("demo", a_sweep())
    await lab.sweep_ends("demo", limit=60)
    status = lab.sweep("demo")
    assert (status["outcome"], status["progress"]) == ("Succeeded", "6/6"), lab.told()
    assert status["counts"] == {"total": 6, "running": 0, "succeeded": 6, "failed": 0, "pruned": 0}
    lab.assert_none_lost_none_twice("demo", 6)
    lab.assert_never_more_at_a_time("demo", 3)
    assert lab.verified("demo") == ()
    values = {row["number"]: row["value"] for row in status["trials"]}
    assert all(row["value"] == (row["parameters"][MIN_LEN] - 30) ** 2 for row in status["trials"])
    best = status["best"]
    assert best["value"] == min(values.values()) == values[best["trial"]]
    assert {item["spec"]["workspace"]["claimName"] for item in lab.trials("demo").values()} == {"demo-workspace"}
    assert lab.sweep_condition("demo")["status"] == "True"
    await lab.event("demo", "SweepStarted")
    await lab.event("demo", "Succeeded")
    assert operator.code is None
