# SPDX-License-Identifier: Apache-2.0
"""What the operator would make of a SandboxSweep: judged by the same code, before anything starts.

It imports the search's libraries, which takes a second: only who has a sweep to look at imports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from sandbox_api.crd import MAX_SWEEP_NAME
from sandbox_api.hook import Hook
from sandbox_api.rungs import rungs_of

from ..build.names import claim_name
from ..plan.cache import has_key
from ..plan.job import planned_id
from ..plan.rerun import downstream
from ..plan.sweep_definition import CompiledSweep, compile_sweep, trial_of
from ..plan.sweep_stopping import STEP, early_terminate_of, nothing_stops, objective_job
from ..search.distributions import Parameter
from ..search.suggest import suggest
from .offline import Experiment
from .preview import name_problems, previewed
from .sweep_plan import EarlyPlan, HitPlan, ParameterPlan, SweepPlan
from .sweep_words import range_of

_UID = "0"
"""Of what is not stored yet: the seed of a sweep that names none follows from its own."""


def sweep_previewed(
    sweep: Experiment, hooks: Mapping[str, Hook | tuple[str, ...]], images: Mapping[str, str]
) -> SweepPlan:
    """A sweep's plan. `hooks` are the SandboxHooks that it may use, or what is wrong with them."""
    compiled = compile_sweep(sweep.spec, name=sweep.name, uid=_UID, added=hooks)
    problems = [*name_problems(sweep.name, MAX_SWEEP_NAME), *compiled.problems]
    if compiled.spec is None or compiled.first is None or problems:
        return SweepPlan(name=sweep.name, namespace=sweep.namespace, problems=problems)
    spec, first = compiled.spec, compiled.first
    shared = _shared(compiled)
    own = [job.id for job in first.jobs if job.id not in shared]
    return SweepPlan(
        name=sweep.name,
        namespace=sweep.namespace,
        method=spec.method,
        max_trials=compiled.max_trials,
        parallelism=spec.parallelism,
        max_failed_trials=compiled.max_failed_trials,
        parameters=list(_parameters(compiled)),
        objective=compiled.objective,
        objective_job=planned_id(first.objective[0].job_id) if first.objective else None,
        goal=spec.metric.goal,
        target=spec.metric.target,
        claim=compiled.claim or claim_name(sweep.name),
        shared=shared,
        own=own,
        best_kept=spec.keep.best_trials if spec.keep is not None else None,
        gpu_hours=_gpu_hours(sweep, compiled, hooks, images, shared),
        early=_early(compiled),
        ignored=list(compiled.ignored),
        warnings=[*compiled.warnings, *_held(compiled)],
    )


def _parameters(compiled: CompiledSweep) -> Iterator[ParameterPlan]:
    assert compiled.settings is not None
    for each in compiled.settings.space.parameters:
        yield ParameterPlan(
            name=each.name, distribution=each.distribution, values=range_of(each), hits=list(_hits(compiled, each))
        )


def _hits(compiled: CompiledSweep, parameter: Parameter) -> Iterator[HitPlan]:
    """Where a parameter goes, of a job that is repeated once."""
    assert compiled.first is not None
    seen: set[str] = set()
    for job in compiled.first.jobs:
        for own in job.parameters:
            where = planned_id(job.id)
            if job.written_parameters[own] == parameter.name and where not in seen:
                seen.add(where)
                yield HitPlan(job=where, meta_name=job.meta_name, sets=own)


def _shared(compiled: CompiledSweep) -> list[str]:
    """Jobs that no value of the search reaches, and whose results the cache gives to others."""
    assert compiled.first is not None
    assert compiled.settings is not None
    searched = {each.name for each in compiled.settings.space.searched}
    jobs = compiled.first.jobs
    hit = {job.id for job in jobs if searched & {job.written_parameters[own] for own in job.parameters}}
    reached = downstream(jobs, hit)
    spec = compiled.first.spec
    return [job.id for job in jobs if job.id not in reached and spec is not None and has_key(spec, job)]


def _early(compiled: CompiledSweep) -> EarlyPlan | None:
    assert compiled.spec is not None
    assert compiled.first is not None
    early = early_terminate_of(compiled.spec)
    job = objective_job(compiled.first)
    if early is None or job is None:
        return None
    return EarlyPlan(
        type=early.type,
        rungs=list(rungs_of(early)),
        resource=early.resource or f"{job.meta_name}.{STEP}",
        stops_nothing=next(nothing_stops(compiled.spec, compiled.first), None),
    )


def _held(compiled: CompiledSweep) -> Iterator[str]:
    assert compiled.spec is not None
    if compiled.spec.suspend:
        yield "spec.suspend: is true; no trial begins until it is false"


def _gpu_hours(
    sweep: Experiment, compiled: CompiledSweep, hooks: Mapping[str, Hook | tuple[str, ...]],
    images: Mapping[str, str], shared: list[str],
) -> float | None:  # fmt: skip
    """Of all trials, as the first one is planned."""
    assert compiled.settings is not None
    assert compiled.first is not None
    found = suggest(compiled.settings, 0)
    spec = trial_of(compiled, sweep=sweep.name, number=0, values=found.values, point=found.point, observed=None)
    trial, _ = previewed(replace(sweep, name=f"{sweep.name}-0000", spec=spec), hooks, images)
    if trial.gpu_hours is None:
        return None
    once = sum(job.gpu_hours or 0.0 for job in trial.jobs if job.id in shared)
    each = (trial.gpu_hours - once) * max(trial.iterations, 1)
    return round(once * max(trial.iterations, 1) + each * compiled.max_trials, 3)
