# SPDX-License-Identifier: Apache-2.0
"""Results that others have replaced: those of earlier generations and iterations, as many as the status can hold."""

from __future__ import annotations

from collections.abc import Iterable

from sandbox_api.digest import canonical_json
from sandbox_api.status import DONE_STATES, EarlierResult, JobStatus, Made

MAX_HISTORY = 256
FIGURES_BYTES = 30_000
"""What outputs and figures of all of them may take: the newest keep theirs, of the others only the place is known."""


def archived(history: list[EarlierResult] | None, jobs: Iterable[JobStatus], *, read: int) -> list[EarlierResult]:
    """The history with these jobs' results added, oldest first; the oldest are dropped.

    But none that may be read yet: the newest of each job in iteration `read`, the one before that at work.
    """
    added = [
        EarlierResult(
            id=job.id, outputs=job.outputs, metrics=job.metrics, result=job.result, **dict(made_of(job) or Made())
        )
        for job in jobs
        if job.result is not None
    ]
    every = [*(history or ()), *added]
    newest = {result.id: place for place, result in enumerate(every) if iteration_of(result.id) == read}
    needed = sorted(newest.values(), reverse=True)
    others = [place for place in range(len(every) - 1, -1, -1) if newest.get(every[place].id) != place]
    kept: dict[int, EarlierResult] = {}
    room = FIGURES_BYTES
    for place in [*needed, *others][: max(MAX_HISTORY, len(needed))]:
        earlier = every[place]
        room -= len(canonical_json([earlier.outputs, earlier.metrics]))
        kept[place] = earlier if room >= 0 else earlier.model_copy(update={"outputs": None, "metrics": None})
    return [kept[place] for place in sorted(kept)]


def made_of(job: JobStatus) -> Made | None:
    """How the result that stands in a job's status came to be: its times are those of a newer attempt once it has run
    again."""
    if job.state in DONE_STATES:
        return Made(state=job.state, start_time=job.start_time, completion_time=job.completion_time)  # type: ignore[arg-type]
    return job.made


def iteration_of(job_id: str) -> int:
    """The iteration in a job's id."""
    return int(job_id.split("/", 2)[1])
