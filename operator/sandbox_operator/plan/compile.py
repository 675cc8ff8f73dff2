# SPDX-License-Identifier: Apache-2.0
"""From a spec to the jobs it means, with every mistake in it told at once, before anything starts.

The result depends on the spec (and on the hooks that the namespace adds) alone, so it may be kept for as long as the
spec's generation stands. What depends on results is in `spread.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from sandbox_api.digest import sha256_of
from sandbox_api.experiment import ExperimentSpec
from sandbox_api.hook import Hook
from sandbox_api.hooks import HOOKS
from sandbox_api.sentences import schema_problems

from .clashes import comparison_problems, file_clashes, name_clashes
from .configs import effective, notes_on, value_at, with_parameters
from .drafts import drafts, jobs_as_written
from .exclusive import exclusive_problems
from .images import images_of
from .inputs import inputs_of
from .iterations import Targets, Updates, iteration_problems, targets_of, updates_of
from .job import MAX_JOBS, Fan, Item, PlannedJob, Reference, references_in
from .lenient import what_is_right
from .limits import gpus_of, timeout_problems
from .objective import in_all_repeats, objective_of
from .profiles import profile_problems
from .ranking import baseline_problems, rank_of, ranked_jobs
from .references import Producer, Written, normal_path
from .repeats import repeated
from .rerun import rerun_problems
from .spread import spread
from .tracking import tracking_problems
from .trial import Parameters, checked, refine_conflicts
from .unsupported import unsupported_in_spec

NO_HOOKS: Mapping[str, Hook] = MappingProxyType({})


MAX_DEPTH = 64
"""Levels of a spec."""
NAMED = 4
"""Levels that a sentence about depth names."""


@dataclass(frozen=True)
class Compiled:
    spec: ExperimentSpec | None
    jobs: tuple[PlannedJob, ...] = ()
    """Of the first iteration, in written order, forEach not yet spread out."""
    problems: tuple[str, ...] = ()
    """Sentences that begin with the field's path."""
    warnings: tuple[str, ...] = ()
    targets: Targets = ()
    updates: Updates = field(default_factory=dict)
    ranked: tuple[Reference, ...] = ()
    """The figure that items of a forEach are ranked by, in each of the pipelines that have it."""
    objective: tuple[Reference, ...] = ()
    """Of a trial: the figure that its sweep searches by; of a job that is repeated one of each repeat."""


def compile_spec(raw: Mapping[str, Any], added: Mapping[str, Hook | tuple[str, ...]] = NO_HOOKS) -> Compiled:
    """The jobs a spec means, in the order in which they are written, or all that is wrong with it.

    `added` are the namespace's own hooks (SandboxHook) by name, or what is wrong with them.
    """
    if (deep := too_deep(raw)) is not None:
        return Compiled(None, problems=(deep,))
    try:
        return _compiled(ExperimentSpec.model_validate(raw), added)
    except ValidationError as error:
        problems = [*schema_problems(error)]
    rest = what_is_right(raw)
    others = _compiled(rest, added).problems if rest is not None else ()
    return Compiled(None, problems=tuple(dict.fromkeys((*problems, *others))))


def too_deep(raw: Mapping[str, Any]) -> str | None:
    """A sentence where a spec is nested so deep that what writes and reads contracts would end in it."""
    left: list[tuple[Any, str, int]] = [(raw, "spec", 0)]
    while left:
        value, where, depth = left.pop()
        if depth > MAX_DEPTH:
            return f"{where}: is nested more than {MAX_DEPTH} levels deep; put it into a file, and name its path"
        if isinstance(value, Mapping):
            left += ((inner, f"{where}.{key}" if depth < NAMED else where, depth + 1) for key, inner in value.items())
        elif isinstance(value, list):
            left += ((inner, f"{where}[{at}]" if depth < NAMED else where, depth + 1) for at, inner in enumerate(value))
    return None


def _compiled(spec: ExperimentSpec, added: Mapping[str, Hook | tuple[str, ...]]) -> Compiled:
    problems = [
        *exclusive_problems(spec), *unsupported_in_spec(spec), *profile_problems(spec),
        *tracking_problems(spec), *timeout_problems(spec.timeouts, "spec.timeouts"),
    ]  # fmt: skip
    hooks = {**HOOKS, **added}
    jobs = [*drafts(spec, hooks, problems)]
    if not jobs:
        problems.append(_no_jobs(spec))
    if len(jobs) > MAX_JOBS:
        problems.append(f"spec: {len(jobs)} jobs are too many; at most {MAX_JOBS} may stand in an experiment")
    parameters = Parameters(spec.trial, jobs)
    planned = _with_inputs(spec, jobs, parameters, problems)
    problems += parameters.problems()
    producers = [_producer(job) for job in planned]
    targets = targets_of(spec, producers, problems)
    updates = updates_of(spec, planned, producers, problems)
    problems += [
        *iteration_problems(spec), *name_clashes(planned), *file_clashes(producers),
        *comparison_problems(spec, planned), *rerun_problems(spec, planned),
        *refine_conflicts(spec.trial, planned, updates),
    ]  # fmt: skip
    ranked = rank_of(spec, producers, problems)
    objective = objective_of(spec.trial, producers, problems)
    planned, targets = repeated(spec, planned, targets, updates, ranked, problems)
    objectives = in_all_repeats(objective, planned)
    needs = _needs(planned, targets, ranked, objectives)
    planned = [replace(job, needs=needs.get(job.id, ()), digest=_digest(job)) for job in planned]
    if not problems:  # lists that stand in the spec can be spread out now
        jobs_now = spread(planned, {})
        problems += dict.fromkeys(job.problem for job in jobs_now if job.problem)
        problems += baseline_problems(spec, ranked, jobs_now)
    warnings = (*_warnings(spec, planned), *dict.fromkeys(parameters.notes))
    return Compiled(spec, tuple(planned), tuple(problems), warnings, targets, updates, ranked, objectives)


def _with_inputs(
    spec: ExperimentSpec, jobs: list[PlannedJob], parameters: Parameters, problems: list[str]
) -> list[PlannedJob]:
    """Every job with its references, its parameters and its checked configurations."""
    pipeline_fans = {job.pipeline: job for job in jobs_as_written(spec) if job.for_each}
    volumes = tuple(volume.name for volume in spec.inputs)
    later = [_producer(job) for job in jobs]
    earlier: list[Producer] = []
    planned: list[PlannedJob] = []
    fans: dict[str, Fan] = {}
    """Those of pipelines, by pipeline: the list must be there before the pipeline's first job."""
    recipes: dict[Reference, Any] = {}
    """What is known of the Data-Juicer configurations that refine jobs write."""
    for job in jobs:
        del later[0]
        found = inputs_of(job, tuple(earlier), tuple(later), fans, pipeline_fans)
        problems += found.problems
        known = {target: source for target, source in found.inputs.items() if not isinstance(source, Item)}
        source = known.get("djConfigs")
        recipe = recipes.get(source) if isinstance(source, Reference) else None
        job = parameters.given(job, recipe, found.inputs)
        if spec.keep is not None and job.hook.keeps_newest:
            job = replace(job, keep_checkpoints=spec.keep.checkpoints)
        if job.hook.known:
            problems += checked(job, found.inputs, recipe, volumes, gpus_of(job.resources))
        earlier.append(_producer(job, recipe))
        if "recipe" in job.hook.outputs:
            name = job.outputs[job.hook.outputs.index("recipe")]
            recipes[Reference(job.id, name)] = (
                effective(with_parameters(job.config, job.parameters))["djConfigs"] or recipe
            )
        planned.append(replace(job, inputs=found.inputs, pipeline_fan=found.pipeline_fan, fan=found.fan,
                               after=_after(job, found.inputs.values(), found.pipeline_fan, found.fan)))  # fmt: skip
    return planned


def _after(job: PlannedJob, sources: Any, *fans: Fan | None) -> tuple[str, ...]:
    """What it comes after in order, and what it reads."""
    read = [reference.job_id for source in sources for reference in references_in(source)]
    lists = [found.job_id for fan in fans if fan is not None for found in fan.references]
    return tuple(dict.fromkeys((*job.after, *read, *lists)))


def _no_jobs(spec: ExperimentSpec) -> str:
    if spec.pipelines:
        return "spec.pipelines: there is no job in any of them; write at least one"
    return (
        "spec: there is no job; write at least one in probeJobConfigs, refineRecipeJobConfigs,"
        " executionJobConfigs or evaluationJobConfigs"
    )


def _needs(
    jobs: list[PlannedJob], targets: Targets, ranked: tuple[Reference, ...], objective: tuple[Reference, ...]
) -> dict[str, tuple[str, ...]]:
    """By job: the results that decide what happens next, or what is the best."""
    needs: dict[str, dict[str, None]] = {job.id: {ranked[0].output: None} for job in ranked_jobs(ranked, jobs)}
    for found in (*(one for target in targets for one in target.references), *objective):
        needs.setdefault(found.job_id, {})[found.output] = None
    for job in jobs:
        for fan in (job.pipeline_fan, job.fan):
            for found in fan.references if fan is not None else ():
                needs.setdefault(found.job_id, {})[found.output] = None
    return {job_id: tuple(names) for job_id, names in needs.items()}


def _digest(job: PlannedJob) -> str:
    """What the spec asks of a job, pods, retries and time limits apart."""
    config = job.config
    asked = [
        job.hook.name, config.type, config.dj_configs, config.extra_configs, config.local, config.input,
        config.probe, list(job.outputs), job.meta_name, dict(job.hook.defaults), list(job.hook.command),
        *([dict(job.parameters)] if job.parameters else ()),
        *(["keep", job.keep_checkpoints] if job.keep_checkpoints is not None else ()),
    ]  # fmt: skip
    return sha256_of(asked)[:16]


def _warnings(spec: ExperimentSpec, jobs: list[PlannedJob]) -> Iterator[str]:
    """What will run, but perhaps not as it was meant."""
    for job in jobs:
        own_stage = job.stage not in HOOK_STAGES
        if not own_stage and job.hook.stages and job.stage not in job.hook.stages:
            lists = " or ".join(job.hook.stages)
            yield f"{job.where}.hook: {job.hook.name} belongs to {lists} jobs; it runs here as well"
        yield from notes_on(job)
        for target in job.config.local or {}:
            if target.split(".")[0] in job.inputs:
                yield f'{job.where}.local["{target}"]: has no effect; an input then replaces it all'
    if spec.repeats > 1 and all(job.repeat is None for job in jobs):
        yield "spec.repeats: has no effect; no job here draws by a seed (TrainModelHook and InferModelHook do)"
    keeps = spec.keep is not None and spec.keep.checkpoints is not None
    if keeps and all(job.keep_checkpoints is None for job in jobs):
        yield "spec.keep.checkpoints: has no effect; no TrainModelHook of type easyanimate or swift is here"
    used = images_of(jobs, spec)
    for name in spec.images:
        if name not in used:
            yield f"spec.images.{name}: nothing here runs on it; the images in use are {', '.join(sorted(used))}"


HOOK_STAGES = frozenset(stage for hook in HOOKS.values() for stage in hook.stages)


def _producer(job: PlannedJob, recipe: Any = None) -> Producer:
    """What other jobs may refer to. `recipe` is the configuration that an input brings, as far as it is known."""
    config = with_parameters(job.config, job.parameters)
    configs = effective(config)
    if recipe is not None and not isinstance(configs["djConfigs"], Mapping):
        configs["djConfigs"] = recipe
    absent = {
        job.outputs[job.hook.outputs.index(output)]: target
        for output, target in job.hook.only_with.items()
        if isinstance(configs[target.split(".")[0]], Mapping) and not value_at(config, configs, target)
    }
    writes: dict[str, Written] = {}
    for target, result in job.hook.writes.items():
        output = job.outputs[job.hook.outputs.index(result)]
        path = value_at(config, configs, target)
        if isinstance(path, str) and output not in absent:
            writes[normal_path(path)] = Written(output, target)
    outputs = tuple(output for output in job.outputs if output not in absent)
    kinds = dict(zip(job.outputs, job.hook.kinds, strict=False))
    return Producer(job.id, job.where, job.hook, job.pipeline, job.meta_name, outputs, writes, absent, kinds)
