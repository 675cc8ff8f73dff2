# SPDX-License-Identifier: Apache-2.0
"""The road: the operator's real process takes experiments from apply to their end, on a real API server."""

from __future__ import annotations

from tests.api.lab import Lab, OperatorProcess, road


async def test_four_hooks_become_four_jobs_one_after_another_and_a_table(lab: Lab, operator: OperatorProcess) -> None:
    await lab.apply("demo", road())
    await lab.finished("demo")
    status = lab.status("demo")
    assert status["outcome"] == "Succeeded", lab.told()
    print(status, lab.history["demo"])
