# SPDX-License-Identifier: Apache-2.0
"""Results that others have replaced: those of earlier generations and iterations, as many as the status can hold."""

from __future__ import annotations

from collections.abc import Iterable

from sandbox_api.digest import canonical_json
from sandbox_api.status import EarlierResult, JobStatus

MAX_HISTORY = 256
FIGURES_BYTES = 30_000
"""What outputs and figures of all of them may take: the newest keep theirs, of the others only the place is known."""


def archived(history: list[EarlierResult] | None, jobs: Iterable[JobStatus]) -> list[EarlierResult]:
    """The history with these jobs' results added, oldest first; the oldest are dropped."""
    added = [
        EarlierResult(
            id=job.id, completion_time=job.completion_time, outputs=job.outputs, metrics=job.metrics, result=job.result
        )
        for job in jobs
        if job.result is not None
    ]
    kept: list[EarlierResult] = []
    room = FIGURES_BYTES
    for earlier in reversed([*(history or ()), *added][-MAX_HISTORY:]):
        room -= len(canonical_json([earlier.outputs, earlier.metrics]))
        kept.append(earlier if room >= 0 else earlier.model_copy(update={"outputs": None, "metrics": None}))
    return kept[::-1]
