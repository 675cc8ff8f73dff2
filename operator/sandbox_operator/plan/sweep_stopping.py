# SPDX-License-Identifier: Apache-2.0
"""Which trials end early: one decision for each rung that a trial comes to, in the order in which they come.

A decision is written into the trial it is about and never looked at again, so all decisions can be made once more from
what the trials record (`search.stopping`).
"""

from __future__ import annotations

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
from .sweep_facts import DecideTrial, PatchTrial, SweepSnapshot, TrialFact

STEP = "step"
"""What counts the way of a job where nothing else is named, after its metaName."""


def early_terminate_of(spec: SweepSpec) -> EarlyTerminate | None:
    """In either spelling."""
    return spec.early_terminate or spec.early_terminate_


def rungs_for_trials(spec: SweepSpec, first: Compiled) -> dict[str, Any] | None:
    """What each trial's `spec.trial.rungs` says: the figure that is searched by, as it is logged on the way."""
    early = early_terminate_of(spec)
    if early is None or not first.objective:
        return None
    figure = first.objective[0]
    job = next(job for job in first.jobs if job.id == figure.job_id)
    name = job.meta_name if job.pipeline == ANONYMOUS else f"{job.pipeline}.{job.meta_name}"
    return {
        "metric": f"{name}.{figure.output}",
        "resource": early.resource or f"{name}.{STEP}",
        "at": list(rungs_of(early)),
    }


def nothing_stops(spec: SweepSpec, first: Compiled, defaults: Defaults) -> Iterator[str]:
    """Why no trial will be ended early although the sweep asks for it."""
    if early_terminate_of(spec) is None or not first.objective:
        return
    job = next(job for job in first.jobs if job.id == first.objective[0].job_id)
    if defaults.progress_url is None:
        yield (
            "spec.earlyTerminate: no trial will be ended early, because pods don't tell this operator how far they are;"
            " turn progress on in the chart's values"
        )
    elif job.hook.name in HOOKS and "steps" not in job.hook.figures:
        yield (
            f"spec.earlyTerminate: no trial will be ended early, because {job.meta_name} ({job.hook.name}) tells its"
            " figures once, at its end; search by one that is logged on the way, as a training's loss"
        )


def decide_on_arrivals(snapshot: SweepSnapshot, spec: SweepSpec) -> Iterator[DecideTrial]:
    """The decisions that are due, each after all that were made before it."""
    early = early_terminate_of(spec)
    if early is None:
        return
    trials = {trial.number: trial for trial in snapshot.trials}
    recorded = [
        Arrival(trial.number, made.rung, made.value, made.seen or 0, made.decision)
        for trial in snapshot.trials
        for made in trial.decisions
    ]
    for told in snapshot.arrivals:
        trial = trials.get(told.trial)
        if trial is None or not _may_be_decided_on(trial, told.rung, recorded):
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
