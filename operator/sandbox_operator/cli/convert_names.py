# SPDX-License-Identifier: Apache-2.0
"""Gives pipelines, jobs and outputs names that can be referred to, and rewrites the references that upstream has."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .convert_hooks import ANALYZER, K_SIGMA, REFINES, default_name, returns
from .convert_job import Job
from .convert_tree import Entry, Seq, plain
from .convert_upstream import Upstream

_UNNAMED = "anonymous_meta_name"
"""What upstream calls a job without a name."""


def name_of(text: str) -> str:
    """A text as a name that references can hold; may be empty."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_-")[:63].rstrip("_-")


def object_name(text: str, limit: int) -> str:
    """A text as a name of a Kubernetes object; may be empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].rstrip("-")


def unique(name: str, taken: Iterable[str], joint: str = "_") -> str:
    """The name, or the first of name_2, name_3, ... that is free."""
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name[: 62 - len(str(number))]}{joint}{number}"
    return candidate


def name_pipelines(upstream: Upstream, jobs: list[Job]) -> None:
    """Names for the pipelines, unlike each other."""
    taken: set[str] = set()
    for number, pipeline in enumerate(upstream.pipelines):
        name = unique(name_of(pipeline.name) or f"pipeline_{number + 1}", taken)
        taken.add(name)
        if name != pipeline.name:
            pipeline.entry.remark(f"was called {pipeline.name!r}; a name holds letters, digits, - and _")
        written = {id(up) for _, ups in pipeline.lists.values() for up in ups}
        for job in jobs:
            if id(job.up) in written:
                job.pipeline = name


def name_jobs(jobs: list[Job]) -> None:
    """A metaName for every job; within a pipeline no two share one, but a refine job and the probe it reads."""
    for pipeline in {job.pipeline: None for job in jobs}:
        members = [job for job in jobs if job.pipeline == pipeline]
        wanted = {name_of(job.upstream_name) for job in members if job.upstream_name}
        owners: dict[str, list[Job]] = {}
        for job in members:
            _name_job(job, wanted, owners)
            owners.setdefault(job.meta_name, []).append(job)
        for job in members:
            _name_probe(job, members)


def _name_job(job: Job, wanted: set[str], owners: dict[str, list[Job]]) -> None:
    entry = job.out.entries.setdefault("metaName", Entry(None))
    given = name_of(job.upstream_name or "")
    others = owners.get(given, [])
    if given and (not others or (job.hook in REFINES and [other.hook for other in others] == [ANALYZER])):
        job.meta_name = given
        if given != job.upstream_name:
            entry.remark(f"was {job.upstream_name!r}; a name holds letters, digits, - and _")
    else:
        base = given or default_name(job.hook)
        job.meta_name = unique(base, wanted | set(owners))
        if given:
            entry.remark(f"was {given!r} like an earlier job, which references mean; names are unique here")
        else:
            entry.remark("a name to refer to; upstream's file has none")
    entry.value = job.meta_name


def _name_probe(job: Job, members: list[Job]) -> None:
    """`probe` for a refine job that can't share its probe's name, or that names none."""
    if job.hook not in REFINES:
        return
    probes = [other for other in members if other.hook == ANALYZER and other.index < job.index]
    if any(probe.meta_name == job.meta_name for probe in probes):
        return
    same = next((probe for probe in probes if probe.upstream_name and probe.upstream_name == job.upstream_name), None)
    if same is not None:
        job.out.put("probe", same.meta_name, "the probe whose name upstream's file gives to several refine jobs")
    elif len(probes) == 1:
        why = (
            "upstream finds its probe by an equal meta_name"
            if job.hook == K_SIGMA
            else "it reads what a probe measured"
        )
        job.out.put("probe", probes[0].meta_name, f"{why}; this is the only probe before it")


def producer(text: str, jobs: list[Job], index: int) -> tuple[Job, str] | None:
    """The job that one of upstream's references means, and the rest of it, seen from the job at `index`."""
    if text.startswith("-1."):
        return (jobs[index - 1], text[len("-1.") :]) if index > 0 else None
    named: list[tuple[Job, str]] = []
    for job in jobs:
        prefix = f"{job.upstream_pipeline}.{job.upstream_name or _UNNAMED}."
        if text.startswith(prefix):
            named.append((job, text[len(prefix) :]))
    having = [(job, output) for job, output in named if output in _given(job)]
    return next(iter(having or named), None)


def translated(text: str, jobs: list[Job], index: int) -> str:
    """One of upstream's references in our names; as it stands where it means nothing that is there."""
    found = producer(text, jobs, index)
    if found is None:
        return text
    job, output = found
    ours = output_name(job, output)
    return f"-1.{ours}" if text.startswith("-1.") else f"{job.pipeline}.{job.meta_name}.{ours}"


def output_name(job: Job, output: str) -> str:
    """What upstream calls an output, in our names: by number where the job names none."""
    if output.isdigit() and not _given(job):
        there = returns(job.hook, job.kind)
        return there[int(output)] if int(output) < len(there) else output
    return name_of(output) or output if output in _given(job) else output


def _given(job: Job) -> list[str]:
    value = plain(job.up.body.get("output"))
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def clean_outputs(job: Job) -> None:
    """Names of outputs that references can hold."""
    entry = job.out.entries.get("output")
    if entry is None:
        return
    for place in entry.value.entries if isinstance(entry.value, Seq) else [entry]:
        if isinstance(place.value, str) and name_of(place.value) not in ("", place.value):
            entry.remark(f"was {place.value!r}; a name holds letters, digits, - and _")
            place.value = name_of(place.value)
