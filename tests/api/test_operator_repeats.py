# SPDX-License-Identifier: Apache-2.0
"""Repeats and rankings by the real operator on a real API server; pods are played, their figures made up."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.lab import Lab
from tests.api.played import Pod, succeeds
from tests.unit.test_plan_ranking import pools

pytestmark = pytest.mark.usefixtures("operator")

FIGURES = {0: [0.50, 0.52, 0.51], 1: [0.80, 0.84, 0.82], 2: [0.79, 0.85, 0.81]}
"""Accuracy of each pool in each repeat: low, high, random."""


async def judged(pod: Pod) -> None:
    job = pod.contract.job
    await succeeds(accuracy=FIGURES[job.pipeline_item or 0][job.repeat or 0])(pod)


def spec() -> dict[str, Any]:
    return {
        **pools(repeats=3),
        "images": {"modelscope": "registry.test/modelscope:1"},
        "workspace": {"claim": {"size": "1Gi"}},
        "cache": "Never",
    }


async def test_each_pool_is_trained_and_judged_three_times_and_ranked(lab: Lab) -> None:
    seeds: set[tuple[str, int]] = set()

    async def trained(pod: Pod) -> None:
        seeds.add((pod.contract.job.id, pod.contract.seed))
        await succeeds()(pod)

    lab.kubelet.table |= {("judge",): judged, ("train",): trained}
    await lab.make_bound_claim("raw")
    await lab.apply("demo", spec())
    await lab.finished("demo")

    status = lab.status("demo")
    assert status["outcome"] == "Succeeded", lab.told()
    assert len(status["jobs"]) == 1 + 3 * 3 * 3
    assert seeds == {(f"each[{item}]/1/execution/0~{n}", 42 + n) for item in range(3) for n in range(3)}
    told = [(row["item"], row["repeats"], row["tied"]) for row in status["ranking"]]
    assert told == [("high", 3, True), ("random", 3, True), ("low", 3, False)]
    first = status["ranking"][0]
    assert first["mean"] == pytest.approx(0.82)
    assert first["change"] == pytest.approx(0.0033333, abs=1e-6)
    assert first["interval"][0] < 0 < first["interval"][1]
    lab.assert_no_job_was_made_twice()
    lab.assert_status_only_went_forward("demo")
