# SPDX-License-Identifier: Apache-2.0
"""Which trials end early: one decision for each rung that a trial comes to, in the order in which they come.

A decision is written into the trial it is about and never looked at again, so all decisions can be made once more from
what the trials record (`search.stopping`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sandbox_api.hooks import HOOKS
from sandbox_api.rungs import rungs_of
from sandbox_api.status import TrialDecision
from sandbox_api.sweep import EarlyTerminate, SweepSpec

from ..build.defaults import Defaults
from ..search.stopping import Arrival, arrive
from .compile import Compiled
from .drafts import ANONYMOUS
from .job import PlannedJob
from .references import did_you_mean
from .sweep_facts import DecideTrial, PatchTrial, SweepSnapshot, TrialFact

STEP = "step"
"""What counts the way of a job where nothing else is named, after its metaName."""
LOGS_STEPS = "steps"
"""A figure that hooks have which log others on their way: trainings."""
_FIGURE = re.compile(r"[A-Za-z0-9][\w-]*(\.[^.\s]+)+")


def early_terminate_of(spec: SweepSpec) -> EarlyTerminate | None:
    """In either spelling."""
    return spec.early_terminate or spec.early_terminate_


def rungs_for_trials(spec: SweepSpec, first: Compiled) -> dict[str, Any] | None:
    """What each trial's `spec.trial.rungs` says: the figure that is searched by, as it is logged on the way."""
    early = early_terminate_of(spec)
    if early is None or not first.objective:
        return None
    figure, job = first.objective[0], objective_job(first)
    assert job is not None
    name = job.meta_name if job.pipeline == ANONYMOUS else f"{job.pipeline}.{job.meta_name}"
    return {
        "metric": f"{name}.{figure.output}",
        "resource": early.resource or f"{name}.{STEP}",
        "at": list(rungs_of(early)),
    }


def resource_problems(early: EarlyTerminate, first: Compiled) -> Iterator[str]:
    """What is wrong with the figure that counts the way: it is looked for in what the metric's job logs."""
    resource, where = early.resource, "spec.earlyTerminate.resource"
    if resource is None or resource == STEP:
        return
    own = objective_job(first)
    usual = f"{own.meta_name}.{STEP}" if own is not None else f"<metaName>.{STEP}"
    if not _FIGURE.fullmatch(resource):
        yield f"{where}: {resource!r} names no figure; write {usual}, or another figure that counts a trial's way"
        return
    found = [(job, rest) for job in first.jobs if (rest := _figure_of(job, resource)) is not None]
    if not found:
        name = resource.partition(".")[0]
        hint = did_you_mean(name, (job.meta_name for job in first.jobs))
        yield f"{where}: no job here is called {name!r}{hint}"
        return
    rests = [rest for job, rest in found if own is None or job.id == own.id]
    if own is None:
        return
    if not rests:
        yield (
            f"{where}: {resource!r} is a figure of another job than {own.meta_name}, which makes the one that is"
            f" searched by, and only what that job logs counts its way; write {usual}"
        )
    elif not _may_log(own, rests[0]):
        known = [STEP, *(name for name in own.hook.figures if "*" not in name)]
        hint = did_you_mean(rests[0], known)
        yield f"{where}: {own.meta_name} ({own.hook.name}) logs no {rests[0]!r}{hint or f'; write {usual}'}"


def _figure_of(job: PlannedJob, resource: str) -> str | None:
    """What follows the job's name, with or without its pipeline."""
    for prefix in (f"{job.pipeline}.{job.meta_name}.", f"{job.meta_name}."):
        if resource.startswith(prefix):
            return resource.removeprefix(prefix)
    return None


def _may_log(job: PlannedJob, figure: str) -> bool:
    """Of hooks that are not the catalogue's, or run somebody's own program, nobody knows before; trainings log more
    than they list."""
    hook = job.hook
    is_ours = hook.name in HOOKS and bool(hook.figures)
    return figure == STEP or not is_ours or LOGS_STEPS in hook.figures or hook.has_figure(figure)


def nothing_stops(spec: SweepSpec, first: Compiled) -> Iterator[str]:
    """Why no trial will be ended early although the sweep asks for it, as far as its own spec tells."""
    job = objective_job(first)
    early = early_terminate_of(spec)
    if early is None or job is None or job.hook.name not in HOOKS:
        return
    if LOGS_STEPS not in job.hook.figures:
        yield (
            f"spec.earlyTerminate: no trial will be ended early, because {job.meta_name} ({job.hook.name}) tells its"
            " figures once, at its end; search by one that is logged on the way, as a training's loss, or leave it out"
        )
        return
    figure = _figure_of(job, early.resource) if early.resource is not None else None
    if figure is not None and figure != STEP and not job.hook.has_figure(figure):
        yield (
            f"spec.earlyTerminate.resource: {figure!r} is none of the figures that {job.hook.name} is known to log;"
            f" where it does not, no trial will be ended early; {job.meta_name}.{STEP} is always there"
        )


def progress_is_off(spec: SweepSpec, defaults: Defaults) -> Iterator[str]:
    """The same, where pods tell this operator nothing."""
    if early_terminate_of(spec) is not None and defaults.progress_url is None:
        yield (
            "spec.earlyTerminate: no trial will be ended early, because pods don't tell this operator how far they are;"
            " turn progress on in the chart's values"
        )


def objective_job(first: Compiled) -> PlannedJob | None:
    """The job of a trial whose figure is searched by, if one is."""
    return next((job for job in first.jobs if first.objective and job.id == first.objective[0].job_id), None)


def decide_on_arrivals(snapshot: SweepSnapshot, spec: SweepSpec) -> Iterator[DecideTrial]:
    """The decisions that are due, each after all that were made before it."""
    early = early_terminate_of(spec)
    if early is None:
        return
    rungs, trials = rungs_of(early), {trial.number: trial for trial in snapshot.trials}
    recorded = [
        Arrival(trial.number, made.rung, made.value, made.seen or 0, made.decision)
        for trial in snapshot.trials
        for made in trial.decisions
    ]
    for told in snapshot.arrivals:
        trial = trials.get(told.trial)
        if trial is None or told.rung not in rungs or not _may_be_decided_on(trial, told.rung, recorded):
            continue
        made = arrive(early, spec.metric.goal, recorded, told.trial, told.rung, told.value)
        recorded.append(made)
        decision = TrialDecision(rung=made.rung, value=made.value, seen=made.seen, decision=made.decision)
        yield DecideTrial(trial.name, decision)


def _may_be_decided_on(trial: TrialFact, rung: int, recorded: list[Arrival]) -> bool:
    """Whether it runs, and has not been at this rung or a later one; what was stopped comes to no further one."""
    own = [made for made in recorded if made.trial == trial.number]
    is_above = all(made.rung < rung and made.decision == "Continue" for made in own)
    return trial.state == "Running" and not trial.is_over and is_above


def stop_the_pruned(snapshot: SweepSnapshot) -> Iterator[PatchTrial]:
    """Trials that were decided to end and have not been told yet."""
    for trial in snapshot.trials:
        if trial.state == "Pruned" and not trial.is_over and not trial.stopping:
            yield PatchTrial(trial.name, {"stop": "Now"})
