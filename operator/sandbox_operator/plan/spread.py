# SPDX-License-Identifier: Apache-2.0
"""Spreads out every forEach whose list is known by now: from the jobs of an iteration to those that can run.

A list is known when it stands in the spec, or when the job that makes it has been committed. Until then one job stands
for all of its items (`exps[*]/1/execution/0`), and never runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from sandbox_api.digest import sha256_of
from sandbox_api.status import JobStatus

from .job import (
    ANY_ITEM,
    MAX_ITEMS,
    MAX_JOBS,
    Fan,
    Gathered,
    Given,
    Item,
    PlannedJob,
    Reference,
    Share,
    Source,
    is_of_each_item,
    of_item,
    references_in,
)


@dataclass(frozen=True)
class _Instance:
    id: str
    pipeline: str
    pipeline_item: int | None


@dataclass(frozen=True)
class _Lacking:
    """Stands for what an element of a list does not have."""

    key: str


class _Unknown(Exception):
    """The list is not there yet; with words, it will never be of use."""


def spread(jobs: Sequence[PlannedJob], committed: Mapping[str, JobStatus]) -> tuple[PlannedJob, ...]:
    """The jobs with every known forEach spread out, in written order, item by item."""
    if all(job.pipeline_fan is None and job.fan is None for job in jobs):
        return tuple(jobs)
    instances: dict[str, list[_Instance]] = {}
    done: list[PlannedJob] = []
    for job in jobs:
        copies = [
            copy
            for around in _items(job, job.pipeline_fan, instances, committed)
            for copy in _of_item(around, instances, committed)
        ]
        instances[job.id] = [_Instance(copy.id, copy.pipeline, copy.pipeline_item) for copy in copies]
        done += copies
    if len(done) > MAX_JOBS:
        return tuple(_all_too_many(jobs, len(done)))
    return tuple(done)


def _items(
    job: PlannedJob, fan: Fan | None, instances: Mapping[str, list[_Instance]], committed: Mapping[str, JobStatus]
) -> list[PlannedJob]:
    """A job for each item of the pipeline's forEach, or the one that stands for them all."""
    if fan is None:
        return [job]
    try:
        values = _values(fan, job, instances, committed)
    except _Unknown as words:
        return [replace(job, problem=str(words) or None)]
    prefix = f"{job.pipeline}{ANY_ITEM}/"
    return [
        replace(
            _bound(job, fan, number, value),
            id=job.id.replace(prefix, f"{job.pipeline}[{number}]/", 1),
            pipeline_item=number,
            pipeline_fan=None,
            label=_label(value, number, committed),
            shares=(*job.shares, *_share(fan, f"{job.pipeline}/{job.iteration}", number)),
            publish_under=f"{job.publish_under}/item_{number}".strip("/"),
        )
        for number, value in enumerate(values)
    ]


def _of_item(
    job: PlannedJob, instances: Mapping[str, list[_Instance]], committed: Mapping[str, JobStatus]
) -> list[PlannedJob]:
    """The copies of a job for its own forEach, their references and order resolved."""
    if job.pipeline_fan is not None:
        return [_resolved(job, instances)]
    if job.fan is None:
        return [_resolved(job, instances)]
    try:
        values = _values(job.fan, job, instances, committed)
    except _Unknown as words:
        fan = job.fan
        if not isinstance(fan.items, tuple):
            fan = replace(fan, items=_located(fan.items, job, instances))
        return [_resolved(replace(job, fan=fan, problem=str(words) or None), instances)]
    return [
        _resolved(
            replace(
                _bound(job, job.fan, number, value),
                id=of_item(job.id, number),
                item=number,
                fan=None,
                label=f"{job.label} / {_label(value, number, committed)}".removeprefix(" / "),
                shares=(*job.shares, *_share(job.fan, job.id, number)),
                publish_under=f"{job.publish_under}/item_{number}".strip("/"),
            ),
            instances,
        )
        for number, value in enumerate(values)
    ]


def _values(
    fan: Fan, job: PlannedJob, instances: Mapping[str, list[_Instance]], committed: Mapping[str, JobStatus]
) -> list[Source]:
    """Where each item comes from. Raises _Unknown."""
    if isinstance(fan.items, tuple):
        return [Given(value) for value in fan.items]
    source = _located(fan.items, job, instances)
    if isinstance(source, Gathered):
        return _limited(list(source.references), fan)
    entry = committed.get(source.job_id)
    value = (entry.outputs or {}).get(source.output) if entry is not None else None
    if entry is None or entry.result is None:
        raise _Unknown
    if not isinstance(value, list):
        raise _Unknown(f"{fan.where}.in: {source.output!r} of {source.job_id} is not a list, but {value!r:.80}")
    return _limited([replace(source, element=number) for number in range(len(value))], fan)


def _limited(items: list[Any], fan: Fan) -> list[Any]:
    if len(items) > MAX_ITEMS:
        raise _Unknown(f"{fan.where}.in: the list has {len(items)} items; at most {MAX_ITEMS} may stand in a forEach")
    return items


def _bound(job: PlannedJob, fan: Fan, number: int, value: Source) -> PlannedJob:
    """The job for one item: its inputs that name the item get it."""
    inputs = {
        target: _element(value, source.keys) if isinstance(source, Item) and source.name == fan.name else source
        for target, source in job.inputs.items()
    }
    said = value.value if isinstance(value, Given) else number
    lacking = next((found for found in inputs.values() if isinstance(found, _Lacking)), None)
    problem = f"{fan.where}.in[{number}]: has no {lacking.key!r}, which {job.where}.input asks for" if lacking else None
    return replace(
        job,
        inputs={target: found for target, found in inputs.items() if not isinstance(found, _Lacking)},
        digest=sha256_of([job.digest, fan.name, said])[:16],
        problem=job.problem or problem,
    )


def _element(value: Source, keys: tuple[str, ...]) -> Source | _Lacking:
    if not keys or not isinstance(value, Given):
        return value
    found = value.value
    for key in keys:
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        else:
            return _Lacking(".".join(keys))
    return Given(found)


def _label(source: Source, number: int, committed: Mapping[str, JobStatus]) -> str:
    """What an item is called: itself, its `name`, the file's name without folder and suffix, else its number."""
    value = source.value if isinstance(source, Given) else None
    if isinstance(source, Reference):
        entry = committed.get(source.job_id)
        value = (entry.outputs or {}).get(source.output) if entry is not None else None
        value = value[source.element] if isinstance(value, list) and source.element is not None else value
    name = name_of(value)
    return f"item {number}" if name is None else name


def name_of(value: Any) -> str | None:
    """What an item of this value is called; None where nothing in it says so."""
    if isinstance(value, Mapping):
        value = value.get("name")
    if isinstance(value, str):
        return PurePosixPath(value).name.partition(".")[0] if "/" in value else value
    return None if value is None else str(value)


def _share(fan: Fan, group: str, number: int) -> tuple[Share, ...]:
    return (Share(group, number, fan.max_parallel),) if fan.max_parallel is not None else ()


def _resolved(job: PlannedJob, instances: Mapping[str, list[_Instance]]) -> PlannedJob:
    after = [found.id for other in job.after for found in _copies(other, job, instances)]
    inputs = {
        target: _located(source, job, instances) if isinstance(source, Reference | Gathered) else source
        for target, source in job.inputs.items()
    }
    return replace(job, after=tuple(dict.fromkeys(after)), inputs=inputs)


def _copies(job_id: str, reader: PlannedJob, instances: Mapping[str, list[_Instance]]) -> list[_Instance]:
    """Those of a job that a reader means: of its own pipeline's item, else all."""
    found = instances.get(job_id)
    if found is None:  # of an earlier iteration, or located already
        return [_Instance(job_id, "", None)]
    if not _is_of_its_item(job_id, reader):
        return found
    return [one for one in found if one.pipeline_item == reader.pipeline_item]


def _is_of_its_item(job_id: str, reader: PlannedJob) -> bool:
    """Whether both are in the same pipeline, spread out by its forEach: then a reader means its own item's."""
    return reader.pipeline_item is not None and job_id.startswith(f"{reader.pipeline}{ANY_ITEM}/")


def _located(
    reference: Reference | Gathered, reader: PlannedJob, instances: Mapping[str, list[_Instance]]
) -> Reference | Gathered:
    """The result that a reference means: one, or one of each item (and repeat)."""
    if isinstance(reference, Gathered):
        every = [_located(one, reader, instances) for one in reference.references]
        return Gathered(tuple(one for source in every for one in references_in(source)))
    found = _copies(reference.job_id, reader, instances)
    if reference.job_id in instances and (
        is_of_each_item(reference.job_id)
        or (ANY_ITEM in reference.job_id and not _is_of_its_item(reference.job_id, reader))
    ):
        return Gathered(tuple(replace(reference, job_id=one.id) for one in found))
    (one,) = found
    return replace(reference, job_id=one.id)


def _all_too_many(jobs: Sequence[PlannedJob], number: int) -> list[PlannedJob]:
    """As written, with the first forEach saying what is wrong."""
    words = f"its items make {number} jobs; at most {MAX_JOBS} may stand in an experiment"
    first = next(job for job in jobs if job.pipeline_fan is not None or job.fan is not None)
    fan = first.pipeline_fan or first.fan
    where = fan.where if fan is not None else first.where
    return [replace(job, problem=f"{where}: {words}") if job is first else job for job in jobs]
