# SPDX-License-Identifier: Apache-2.0
"""Decides which figures of a result go into the status. All of them stand in result.json, so a cut loses nothing."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox_api.digest import canonical_json
from sandbox_api.status import MAX_JOB_METRICS, MAX_METRICS, JobStatus

STATUS_BYTES = 300_000
JOB_BYTES = 1_000
"""What a job's status takes without its figures."""


def kept(metrics: Mapping[str, float], jobs: Mapping[str, JobStatus], needs: tuple[str, ...] = ()) -> dict[str, float]:
    """The first of `metrics` that fit beside those of all `jobs`, those that end with one of `needs` before all others.

    At most 32 of one job and 2 000 of all, and none that would make the status larger than 300 KB.
    """
    others = [job.metrics for job in jobs.values() if job.metrics]
    number = min(MAX_JOB_METRICS, MAX_METRICS - sum(map(len, others)))
    room = STATUS_BYTES - JOB_BYTES * len(jobs) - sum(len(canonical_json(other)) for other in others)
    chosen: dict[str, float] = {}
    first = [name for name in metrics if any(name == need or name.endswith(f".{need}") for need in needs)]
    for name in list(dict.fromkeys([*first, *metrics]))[: max(0, number)]:
        room -= len(canonical_json({name: metrics[name]}))
        if room < 0:
            break
        chosen[name] = metrics[name]
    return chosen
