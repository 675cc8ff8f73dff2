# SPDX-License-Identifier: Apache-2.0
"""How a trial stands, as the sweep sees it: read from what its experiment says, never remembered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox_api.contract import experiment_folder
from sandbox_api.status import ExperimentStatus, Reason, ResultRef

from .compile import Compiled
from .conditions import condition_in
from .objective import Missing, objective_value
from .sweep_facts import State, TrialFact, TrialFiles
from .tracking import is_due

if TYPE_CHECKING:
    from ..search.observed import SeenState  # what searches takes long to import


@dataclass(frozen=True, slots=True)
class Told:
    """What a trial's experiment says in its spec, as far as a sweep asks; what its suggestion saw is not kept."""

    sweep: str
    """Name of the sweep that made it."""
    sweep_uid: str
    number: int
    parameters: Mapping[str, Any]
    point: tuple[float, ...] | None
    suspended: bool
    stopping: bool


def trial_fact(name: str, told: Told, status: ExperimentStatus, compiled: Compiled) -> TrialFact:
    """One trial. `compiled` is what any trial's spec means: the objective is the same in all of them."""
    state, value, reason, message = _end(status, compiled)
    return TrialFact(
        number=told.number,
        name=name,
        state=state,
        value=value,
        reason=reason,
        message=message,
        parameters=told.parameters,
        point=told.point,
        is_over=state != "Running" and (status.completion_time is not None or reason == Reason.INVALID_SPEC),
        suspended=told.suspended,
        stopping=told.stopping,
        decisions=tuple(status.trial.decisions) if status.trial is not None else (),
        artifacts=status.trial.artifacts if status.trial is not None else None,
        is_exporting=is_due(status),
    )


def trial_files(name: str, uid: str, status: ExperimentStatus) -> TrialFiles:
    """What a trial has on the volume of its own."""
    folder = experiment_folder(name, uid)
    results = {ref.path: job_id for job_id, ref in _results(status) if ref.path.startswith(f"{folder}/")}
    removed = frozenset(ref.path for _, ref in _results(status) if ref.removed and ref.path in results)
    begun = {job.id: job.attempts for job in status.jobs if job.attempts}
    return TrialFiles(folder, begun, results, removed)


def taken_by(name: str, uid: str, status: ExperimentStatus) -> Iterator[str]:
    """Paths of the results that an experiment has from others."""
    folder = experiment_folder(name, uid)
    return (ref.path for _, ref in _results(status) if not ref.path.startswith(f"{folder}/"))


def _results(status: ExperimentStatus) -> Iterator[tuple[str, ResultRef]]:
    """Those that stand, and those that were replaced."""
    yield from ((job.id, job.result) for job in status.jobs if job.result is not None)
    yield from ((earlier.id, earlier.result) for earlier in status.history or ())


def _end(status: ExperimentStatus, compiled: Compiled) -> tuple[State, float | None, str | None, str]:
    """State, value, and why there is none."""
    if status.trial is not None and status.trial.pruned:
        last = status.trial.decisions[-1] if status.trial.decisions else None
        if last is not None and last.value is None:
            return "Pruned", None, Reason.METRIC_NOT_FINITE, f"it was no finite number at {last.rung}"
        return "Pruned", last.value if last is not None else None, None, ""
    if status.completion_time is None:
        stalled = condition_in(status.conditions, "Stalled")
        if stalled is not None and stalled.reason == Reason.INVALID_SPEC:  # nothing in it will ever run
            return "Failed", None, stalled.reason, stalled.message
        return "Running", None, None, ""
    value = objective_value(compiled, status)
    if isinstance(value, Missing):
        return "Failed", None, value.reason, value.message
    return "Succeeded", value, None, ""


def seen_as(trial: TrialFact) -> tuple[SeenState, float | None]:
    """How the search sees a trial, and its value; one that has ended without a finite value has failed."""
    if trial.state == "Running":
        return "running", None
    if trial.state == "Failed" or trial.value is None or not math.isfinite(trial.value):
        return "failed", None
    return ("pruned" if trial.state == "Pruned" else "succeeded"), trial.value
