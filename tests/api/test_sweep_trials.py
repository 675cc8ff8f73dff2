# SPDX-License-Identifier: Apache-2.0
"""Trials of a sweep on one claim, by the real operator on a real API server; pods are played."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.lab import FILTER, Lab
from tests.api.played import Pod, succeeds

pytestmark = pytest.mark.usefixtures("operator")

VALUES = (10, 20, 10)


def trial(number: int, value: int) -> dict[str, Any]:
    """Probe and process one data set; trials differ in what a parameter says, and so in what is processed."""
    data = {"dataset_path": "data/demo.jsonl", "process": FILTER}
    parameters = {"text_length_filter.min_len": value}
    return {
        "workspace": {"claimName": "shared"},
        "probeJobConfigs": [{"hook": "ProbeViaAnalyzerHook", "metaName": "look", "djConfigs": data}],
        "executionJobConfigs": [{"hook": "ProcessDataHook", "metaName": "process", "djConfigs": data}],
        "trial": {"sweep": "hpo", "number": number, "metric": "process.rows_out", "parameters": parameters},
    }


async def test_trials_share_the_probe_and_what_was_processed_by_equal_values(lab: Lab) -> None:
    seen: list[dict[str, Any]] = []

    async def processed(pod: Pod) -> None:
        seen.append(pod.contract.configs.parameters)
        await succeeds(rows_out=float(pod.contract.configs.parameters["text_length_filter.min_len"]))(pod)

    lab.kubelet.table |= {("process",): processed}
    await lab.make_bound_claim("shared")
    names = [f"hpo-{number}" for number in range(len(VALUES))]
    for number, (name, value) in enumerate(zip(names, VALUES, strict=True)):
        await lab.apply(name, trial(number, value))
    for name in names:
        await lab.finished(name)

    statuses = [lab.status(name) for name in names]
    assert [status["outcome"] for status in statuses] == ["Succeeded"] * 3, lab.told()
    probes = [status["jobs"][0] for status in statuses]
    assert sorted(job["state"] for job in probes) == ["Cached", "Cached", "Succeeded"]
    assert len({job["result"]["cacheKey"] for job in probes}) == 1
    assert sorted(values["text_length_filter.min_len"] for values in seen) == [10, 20]
    told = [status["jobs"][1]["metrics"]["process.rows_out"] for status in statuses]
    assert told == [float(value) for value in VALUES]
    made = [job_id for _, job_id, _ in lab.made]
    assert sorted(made) == ["anonymous/1/execution/0", "anonymous/1/execution/0", "anonymous/1/probe/0"]
    lab.assert_no_job_was_made_twice()
