# SPDX-License-Identifier: Apache-2.0
"""What `sandboxctl plan` says of a SandboxSweep, as data, and how that looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from sandbox_api.base import ContractModel

SHOWN_RUNGS = 6
"""In a terminal; as data there are all."""


class HitPlan(ContractModel):
    job: str
    """Id of a job of a trial."""
    meta_name: str
    """Its name."""
    sets: str
    """What of its configuration is set: `<operator>.<argument>`, a key of the recipe, or extraConfigs.<key>."""


class ParameterPlan(ContractModel):
    name: str
    """Flat: nested ones are joined by dots."""
    distribution: str
    """W&B's name of it; `constant` is searched by nobody."""
    values: str
    """What it may be."""
    hits: list[HitPlan] = []
    """Where it goes."""


class EarlyPlan(ContractModel):
    type: Literal["hyperband", "median"]
    """By which rule trials end early."""
    rungs: list[int]
    """Where it is decided."""
    resource: str
    """The figure that counts the way."""
    stops_nothing: str | None = None
    """Why no trial will be ended early, where that is known before."""


class SweepPlan(ContractModel):
    name: str
    """metadata.name."""
    namespace: str | None = None
    """metadata.namespace, where the file says it."""
    method: str | None = None
    """Of the search."""
    max_trials: int = 0
    """Trials in all; 0 where there are problems."""
    parallelism: int | None = None
    """Trials at a time."""
    max_failed_trials: int | None = None
    """With more failed than these no further one begins."""
    parameters: list[ParameterPlan] = []
    """By name."""
    objective: str | None = None
    """The figure that is searched by, in full."""
    objective_job: str | None = None
    """Id of the job that makes it."""
    goal: Literal["minimize", "maximize"] | None = None
    """Whether low or high is good."""
    target: float | None = None
    """No further trial begins once a value is that good."""
    claim: str | None = None
    """The claim of all trials."""
    shared: list[str] = []
    """Ids of jobs that are equal in all trials: the first trial runs them, the others take their results."""
    own: list[str] = []
    """Ids of jobs that each trial runs itself, but where an equal one has been done."""
    best_kept: int | None = None
    """How many trials keep their large artifacts when the search has ended; absent: all."""
    gpu_hours: float | None = None
    """At most, of all trials together, one attempt each, shared jobs counted once."""
    early: EarlyPlan | None = None
    """Of early stopping."""
    ignored: list[str] = []
    """Fields that are accepted and do nothing."""
    problems: list[str] = []
    """Sentences that begin with the field's path. With any, nothing would start."""
    warnings: list[str] = []
    """What would run, but perhaps not as it was meant."""


def sweep_lines(plan: SweepPlan) -> Iterator[str]:
    """The plan for a terminal, a line each; of one with problems nothing but its name."""
    if plan.problems:
        yield f"{plan.name}: a sweep with {_many(len(plan.problems), 'problem')}"
        return
    at_once = f"{plan.parallelism} at a time" if plan.parallelism != 1 else "one after another"
    yield f"{plan.name}: {plan.method}, {_many(plan.max_trials, 'trial')}, {at_once}, all on the claim {plan.claim}"
    target = f", until it is {plan.target!r} or better" if plan.target is not None else ""
    yield f"{plan.goal} {plan.objective} of {plan.objective_job}{target}"
    yield "parameters"
    for each in plan.parameters:
        hits = ", ".join(f"{hit.sets} of {hit.meta_name} ({hit.job})" for hit in each.hits)
        yield f"  {each.name}: {each.distribution}, {each.values} -> {hits}"
    if plan.shared:
        yield f"run once, and taken by all trials: {', '.join(plan.shared)}"
    yield f"run in each trial: {', '.join(plan.own) or 'nothing'}"
    if plan.gpu_hours:
        yield f"GPUs: at most {plan.gpu_hours:g} GPU-hours in all (one attempt each)"
    if plan.early is not None:
        yield f"early stopping: {plan.early.type}, at {plan.early.resource} {_first_of(plan.early.rungs)}"
    yield (
        f"no further trial once more than {plan.max_failed_trials} failed"
        if plan.max_failed_trials
        else "no further trial once one has failed"
    )
    if plan.best_kept is not None:
        yield f"at the end large artifacts of the best {plan.best_kept} and the failed stay, and what others took"
    if plan.ignored:
        yield f"accepted and ignored: {', '.join(plan.ignored)}"


def without(missing: str, name: str, **more: Any) -> SweepPlan:
    """The plan of a sweep where the search's own libraries are not installed."""
    words = f"this installation lacks {missing}, which a sweep needs; plan it where sandboxctl is installed whole"
    return SweepPlan(name=name, problems=[words], **more)


def _first_of(rungs: list[int]) -> str:
    """All of them, or of many the first: without max_iter they go on to the end of numbers."""
    shown = rungs if len(rungs) <= SHOWN_RUNGS else rungs[:SHOWN_RUNGS]
    return ", ".join(map(str, shown)) + (" and so on" if len(shown) < len(rungs) else "")


def _many(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"
