# SPDX-License-Identifier: Apache-2.0
"""Names and files that two jobs would share, and names in the spec that no job has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from sandbox_api.experiment import ExperimentSpec

from .job import PlannedJob, Reference
from .references import Producer, did_you_mean

JOBS = "jobs"
"""Where an experiment's folder holds what its jobs keep."""


def name_clashes(jobs: Sequence[PlannedJob]) -> Iterator[str]:
    """A metaName is one job's, or a refine job's and its probe's, whose outputs then differ."""
    owners: dict[tuple[str, str], list[PlannedJob]] = {}
    for job in jobs:
        double = next((name for name in job.outputs if job.outputs.count(name) > 1), None)
        if double is not None:
            order = ", ".join(job.hook.outputs)
            yield f"{job.where}.output: two results would be named {double!r}; the results are {order}, in this order"
        others = owners.setdefault((job.pipeline, job.meta_name), [])
        probe = job.inputs.get("probe")
        shares = isinstance(probe, Reference) and len(others) == 1 and probe.job_id == others[0].id
        if others and not shares:
            yield (
                f"{job.where}.metaName: {job.meta_name!r} is already the name of {others[0].where};"
                " give one of them another"
            )
        elif shared := next((name for other in others for name in job.outputs if name in other.outputs), None):
            yield f"{job.where}.output: {others[0].where} has an output {shared!r} under the same metaName; rename one"
        others.append(job)


def file_clashes(producers: Sequence[Producer]) -> Iterator[str]:
    """Two jobs that would write one file, or one inside what another writes; and places where nobody may write."""
    files: dict[str, Producer] = {}
    for producer in producers:
        for path, written in producer.writes.items():
            first = files.setdefault(path, producer)
            if first is not producer:
                yield (
                    f"{producer.where}.{written.target}: {path!r} is already written by"
                    f" {first.where}.{first.writes[path].target}; give one of them another path"
                )
            if path in (".", JOBS) or path.startswith(f"{JOBS}/"):
                yield (
                    f"{producer.where}.{written.target}: {path!r} is where jobs keep their own files; give a path such"
                    " as outputs/..."
                )
    for path, producer in files.items():
        around = next((str(above) for above in PurePosixPath(path).parents if str(above) in files), None)
        if around is not None:
            yield (
                f"{producer.where}.{producer.writes[path].target}: {path!r} lies inside {around!r}, which"
                f" {files[around].where}.{files[around].writes[around].target} writes; give it a place of its own"
            )


def comparison_problems(spec: ExperimentSpec, jobs: Sequence[PlannedJob]) -> Iterator[str]:
    """Pairs to compare that name no job."""
    names = dict.fromkeys(job.meta_name for job in jobs)  # in their order, which a sentence keeps
    for number, pair in enumerate(spec.comparison or ()):
        for side in ("before", "after"):
            name = getattr(pair, side)
            if name not in names:
                yield f"spec.comparison[{number}].{side}: no job has the metaName {name!r}{did_you_mean(name, names)}"
