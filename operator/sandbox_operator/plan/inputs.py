# SPDX-License-Identifier: Apache-2.0
"""Every input of a job: what `input`, `probe`, shared paths and the items of a forEach stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox_api.experiment import ForEach
from sandbox_api.hooks import HOOKS

from .configs import ROOTS, effective
from .drafts import JobAsWritten
from .job import ANY_ITEM, MAX_ITEMS, Fan, Item, PlannedJob, Reference, Source
from .references import Producer, did_you_mean, kind_problem, list_problem, path_references, resolve

PROBE_HOOK = "ProbeViaAnalyzerHook"
ITEM = "item"


@dataclass
class Inputs:
    inputs: dict[str, Source] = field(default_factory=dict)
    pipeline_fan: Fan | None = None
    fan: Fan | None = None
    problems: list[str] = field(default_factory=list)


def inputs_of(
    job: PlannedJob,
    earlier: tuple[Producer, ...],
    later: tuple[Producer, ...],
    fans: dict[str, Fan],
    pipeline_fans: Mapping[str, JobAsWritten],
) -> Inputs:
    """Every input of a job by target. What `input` says wins over a path that happens to be another job's file.

    `fans` gathers the pipelines' forEach as their first jobs come by: their lists must be there by then.
    """
    found = Inputs()
    _find_fans(job, found, earlier, later, fans, pipeline_fans)
    paths, problems = path_references(effective(job.config), job.where, earlier, later, job.hook.writes)
    found.inputs |= paths
    found.problems += problems
    items = [fan for fan in (found.pipeline_fan, found.fan) if fan is not None]
    for target, text in (job.config.input or {}).items():
        if target.split(".", 1)[0] not in ROOTS:
            continue  # check_configs tells it
        where = f'{job.where}.input["{target}"]'
        source = (
            _item(text, where, items) if text.split(".")[0] == ITEM else _reference(text, where, job, earlier, later)
        )
        if isinstance(source, str):
            found.problems.append(source)
        else:
            found.problems += (f"{where}: {words}" for words in kind_problem(target, source, earlier))
            found.inputs[target] = source
    if job.hook.reads_probe is not None:
        probe = _probe_of(job, job.hook.reads_probe, earlier)
        if isinstance(probe, str):
            found.problems.append(probe)
        else:
            found.inputs["probe"] = probe
    elif job.config.probe is not None:
        found.problems.append(f"{job.where}.probe: {job.hook.name} reads no probe; leave it out")
    return found


def _reference(
    text: str, where: str, job: PlannedJob, earlier: tuple[Producer, ...], later: tuple[Producer, ...]
) -> Source | str:
    if text.split(".")[0] == "-1" and job.config.depends_on is not None:
        return (
            f"{where}: {text!r} means the job before this one, which dependsOn leaves open;"
            " write <pipeline>.<metaName>.<output>"
        )
    return resolve(text, where, earlier, later)


def _item(text: str, where: str, fans: list[Fan]) -> Source | str:
    _, _, path = text.partition(".")
    name, *keys = path.split(".")
    if not fans:
        return f"{where}: {text!r} is the item of a forEach, and there is none around this job"
    if name not in [fan.name for fan in fans]:
        return f"{where}: no forEach around this job has the item {name!r}{did_you_mean(name, [f.name for f in fans])}"
    return Item(name, tuple(keys))


def _find_fans(
    job: PlannedJob,
    found: Inputs,
    earlier: tuple[Producer, ...],
    later: tuple[Producer, ...],
    fans: dict[str, Fan],
    pipeline_fans: Mapping[str, JobAsWritten],
) -> None:
    around = pipeline_fans.get(job.pipeline)
    if around is not None and around.for_each is not None:
        if job.pipeline not in fans:
            where = around.where.split("]", 1)[0] + "].forEach"
            before = tuple(p for p in earlier if p.pipeline != job.pipeline)
            fans[job.pipeline] = _fan(around.for_each, where, job.pipeline, before, later, found.problems)
        found.pipeline_fan = fans[job.pipeline]
    if job.config.for_each is not None:
        where = f"{job.where}.forEach"
        found.fan = _fan(job.config.for_each, where, job.pipeline, earlier, later, found.problems)
        if found.pipeline_fan is not None and found.pipeline_fan.name == found.fan.name:
            found.problems.append(f"{where}.item: {found.fan.name!r} is the pipeline's item already; take another name")


def _fan(
    for_each: ForEach,
    where: str,
    pipeline: str,
    earlier: tuple[Producer, ...],
    later: tuple[Producer, ...],
    problems: list[str],
) -> Fan:
    items: Reference | tuple[object, ...] = ()
    if isinstance(for_each.in_, list):
        items = tuple(for_each.in_)
        if not items:
            problems.append(f"{where}.in: the list is empty; write at least one item")
        if len(items) > MAX_ITEMS:
            problems.append(f"{where}.in: {len(items)} items are too many; at most {MAX_ITEMS} may stand in a forEach")
    elif isinstance(for_each.in_, str):
        source = resolve(for_each.in_, f"{where}.in", earlier, later)
        if isinstance(source, str):
            problems.append(source)
        else:
            items = source
            problem = list_problem(for_each.in_, source, f"{where}.in", pipeline, earlier)
            problems += [problem] if problem else []
    else:
        problems.append(f"{where}.in: write a list, or the reference of an output that is one")
    return Fan(for_each.item, where, items, for_each.max_parallel)


def _probe_of(job: PlannedJob, output: str, earlier: tuple[Producer, ...]) -> Reference | str:
    """The probe of that name in the job's own pipeline, else the single one of an earlier pipeline."""
    name = job.config.probe or job.meta_name
    every = [p for p in earlier if p.hook.name == PROBE_HOOK]
    probes = {p.meta_name: p for p in every if p.pipeline == job.pipeline}
    elsewhere = [p for p in every if p.meta_name == name and p.pipeline != job.pipeline and ANY_ITEM not in p.job_id]
    if name not in probes and len(elsewhere) == 1:
        probes[name] = elsewhere[0]
    if name in probes:
        return Reference(probes[name].job_id, probes[name].outputs[HOOKS[PROBE_HOOK].outputs.index(output)])
    misspelt = next((p for p in earlier if p.meta_name == name and p.hook.name not in HOOKS), None)
    if misspelt is not None:
        return Reference(misspelt.job_id, output)
    field_name = "probe" if job.config.probe else "metaName"
    return (
        f"{job.where}.{field_name}: no {PROBE_HOOK} before this job has the metaName {name!r};"
        f" give it the metaName of its probe, or set probe{did_you_mean(name, probes)}"
    )
