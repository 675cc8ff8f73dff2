# SPDX-License-Identifier: Apache-2.0
"""From a spec to the ordered jobs it means, with every mistake in it told at once, before anything starts.

The result depends on the spec alone, so it may be kept for as long as the spec's generation stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from sandbox_api.base import seconds
from sandbox_api.experiment import ExperimentSpec, JobConfig, JobLists, PodProfile, Resources, Timeouts
from sandbox_api.hooks import HOOKS, STAGES, Hook

from ..build.job import limits_of
from .configs import check_configs, effective
from .references import Producer, Reference, did_you_mean, normal_path, path_references, resolve
from .retry import Budgets, budgets_of
from .unsupported import unsupported_in_job, unsupported_in_spec

ANONYMOUS = "anonymous"
LISTS = dict(
    zip(
        STAGES,
        ("probe_job_configs", "refine_recipe_job_configs", "execution_job_configs", "evaluation_job_configs"),
        strict=True,
    )
)


@dataclass(frozen=True)
class TimeLimits:
    """Seconds."""

    pending: int = 3600
    active: int = 86400
    result: int = 120
    node_lost: int = 600


@dataclass(frozen=True)
class PlannedJob:
    """One job of an experiment, with everything about it that the spec decides."""

    id: str
    where: str
    """Its place in the spec, for messages."""
    pipeline: str
    iteration: int
    stage: str
    index: int
    hook: Hook
    config: JobConfig
    meta_name: str
    outputs: tuple[str, ...]
    inputs: Mapping[str, Reference] = field(default_factory=dict)
    """By target: a configuration key, or `probe`."""
    budgets: Budgets = field(default_factory=Budgets)
    limits: TimeLimits = field(default_factory=TimeLimits)
    profile: PodProfile = field(default_factory=lambda: PodProfile())
    resources: Resources | None = None


@dataclass(frozen=True)
class Compiled:
    spec: ExperimentSpec | None
    jobs: tuple[PlannedJob, ...] = ()
    problems: tuple[str, ...] = ()
    """Sentences that begin with the field's path."""
    warnings: tuple[str, ...] = ()


def compile_spec(raw: Mapping[str, Any]) -> Compiled:
    """The jobs a spec means, in the order in which they run, or all that is wrong with it."""
    try:
        spec = ExperimentSpec.model_validate(raw)
    except ValidationError as error:
        return Compiled(None, problems=tuple(_schema_problems(error)))
    problems = [*unsupported_in_spec(spec)]
    jobs = [*_drafts(spec, problems)]
    if not jobs and not spec.pipelines:
        problems.append(
            "spec: there is no job; write at least one in probeJobConfigs, refineRecipeJobConfigs,"
            " executionJobConfigs or evaluationJobConfigs"
        )
    producers = [_producer(job) for job in jobs]
    problems += _clashes(producers)
    planned = []
    for number, job in enumerate(jobs):
        inputs, wrong = _inputs(job, tuple(producers[:number]), tuple(producers[number + 1 :]))
        problems += wrong
        problems += check_configs(job.config, job.hook, job.where, inputs, tuple(volume.name for volume in spec.inputs))
        planned.append(replace(job, inputs=inputs))
    problems += _comparison_problems(spec, planned)
    warnings = [
        f"{job.where}.hook: {job.hook.name} belongs to {' or '.join(job.hook.stages)} jobs; it runs here as well"
        for job in planned if job.stage not in job.hook.stages
    ]  # fmt: skip
    return Compiled(spec, tuple(planned), tuple(problems), tuple(warnings))


def _schema_problems(error: ValidationError) -> Iterator[str]:
    for entry in error.errors():
        path = "spec"
        for part in entry["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
        if entry["type"] == "extra_forbidden":
            yield f"{path}: there is no such field; check the spelling with kubectl explain"
        else:
            yield f"{path}: {entry['msg'][0].lower()}{entry['msg'][1:]}"


def _drafts(spec: ExperimentSpec, problems: list[str]) -> Iterator[PlannedJob]:
    """Each job of the four lists, in order, before its references are known."""
    taken = {job.meta_name for _, _, _, job in _written(spec) if job.meta_name}
    used: Counter[str] = Counter()
    for where, stage, index, config in _written(spec):
        problems += unsupported_in_job(config, where)
        hook = HOOKS.get(config.hook)
        if hook is None:
            problems.append(f"{where}.hook: there is no hook {config.hook!r}{did_you_mean(config.hook, HOOKS)}")
            continue
        if not hook.available:
            problems.append(f"{where}.hook: {hook.name} is not in this version yet")
        meta_name = config.meta_name
        while meta_name is None:
            used[hook.meta_name] += 1
            number = used[hook.meta_name]
            candidate = hook.meta_name if number == 1 else f"{hook.meta_name}_{number}"
            meta_name = candidate if candidate not in taken else None
        names = tuple(config.output or ())
        if len(names) > len(hook.outputs):
            problems.append(
                f"{where}.output: {hook.name} has {len(hook.outputs)} results ({', '.join(hook.outputs)}),"
                f" not {len(names)}"
            )
        profile, resources = _profile(spec, config, where, problems)
        yield PlannedJob(
            id=f"{ANONYMOUS}/1/{stage}/{index}",
            where=where,
            pipeline=ANONYMOUS,
            iteration=1,
            stage=stage,
            index=index,
            hook=hook,
            config=config,
            meta_name=meta_name,
            outputs=names + hook.outputs[len(names) :],
            budgets=budgets_of(spec.retry, config.retry),
            limits=_time_limits(spec.timeouts, config.timeouts),
            profile=profile,
            resources=resources,
        )


def _written(lists: JobLists) -> Iterator[tuple[str, str, int, JobConfig]]:
    for stage, name in LISTS.items():
        key = type(lists).model_fields[name].alias
        for index, config in enumerate(getattr(lists, name) or ()):
            yield f"spec.{key}[{index}]", stage, index, config


def _profile(
    spec: ExperimentSpec, config: JobConfig, where: str, problems: list[str]
) -> tuple[PodProfile, Resources | None]:
    name = config.pod or "default"
    if config.pod and config.pod not in spec.pods:
        problems.append(f"{where}.pod: spec.pods has no profile {config.pod!r}{did_you_mean(config.pod, spec.pods)}")
    profile = spec.pods.get(name, PodProfile())
    return profile, limits_of(profile.resources, config.resources)


def _time_limits(*layers: Timeouts | None) -> TimeLimits:
    given: dict[str, int] = {}
    for layer in layers:
        if layer is not None:
            given |= {name: seconds(value) for name, value in layer.model_dump(exclude_none=True).items()}
    return TimeLimits(**given)


def _producer(job: PlannedJob) -> Producer:
    configs = effective(job.config)
    writes: dict[str, str] = {}
    for target, output in job.hook.writes.items():
        value: Any = configs
        for part in target.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            writes[normal_path(value)] = job.outputs[job.hook.outputs.index(output)]
    return Producer(job.id, job.where, job.hook, job.pipeline, job.meta_name, job.outputs, writes)


def _clashes(producers: list[Producer]) -> Iterator[str]:
    """Two jobs that would answer to one name, or write one file."""
    names: dict[tuple[str, str, str], Producer] = {}
    files: dict[str, Producer] = {}
    told: set[tuple[str, str]] = set()
    for producer in producers:
        for output in producer.outputs:
            first = names.setdefault((producer.pipeline, producer.meta_name, output), producer)
            if first is not producer and (first.where, producer.where) not in told:
                told.add((first.where, producer.where))
                yield (
                    f"{producer.where}.metaName: {producer.meta_name!r} with the output {output!r} is already"
                    f" {first.where}; give one of them another metaName"
                )
        for path in producer.writes:
            first = files.setdefault(path, producer)
            if first is not producer:
                yield f"{producer.where}: {path!r} is already written by {first.where}; give one of them another path"


def _inputs(
    job: PlannedJob, earlier: tuple[Producer, ...], later: tuple[Producer, ...]
) -> tuple[dict[str, Reference], list[str]]:
    """Every input of a job by target. What `input` says wins over a path that happens to be another job's file."""
    found, problems = path_references(effective(job.config), job.hook.writes, job.where, earlier, later)
    for target, text in (job.config.input or {}).items():
        where = f'{job.where}.input["{target}"]'
        root = target.split(".", 1)[0]
        if root not in ("djConfigs", "extraConfigs"):
            problems.append(f"{where}: a target begins with djConfigs or extraConfigs")
            continue
        reference = resolve(text, where, earlier, later)
        if isinstance(reference, str):
            problems.append(reference)
        else:
            found[target] = reference
    if job.hook.name == "RefineRecipeViaKSigmaHook":
        probe = _probe_of(job, earlier)
        if isinstance(probe, str):
            problems.append(probe)
        else:
            found["probe"] = probe
    elif job.config.probe is not None:
        problems.append(f"{job.where}.probe: {job.hook.name} reads no probe; leave it out")
    return found, problems


def _probe_of(job: PlannedJob, earlier: tuple[Producer, ...]) -> Reference | str:
    name = job.config.probe or job.meta_name
    probes = {p.meta_name: p for p in earlier if p.hook.name == "ProbeViaAnalyzerHook" and p.pipeline == job.pipeline}
    if name in probes:
        probe = probes[name]
        return Reference(probe.job_id, probe.outputs[probe.hook.outputs.index("overall")])
    field_name = "probe" if job.config.probe else "metaName"
    return (
        f"{job.where}.{field_name}: no ProbeViaAnalyzerHook before this job has the metaName {name!r};"
        f" give it the metaName of its probe, or set probe{did_you_mean(name, probes)}"
    )


def _comparison_problems(spec: ExperimentSpec, jobs: list[PlannedJob]) -> Iterator[str]:
    names = {job.meta_name for job in jobs}
    for number, pair in enumerate(spec.comparison or ()):
        for side in ("before", "after"):
            name = getattr(pair, side)
            if name not in names:
                yield f"spec.comparison[{number}].{side}: no job has the metaName {name!r}{did_you_mean(name, names)}"
