# SPDX-License-Identifier: Apache-2.0
"""Puts the resources together: the experiment's settings, its job lists or pipelines, and what they mount."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox_api.base import API_VERSION
from sandbox_api.crd import MAX_NAME, MAX_SWEEP_NAME

from .convert_homes import house
from .convert_job import Job, jobs_of, respelt
from .convert_load import load
from .convert_mend import mend
from .convert_names import name_jobs, name_of, name_pipelines, object_name, producer, translated, unique
from .convert_paths import Paths
from .convert_sweep import Sweep, sweep_of
from .convert_tree import Entry, Map, Seq, copied_entry, plain, tree
from .convert_upload import Uploads
from .convert_upstream import LISTS, Files, NotConverted, Upstream, UpstreamPipeline
from .convert_write import Document

_TARGET = re.compile(r"\s*(?P<reference>[^<>=]+?)\s*(?P<operator>==|>=|<=|>|<)\s*(?P<number>.+?)\s*")


@dataclass
class Converted:
    documents: list[Document]
    spec: dict[str, Any]
    """The spec of the experiment, or of a search's trials, as plain data for the planner."""
    uploads: Uploads
    left_out: list[str] = field(default_factory=list)
    """What can't run on a cluster, as sentences with the way out."""
    sweep: dict[str, Any] | None = None
    """The whole spec of a search, with `spec` as its template; None where it is one experiment."""


def convert(
    upstream: Upstream, files: Files, file: Path, name: str | None, command: str, claim: str | None
) -> Converted:
    """The resources that upstream's configuration means. Raises NotConverted."""
    jobs = jobs_of(upstream)
    name_pipelines(upstream, jobs)
    name_jobs(jobs)
    try:
        written = load(jobs, files)
    except NotConverted as error:
        raise NotConverted(*upstream.problems, *error.problems) from error
    if upstream.problems:
        raise NotConverted(*upstream.problems)
    left_out = mend(jobs)
    sweep = sweep_of(upstream.settings, files)
    experiment, origin = _name(name, upstream, file, sweep)
    uploads = Uploads(files, experiment, command, claim)
    readers = [path for job in jobs for path in job.files.values()]
    shared = {(job.index, root): readers.count(path) > 1 for job in jobs for root, path in job.files.items()}
    paths = Paths(files, uploads, written, shared)
    for job in jobs:
        paths.settle(job)
    left_out += paths.left_out
    volume = unique("configs", {source.name for source in uploads.sources.values()}, "-")
    config_map = f"{experiment}-{volume}"
    content = house(jobs, volume, config_map)
    spec = Map()
    _settings(upstream.settings, spec)
    _volumes(
        spec,
        "this experiment" if sweep is None else "the search",
        [*uploads.inputs(), *([{"name": volume, "configMapName": config_map}] if content else [])],
    )
    _iterations(upstream.settings, spec, jobs)
    _job_lists(upstream, spec, jobs)
    metadata = Map({"name": Entry(experiment)})
    if origin:
        metadata.entries["name"].remark(f"from {origin}; --name gives another")
    kind = "SandboxExperiment" if sweep is None else "SandboxSweep"
    body = Map({"apiVersion": Entry(API_VERSION), "kind": Entry(kind), "metadata": Entry(metadata)})
    body.entries["spec"] = Entry(spec if sweep is None else sweep.around(spec))
    documents = [Document(_config_map(config_map, content))] if content else []
    documents.append(Document(body, below=[*upstream.below, *(sweep.below if sweep else ())]))
    documents[0].above = [*_head(file, uploads)]
    whole = plain(body.get("spec")) if sweep is not None else None
    return Converted(documents, plain(spec), uploads, left_out, whole)


def _name(name: str | None, upstream: Upstream, file: Path, sweep: Sweep | None) -> tuple[str, str]:
    """The resource's name, and where it is from if nobody gave it."""
    limit = MAX_NAME if sweep is None else MAX_SWEEP_NAME
    if name and len(name) > limit:
        raise NotConverted(f"--name: a sweep's name has at most {limit} characters; its trials' names begin with it")
    if name:
        return name, ""
    sources = {"sweep_name": sweep and sweep.name, "experiment_name": upstream.settings.get("experiment_name")}
    for key, given in sources.items():
        if given is not None and (found := object_name(str(plain(given)), limit)):
            return found, key
    return object_name(file.stem, limit) or "sandbox", "the name of the file"


def _settings(settings: Map, spec: Map) -> None:
    for key, ours in (("project_name", "projectName"), ("experiment_name", "experimentName")):
        if settings.get(key) is not None:
            spec.entries[ours] = copied_entry(settings.entries[key])
            spec.entries[ours].value = str(plain(settings.get(key)))
    reasons = {
        "work_dir": "every experiment has a folder of its own on the workspace's volume",
        "resume": "the operator always goes on where it was",
        "debug": "what a hook says stands in its pod's log",
    }
    for key, why in reasons.items():
        if settings.get(key) not in (None, False):
            entry = spec.entries[f"# {key}"] = copied_entry(settings.entries[key])
            entry.is_gone = True
            entry.remark(f"{key} ({plain(entry.value)}) is left out: {why}")


def _volumes(spec: Map, user: str, inputs: list[dict[str, str]]) -> None:
    words = f"made for {user}, and kept; `claimName: <name>` takes one of yours"
    spec.put("workspace", tree({"claim": tree({"size": "50Gi"}, True)}), words)
    if inputs:
        spec.put("inputs", Seq([Entry(tree(volume, True)) for volume in inputs]))


def _iterations(settings: Map, spec: Map, jobs: list[Job]) -> None:
    """`max_iter_num` and its companions, their references in our names."""
    _copy(settings, spec, "max_iter_num", "maxIterNum")
    entry = _copy(settings, spec, "iter_targets", "iterTargets")
    if entry is not None:
        if not isinstance(entry.value, Seq):
            entry.value = Seq([Entry(entry.value)])
        for target in entry.value.entries:
            _translate_target(target, jobs)
    _copy(settings, spec, "iter_targets_mode", "iterTargetsMode")
    entry = _copy(settings, spec, "iter_updater", "iterUpdater")
    if entry is not None:
        assert isinstance(entry.value, Map), "read_upstream has seen to it"
        entry.value = Map({_translated(key, jobs): value for key, value in entry.value.entries.items()})
        for value in entry.value.entries.values():
            value.value = _translated_target(str(plain(value.value)), jobs)


def _copy(settings: Map, spec: Map, key: str, ours: str) -> Entry | None:
    if plain(settings.get(key)) in (None, "", [], {}):
        return None
    entry = spec.entries[ours] = copied_entry(settings.entries[key])
    return entry


def _translate_target(target: Entry, jobs: list[Job]) -> None:
    found = _TARGET.fullmatch(str(plain(target.value)))
    if found:
        reference = _translated(found["reference"], jobs)
        target.value = f"{reference} {found['operator']} {found['number']}"


def _translated(reference: str, jobs: list[Job]) -> str:
    return translated(reference, jobs, 0)


def _translated_target(target: str, jobs: list[Job]) -> str:
    """`<pipeline>.<meta_name>.dj_configs.<key>` in our names."""
    found = producer(target, jobs, 0)
    if found is None:
        return target
    job, key = found
    return f"{job.pipeline}.{job.meta_name}.{respelt(key)}"


def _job_lists(upstream: Upstream, spec: Map, jobs: list[Job]) -> None:
    of = {id(job.up): job for job in jobs}
    if upstream.is_single:
        for key, entry in _lists(upstream.pipelines[0], of):
            spec.entries[key] = entry
        return
    pipelines = []
    for pipeline in upstream.pipelines:
        members = [of[id(up)] for _, ups in pipeline.lists.values() for up in ups]
        name = members[0].pipeline if members else name_of(pipeline.name)
        entry = Entry(name, [], pipeline.entry.beside, pipeline.entry.remarks)
        body = Map({"name": entry, **dict(_lists(pipeline, of))})
        pipelines.append(Entry(body, pipeline.entry.above))
    spec.put("pipelines", Seq(pipelines))


def _lists(pipeline: UpstreamPipeline, of: dict[int, Job]) -> Iterator[tuple[str, Entry]]:
    """The lists that hold jobs; comments of empty ones stay with the next."""
    waiting: list[str] = []
    for key, (place, ups) in pipeline.lists.items():
        above = [*waiting, *place.above]
        if ups:
            yield LISTS[key], Entry(Seq([of[id(up)].finished() for up in ups]), above, place.beside)
            waiting = []
        else:
            waiting = [*above, *([place.beside] if place.beside else [])]


def _config_map(name: str, content: dict[str, str]) -> Map:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": content}
    result = tree(body)
    assert isinstance(result, Map)
    return result


def _head(file: Path, uploads: Uploads) -> Iterator[str]:
    """What the file begins with: where it is from, and what to upload before it is applied."""
    yield f'# From {file.name} by `sandboxctl convert`; what was changed is told at its place, after "convert:".'
    told = [*uploads.told()]
    if not told:
        return
    yield "#"
    yield "# Upload what the jobs read before you apply this:"
    before, after = uploads.before_and_after() if uploads.needs_pod() else ([], [])
    yield from (f"#   {command}" for command in before)
    for sentence, commands in told:
        yield f"#   # {sentence}"
        yield from (f"#   {command}" for command in commands)
    yield from (f"#   {command}" for command in after)
