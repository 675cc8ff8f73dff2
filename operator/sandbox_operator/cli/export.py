# SPDX-License-Identifier: Apache-2.0
"""Which file of the volume holds an experiment's recipe, and what is written of it into Git. Pure.

A ProcessDataHook writes the recipe that it ran into its attempt's folder: what a refine job has found, `local` settings
and a trial's parameters stand in it. An experiment without one may have a refine job's recipe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from sandbox_api.experiment import PodProfile
from sandbox_api.hook import Hook
from sandbox_api.status import DONE_STATES, ExperimentStatus, JobStatus
from sandbox_api.sweep import BestTrial, SweepStatus

from ..plan.compile import compile_spec
from ..plan.job import PlannedJob, planned_id
from .experiments import Ended
from .output import as_yaml
from .promote import ONES_OWN

RAN = "ProcessDataHook"
RECIPE_FILE = "recipe.yaml"
"""Beside its result.json."""


@dataclass(frozen=True)
class Stored:
    """An experiment as it is stored, with the SandboxHooks of its namespace by name."""

    name: str
    namespace: str
    uid: str
    spec: Mapping[str, Any]
    status: ExperimentStatus
    hooks: Mapping[str, Hook | tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Where a recipe lies."""

    job: JobStatus
    path: str
    """From the volume's root."""
    claim: str
    image: str
    run_as: int
    profile: PodProfile


@dataclass(frozen=True)
class Trial:
    """The trial of a sweep whose recipe it is."""

    sweep: str
    namespace: str
    objective: str
    best: BestTrial
    is_over: bool


def best_trial(name: str, namespace: str, status: SweepStatus) -> Trial:
    """The best trial of a sweep. Raises Ended where there is none yet."""
    if status.best is None:
        raise Ended(f"{name}: no trial has a value of {status.objective or 'the metric'} yet, so none is the best")
    return Trial(name, namespace, status.objective or "value", status.best, status.completion_time is not None)


def recipe_source(stored: Stored, wanted: str | None) -> Source:
    """The recipe of the job `wanted` (its metaName, or the beginning of its id), else of the one job that has one.

    Raises Ended with a sentence where there is none, or several.
    """
    compiled = compile_spec(stored.spec, stored.hooks)
    if compiled.spec is None:
        raise Ended(f"its spec can't be read by this version: {'; '.join(compiled.problems)}")
    planned = {job.id: job for job in compiled.jobs}
    found = [*_recipes(planned, stored.status)]
    if wanted is not None:
        found = [one for one in found if one[0].meta_name == wanted or one[0].id.startswith(wanted)]
    else:  # what was run says more than what was found
        found = [one for one in found if one[0].hook == RAN] or found
    if not found:
        which = f"{wanted!r}" if wanted is not None else f"a {RAN} or refine job"
        raise Ended(f"there is no recipe: {which} is not among the jobs that are done; sandboxctl show tells them")
    if len(found) > 1:
        told = ", ".join(f"{job.meta_name} ({job.id})" for job, _, _ in found)
        raise Ended(f"{len(found)} jobs have a recipe: {told}; name one with --job")
    ((job, path, plan),) = found
    workspace, resolved = stored.status.workspace, stored.status.resolved
    image = resolved.images.get(resolved.hooks.get(job.hook, "")) if resolved is not None else None
    if workspace is None or image is None:
        raise Ended("its status names no volume or no image; it has not started")
    return Source(job, path, workspace.claim_name, image, compiled.spec.run_as_user, plan.profile)


def _recipes(
    planned: Mapping[str, PlannedJob], status: ExperimentStatus
) -> Iterator[tuple[JobStatus, str, PlannedJob]]:
    """The jobs that are done and have a recipe, and where it lies."""
    for job in status.jobs:
        plan = planned.get(job.id) or planned.get(planned_id(job.id))
        if job.state not in DONE_STATES or job.result is None or plan is None:
            continue
        if job.hook == RAN:
            yield job, f"{job.result.path.rpartition('/')[0]}/{RECIPE_FILE}", plan
        elif "recipe" in plan.hook.outputs:
            path = (job.outputs or {}).get(plan.outputs[plan.hook.outputs.index("recipe")])
            if isinstance(path, str):
                yield job, path, plan


def written(stored: Stored, source: Source, text: str, trial: Trial | None) -> str:
    """The recipe as a file for Git: where it comes from in comments, without what says which data and where to.

    Raises Ended where the text is no recipe.
    """
    try:
        recipe = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Ended(f"{source.path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(recipe, Mapping) or not isinstance(recipe.get("process"), list):
        raise Ended(f"{source.path} holds no recipe: there is no list `process` in it")
    left_out = [key for key in ONES_OWN if key in recipe]
    head = [*_provenance(stored, source, text, trial)]
    if left_out:
        head.append(f"Left out, as it says which data, and where to: {', '.join(left_out)}.")
    kept = {key: value for key, value in recipe.items() if key not in left_out}
    return "".join(f"# {line}\n" for line in head) + as_yaml(kept)


def _provenance(stored: Stored, source: Source, text: str, trial: Trial | None) -> Iterator[str]:
    job = source.job
    assert job.result is not None, "it is done"
    yield "Written by `sandboxctl export recipe`."
    yield f"experiment: {stored.namespace}/{stored.name}, uid {stored.uid}"
    if trial is not None:
        best = trial.best
        so_far = "" if trial.is_over else " so far"
        yield f"sweep: {trial.namespace}/{trial.sweep}, its best trial{so_far}: {best.trial}"
        yield f"{trial.objective}: {best.value!r}"
        yield from (f"  {name}: {value!r}" for name, value in best.parameters.items())
    yield f"job: {job.id} ({job.meta_name}, {job.hook}), attempt {job.attempts}"
    yield f"result: sha256 {job.result.sha256}"
    yield f"file: {source.path}, sha256 {hashlib.sha256(text.encode()).hexdigest()}"
