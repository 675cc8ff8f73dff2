# SPDX-License-Identifier: Apache-2.0
"""`repeats`: a training, what is made with it and its evaluation, several times with different seeds.

What one training says depends on chance as well; only several of them say how much. Jobs that draw by a seed are
repeated, and those after them that read what they make; what reads all of it (a ranking) is one job.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sandbox_api.experiment import ExperimentSpec

from .iterations import Targets, Updates
from .job import MAX_JOBS, Fan, Gathered, PlannedJob, Reference, Source


def repeated(
    spec: ExperimentSpec,
    jobs: Sequence[PlannedJob],
    targets: Targets,
    updates: Updates,
    ranked: Sequence[Reference],
    problems: list[str],
) -> tuple[list[PlannedJob], Targets]:
    """The jobs in written order, a repeated one as often as it is repeated, and targets over all repeats of a figure.

    A reference from one repeat leads to the same repeat, from a job that is not repeated to the list of all of them.
    Repeats do not wait for one another. What can't be repeated goes to `problems`.
    """
    times = _times(spec, jobs, ranked)
    if not times:
        return [*jobs], targets
    copies = [copy for job in jobs for copy in _copies(job, times)]
    if len(copies) > MAX_JOBS:
        problems.append(f"spec.repeats: makes {len(copies)} jobs; at most {MAX_JOBS} may stand in an experiment")
    for job_id, update in updates.items():
        for target, source in update.items():
            if job_id in times or source.job_id in times:
                problems.append(
                    f"spec.iterUpdater: {source.job_id} or {job_id}, whose {target} it fills, is repeated; only single"
                    " jobs hand on what the next iteration begins with: take it out, or repeats"
                )
    return copies, tuple(
        replace(target, references=tuple(one for found in target.references for one in _of_all(found, times)))
        for target in targets
    )


def _times(spec: ExperimentSpec, jobs: Sequence[PlannedJob], ranked: Sequence[Reference]) -> dict[str, int]:
    """How often each repeated job runs, by its id. In pipelines whose items are ranked `rank.repeats` counts."""
    times: dict[str, int] = {}
    pipelines = {reference.job_id.partition("/")[0] for reference in ranked}
    for job in jobs:
        is_ranked = job.id.partition("/")[0] in pipelines
        asked = (spec.rank.repeats if spec.rank and is_ranked else None) or spec.repeats
        if asked > 1 and (job.hook.draws or (job.hook.repeats_with_inputs and job.producers & times.keys())):
            times[job.id] = asked
    return times


def _of_all(reference: Reference, times: dict[str, int]) -> list[Reference]:
    return [replace(reference, job_id=job_id) for job_id in _of(reference.job_id, times, None)]


def _copies(job: PlannedJob, times: dict[str, int]) -> Iterator[PlannedJob]:
    if job.id not in times:
        yield _pointing(job, times, None)
        return
    for number in range(times[job.id]):
        under = f"{job.publish_under}/repeat_{number}".strip("/")
        yield _pointing(replace(job, id=repeat_of(job.id, number), repeat=number, publish_under=under), times, number)


def _pointing(job: PlannedJob, times: dict[str, int], number: int | None) -> PlannedJob:
    """The job with what it reads and comes after as its repeat means it."""
    after = [one for other in job.after for one in _of(other, times, number)]
    return replace(
        job,
        after=tuple(dict.fromkeys(after)),
        inputs={target: _source(source, times, number) for target, source in job.inputs.items()},
        pipeline_fan=job.pipeline_fan and _fan(job.pipeline_fan, times, number),
        fan=job.fan and _fan(job.fan, times, number),
    )


def _source(source: Source, times: dict[str, int], number: int | None) -> Source:
    if not isinstance(source, Reference) or source.job_id not in times:
        return source
    found = tuple(replace(source, job_id=job_id) for job_id in _of(source.job_id, times, number))
    return found[0] if len(found) == 1 else Gathered(found)


def _fan(fan: Fan, times: dict[str, int], number: int | None) -> Fan:
    if isinstance(fan.items, tuple):
        return fan
    source = _source(fan.items, times, number)
    return replace(fan, items=source) if isinstance(source, Reference | Gathered) else fan


def _of(job_id: str, times: dict[str, int], number: int | None) -> list[str]:
    """The repeats of a job that a reader means: its own, or all where it has none or other pipelines other numbers."""
    if job_id not in times:
        return [job_id]
    numbers = range(times[job_id]) if number is None or number >= times[job_id] else [number]
    return [repeat_of(job_id, one) for one in numbers]


def repeat_of(job_id: str, number: int) -> str:
    """The id of one repeat of a job."""
    return f"{job_id}~{number}"
