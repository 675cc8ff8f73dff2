# SPDX-License-Identifier: Apache-2.0
"""Decides what of a result goes into the status. All of it stands in result.json, so a cut loses nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox_api.digest import canonical_json
from sandbox_api.status import MAX_JOB_METRICS, MAX_METRICS, JobStatus

STATUS_BYTES = 300_000
OUTPUT_BYTES = 300_000
"""What the outputs of all jobs may take; others know them by the result's path."""
JOB_BYTES = 1_000
"""What a job's status takes without its figures."""
RESULT_BYTES = 410
"""What an earlier result takes in the history, its figures apart."""
NUMBER_BYTES = 24
"""What a figure takes beside its name."""


def kept(
    metrics: Mapping[str, float], jobs: Mapping[str, JobStatus], needs: tuple[str, ...] = (), earlier: int = 0
) -> dict[str, float]:
    """The first of `metrics` that fit beside those of all `jobs`, those that end with one of `needs` before all others.

    At most 32 of one job and 2 000 of all, and none that would make the status, with so many `earlier` results in its
    history, larger than 300 KB.
    """
    others = [name for job in jobs.values() for name in job.metrics or ()]
    number = min(MAX_JOB_METRICS, MAX_METRICS - len(others))
    room = STATUS_BYTES - JOB_BYTES * len(jobs) - RESULT_BYTES * earlier - sum(map(_size, others))
    first = [name for name in metrics if any(name == need or name.endswith(f".{need}") for need in needs)]
    chosen: dict[str, float] = {}
    for name in list(dict.fromkeys([*first, *metrics]))[: max(0, number)]:
        room -= _size(name)
        if room < 0:
            break
        chosen[name] = metrics[name]
    return chosen


def kept_outputs(outputs: Mapping[str, Any], jobs: Mapping[str, JobStatus], needs: tuple[str, ...]) -> dict[str, Any]:
    """The outputs of a result that fit into the status beside those of all `jobs`, and those that are needed."""
    room = OUTPUT_BYTES - sum(len(canonical_json(job.outputs)) for job in jobs.values() if job.outputs)
    chosen: set[str] = set()
    for name in sorted(outputs, key=lambda name: name not in needs):
        size = len(canonical_json(outputs[name]))
        if name in needs or size <= room:
            chosen.add(name)
            room -= size
    return {name: value for name, value in outputs.items() if name in chosen}


def _size(name: str) -> int:
    return len(name) + NUMBER_BYTES
