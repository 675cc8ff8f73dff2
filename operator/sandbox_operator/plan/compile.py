# SPDX-License-Identifier: Apache-2.0
"""From a spec to the ordered jobs it means, with every mistake in it told at once, before anything starts.

The result depends on the spec alone, so it may be kept for as long as the spec's generation stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from sandbox_api.base import seconds
from sandbox_api.experiment import ExperimentSpec, JobConfig, JobLists, PodProfile, Resources, Timeouts
from sandbox_api.hooks import HOOKS, STAGES, Hook

from ..build.job import limits_of
from .configs import ROOTS, check_configs, effective, value_at
from .exclusive import exclusive_problems
from .profiles import profile_problems, secret_problems
from .references import Producer, Reference, Written, did_you_mean, normal_path, path_references, resolve
from .retry import Budgets, budgets_of
from .schema import schema_problems
from .unsupported import unsupported_in_job, unsupported_in_spec

ANONYMOUS = "anonymous"
PROBE_HOOK = "ProbeViaAnalyzerHook"
PROBE_OUTPUT = HOOKS[PROBE_HOOK].outputs.index("overall")
"""What a refine job reads of its probe."""
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
        return Compiled(None, problems=tuple(schema_problems(error)))
    problems = [*exclusive_problems(spec), *unsupported_in_spec(spec), *profile_problems(spec)]
    jobs = [*_drafts(spec, problems)]
    if not jobs and not spec.pipelines:
        problems.append(
            "spec: there is no job; write at least one in probeJobConfigs, refineRecipeJobConfigs,"
            " executionJobConfigs or evaluationJobConfigs"
        )
    volumes = tuple(volume.name for volume in spec.inputs)
    later = [_producer(job) for job in jobs]
    earlier: list[Producer] = []
    planned: list[PlannedJob] = []
    recipes: dict[Reference, Any] = {}
    """What is known of the Data-Juicer configurations that refine jobs write."""
    for job in jobs:
        del later[0]
        inputs, wrong = _inputs(job, tuple(earlier), tuple(later))
        problems += wrong
        if job.hook.available:
            problems += check_configs(job.config, job.hook, job.where, inputs, volumes)
        recipe = recipes.get(inputs["djConfigs"]) if "djConfigs" in inputs else None
        earlier.append(_producer(job, recipe))
        if "recipe" in job.hook.outputs:
            name = job.outputs[job.hook.outputs.index("recipe")]
            recipes[Reference(job.id, name)] = effective(job.config)["djConfigs"] or recipe
        planned.append(replace(job, inputs=inputs))
    problems += _name_clashes(planned)
    problems += _file_clashes(earlier)
    problems += _comparison_problems(spec, planned)
    return Compiled(spec, tuple(planned), tuple(problems), tuple(_warnings(spec, planned)))


def _warnings(spec: ExperimentSpec, jobs: list[PlannedJob]) -> Iterator[str]:
    """What will run, but perhaps not as it was meant."""
    for job in jobs:
        if job.stage not in job.hook.stages:
            lists = " or ".join(job.hook.stages)
            yield f"{job.where}.hook: {job.hook.name} belongs to {lists} jobs; it runs here as well"
        for target in job.config.local or {}:
            if target.split(".")[0] in job.inputs:
                yield f'{job.where}.local["{target}"]: has no effect; an input then replaces it all'
    used = {job.hook.image for job in jobs}
    for name in spec.images:
        if name not in used:
            yield f"spec.images.{name}: no job here runs on it; the images in use are {', '.join(sorted(used))}"


def _drafts(spec: ExperimentSpec, problems: list[str]) -> Iterator[PlannedJob]:
    """Each job of the four lists, in order, before its references are known."""
    taken = {job.meta_name for _, _, _, job in _written(spec) if job.meta_name}
    used: Counter[str] = Counter()
    for where, stage, index, config in _written(spec):
        problems += [*unsupported_in_job(config, where), *secret_problems(config, where)]
        hook = HOOKS.get(config.hook)
        if hook is None:
            problems.append(f"{where}.hook: there is no hook {config.hook!r}{did_you_mean(config.hook, HOOKS)}")
            hook = _unknown(config)
        elif not hook.available:
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
                f"{where}.output: {len(names)} names are too many; the results of {hook.name} are"
                f" {', '.join(hook.outputs)}"
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


def _unknown(config: JobConfig) -> Hook:
    """A stand-in that can be referred to in any way, so that one misspelt hook is one mistake."""
    outputs = tuple(config.output or ())
    return Hook(config.hook, config.meta_name or "unknown", STAGES, outputs, figures=r".*", available=False)


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


def _producer(job: PlannedJob, recipe: Any = None) -> Producer:
    """What other jobs may refer to. `recipe` is the configuration that an input brings, as far as it is known."""
    configs = effective(job.config)
    if recipe is not None and not isinstance(configs["djConfigs"], Mapping):
        configs["djConfigs"] = recipe
    absent = {
        job.outputs[job.hook.outputs.index(output)]: target
        for output, target in job.hook.only_with.items()
        if isinstance(configs[target.split(".")[0]], Mapping) and not value_at(job.config, configs, target)
    }
    writes: dict[str, Written] = {}
    for target, result in job.hook.writes.items():
        output = job.outputs[job.hook.outputs.index(result)]
        path = value_at(job.config, configs, target)
        if isinstance(path, str) and output not in absent:
            writes[normal_path(path)] = Written(output, target)
    outputs = tuple(output for output in job.outputs if output not in absent)
    return Producer(job.id, job.where, job.hook, job.pipeline, job.meta_name, outputs, writes, absent)


def _name_clashes(jobs: Sequence[PlannedJob]) -> Iterator[str]:
    """A metaName is one job's, or a refine job's and its probe's, whose outputs then differ."""
    owners: dict[tuple[str, str], list[PlannedJob]] = {}
    for job in jobs:
        double = next((name for name in job.outputs if job.outputs.count(name) > 1), None)
        if double is not None:
            order = ", ".join(job.hook.outputs)
            yield f"{job.where}.output: two results would be named {double!r}; the results are {order}, in this order"
        others = owners.setdefault((job.pipeline, job.meta_name), [])
        probe = job.inputs.get("probe")
        if others and not (len(others) == 1 and probe is not None and probe.job_id == others[0].id):
            yield (
                f"{job.where}.metaName: {job.meta_name!r} is already the name of {others[0].where};"
                " give one of them another"
            )
        elif shared := next((name for other in others for name in job.outputs if name in other.outputs), None):
            yield f"{job.where}.output: {others[0].where} has an output {shared!r} under the same metaName; rename one"
        others.append(job)


def _file_clashes(producers: Sequence[Producer]) -> Iterator[str]:
    """Two jobs that would write one file."""
    files: dict[str, Producer] = {}
    for producer in producers:
        for path, written in producer.writes.items():
            first = files.setdefault(path, producer)
            if first is not producer:
                yield (
                    f"{producer.where}.{written.target}: {path!r} is already written by"
                    f" {first.where}.{first.writes[path].target}; give one of them another path"
                )


def _inputs(
    job: PlannedJob, earlier: tuple[Producer, ...], later: tuple[Producer, ...]
) -> tuple[dict[str, Reference], list[str]]:
    """Every input of a job by target. What `input` says wins over a path that happens to be another job's file."""
    found, problems = path_references(effective(job.config), job.where, earlier, later)
    for target, text in (job.config.input or {}).items():
        where = f'{job.where}.input["{target}"]'
        root = target.split(".", 1)[0]
        if root not in ROOTS:
            continue  # check_configs tells it
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
    probes = {p.meta_name: p for p in earlier if p.pipeline == job.pipeline and p.hook.name == PROBE_HOOK}
    if name in probes:
        return Reference(probes[name].job_id, probes[name].outputs[PROBE_OUTPUT])
    misspelt = next((p for p in earlier if p.meta_name == name and p.hook.name not in HOOKS), None)
    if misspelt is not None:
        return Reference(misspelt.job_id, "overall")
    field_name = "probe" if job.config.probe else "metaName"
    return (
        f"{job.where}.{field_name}: no {PROBE_HOOK} before this job has the metaName {name!r};"
        f" give it the metaName of its probe, or set probe{did_you_mean(name, probes)}"
    )


def _comparison_problems(spec: ExperimentSpec, jobs: list[PlannedJob]) -> Iterator[str]:
    names = {job.meta_name for job in jobs}
    for number, pair in enumerate(spec.comparison or ()):
        for side in ("before", "after"):
            name = getattr(pair, side)
            if name not in names:
                yield f"spec.comparison[{number}].{side}: no job has the metaName {name!r}{did_you_mean(name, names)}"
